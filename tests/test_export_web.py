"""`--format=web`: the files of a page, texts within them, models that it refuses, and the runtime of npm."""

import dataclasses
import json
import re
import stat
from importlib.resources import files

import pytest

from emojax.errors import ConfigError
from emojax.export import export_workdir, onnxruntime_web
from emojax.export.description import Description
from emojax.export.onnxruntime_web import FILES, VERSION, read_runtime
from emojax.export.web.page import POLICY, SCRIPTS, page_files
from tests.exported_models import write_clips, write_workdir
from tests.test_export_command import student_config

pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")

DESCRIPTION = Description(
    name="<b>student</b> {{data}}",
    attributes=("activation", "valence", "dominance"),
    scale=(1.0, 7.0),
    categories=("anger", "</script><script>alert(1)</script>"),
    rating_values=(),
    corpus="toy/1.0.0",
    licence="<img src=x onerror=alert(1)>",
    citation='"<!--" & \u2028',
    speech="recorded",
    step=7,
    min_samples=880,
    max_samples=None,
    window_seconds=0.0,
    scores=({"corpus": "toy/1.0.0", "split": "test", "scores": {"ccc_valence": 0.12345, "uar": 0.5}},),
)


def data_of(page):
    """Data block of a page, as a browser parses it."""
    (block,) = re.findall(r'<script type="application/json" id="data">(.*?)</script>', page, re.DOTALL)
    return json.loads(block)


@pytest.fixture(scope="module")
def clips(tmp_path_factory):
    return write_clips(tmp_path_factory.mktemp("audio") / "clips")


def test_the_folder_has_page_model_runtime_and_card(clips, tmp_path, monkeypatch):
    runtime = {"runtime.js": b"js", "runtime.wasm": b"wasm"}
    monkeypatch.setattr("emojax.export.web.page.read_runtime", lambda folder: runtime)
    workdir = write_workdir(tmp_path / "run", student_config())
    export = export_workdir(workdir, tmp_path / "out", "web", (str(clips),))
    assert list(export.checks) == ["stream.onnx"]
    found = {str(path.relative_to(tmp_path / "out")) for path in (tmp_path / "out").rglob("*") if path.is_file()}
    assert found == {
        *("index.html", "page.css", "shared.js", *SCRIPTS, "stream.onnx", "serve.py", "README.md", "metadata.json"),
        *("onnxruntime/runtime.js", "onnxruntime/runtime.wasm", "onnxruntime/LICENSE"),
    }
    data = data_of((tmp_path / "out" / "index.html").read_text())
    assert (data["name"], data["categories"], data["shortest"]) == ("run", ["anger", "joy"], 880)
    assert data["state"]["waiting"] == [0]
    assert set(data["state"]) == {"waiting", "convolution", "gru_0", "frames", "mean", "squares"}
    card = (tmp_path / "out" / "README.md").read_text()
    assert "python serve.py" in card
    assert f"onnxruntime-web {VERSION}" in card
    compile((tmp_path / "out" / "serve.py").read_text(), "serve.py", "exec")


def test_texts_of_the_model_are_data_and_nothing_else():
    page = page_files(DESCRIPTION, {"frames": [1]})["index.html"]
    assert page.count("<script") == 2  # the data block and main.js
    assert "<b>" not in page
    assert "<img" not in page
    data = data_of(page)
    assert data["name"] == DESCRIPTION.name
    assert data["licence"] == DESCRIPTION.licence
    assert data["categories"] == list(DESCRIPTION.categories)
    assert data["scores"][0]["values"] == [["CCC valence", 0.123], ["UAR", 0.5]]


def test_scripts_and_styles_are_files_and_the_policy_allows_no_others():
    written = page_files(DESCRIPTION, {})
    page = written["index.html"].replace(DESCRIPTION.licence.replace("<", "\\u003c"), "")
    assert POLICY in page
    assert "unsafe-inline" not in POLICY
    assert "http" not in POLICY
    assert "style=" not in page
    assert not re.search(r"\son\w+=", page)
    assert "https://" not in page
    sources = files("emojax.export.web")
    assert set(SCRIPTS) == {each.name for each in sources.iterdir() if each.name.endswith(".js")}
    for name, text in written.items():
        if not name.endswith(".js"):
            continue
        for names, target in re.findall(r"^import (.+?) from '\./(.+?)';", text, re.MULTILINE):
            assert target in written or target == "onnxruntime/runtime.js", (name, target)
            for each in re.findall(r"\w+", names) if names.startswith("{") else ():
                assert re.search(rf"^export .*\b{each}\b", written[target], re.MULTILINE), (name, each)
        assert "innerHTML" not in text


def test_elements_that_scripts_use_are_in_the_page():
    written = page_files(DESCRIPTION, {})
    used = {each for name in SCRIPTS for each in re.findall(r"byId\('([\w-]+)'\)", written[name])}
    assert len(used) > 20
    assert used <= set(re.findall(r'id="([\w-]+)"', written["index.html"]))


def test_a_model_without_categories_or_attributes_is_described():
    for change in ({"categories": ()}, {"attributes": ()}):
        page = page_files(dataclasses.replace(DESCRIPTION, **change), {})["index.html"]
        (name,) = change
        assert data_of(page)[name] == []


def test_a_model_that_cannot_run_on_a_stream_is_refused_in_one_line(clips, tmp_path):
    tree = student_config()
    tree.model.log_mel.network.causal = False
    workdir = write_workdir(tmp_path / "run", tree)
    reason = "--format=web runs the model on a stream, and model.log_mel.network.causal must be True .*student_s"
    with pytest.raises(ConfigError, match=reason) as error:
        export_workdir(workdir, tmp_path / "out", "web", (str(clips),))
    assert "\n" not in str(error.value)
    assert not (tmp_path / "out").exists()


def test_the_runtime_of_a_folder_is_compared_with_its_digests(tmp_path, monkeypatch):
    folder = tmp_path / "package"
    with pytest.raises(ConfigError, match=r"ort.wasm.bundle.min.mjs: cannot be read .*--runtime=FOLDER") as error:
        read_runtime(folder)
    assert "\n" not in str(error.value)
    (folder / "dist").mkdir(parents=True)
    for name in FILES:
        (folder / "dist" / name).write_bytes(name.encode())
    with pytest.raises(ConfigError, match=f"is not that of onnxruntime-web {VERSION}"):
        read_runtime(folder)
    digests = {name: (target, onnxruntime_web._sha512(name.encode())) for name, (target, _) in FILES.items()}
    monkeypatch.setattr(onnxruntime_web, "FILES", digests)
    expected = {target: name.encode() for name, (target, _) in FILES.items()}
    assert read_runtime(folder) == read_runtime(folder / "dist") == expected


def fake_npm(folder, lines):
    """A program npm that runs lines of the shell."""
    folder.mkdir()
    script = folder / "npm"
    script.write_text("\n".join(["#!/bin/sh", *lines, ""]))
    script.chmod(script.stat().st_mode | stat.S_IXUSR)
    return f"{folder}:/usr/bin:/bin"


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        (None, "npm is not installed; install npm"),
        (["echo 'npm error code ENOTFOUND' >&2", "exit 1"], r"npm failed \(npm error code ENOTFOUND\)"),
        (["exit 0"], r"npm failed \(no archive was written\)"),
        ([f"echo changed > onnxruntime-web-{VERSION}.tgz"], "has another SHA-512 than the published archive"),
    ],
)
def test_npm_that_is_missing_or_fails_is_one_line(tmp_path, monkeypatch, lines, message):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    (tmp_path / "empty").mkdir()
    path = str(tmp_path / "empty") if lines is None else fake_npm(tmp_path / "bin", lines)
    monkeypatch.setenv("PATH", path)
    with pytest.raises(ConfigError, match=message) as error:
        read_runtime(None)
    assert "\n" not in str(error.value)
    assert "--runtime=FOLDER" in str(error.value)
    assert not list((tmp_path / "cache").rglob("*"))


def test_the_flag_of_the_runtime_belongs_to_the_page(commands, tmp_path):
    result = commands.run("--mode=export", f"--workdir={tmp_path}", f"--output={tmp_path / 'out'}", "--runtime=package")
    assert (result.returncode, result.stderr.strip()) == (
        2,
        "error: --runtime is a flag of --format=web, got --format=onnx",
    )
