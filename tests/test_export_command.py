"""`--mode=export`: the files of a workdir, examples that run without emojax, and models that cannot be exported."""

import json
import os
import subprocess
import sys

import numpy as np
import pytest

import emojax
from configs import default, student_l, student_s
from emojax.errors import ConfigError
from emojax.export import export_workdir
from emojax.export.check import ExportError
from tests import speech_checkpoints, whisper_checkpoints
from tests.exported_models import INFO, write_clips, write_workdir

onnx = pytest.importorskip("onnx")
onnxruntime = pytest.importorskip("onnxruntime")


@pytest.fixture(scope="module")
def clips(tmp_path_factory):
    return write_clips(tmp_path_factory.mktemp("audio") / "clips")


def student_config():
    tree = student_s.get_config()
    tree.model.log_mel.network.update({"gru_size": 8, "gru_layers": 1, "conv_channels": 6, "embedding_size": 5})
    tree.objective.emotion_weight = 0.5
    return tree


@pytest.fixture(scope="module")
def student(tmp_path_factory):
    return write_workdir(tmp_path_factory.mktemp("runs") / "student", student_config())


@pytest.fixture(scope="module")
def exported(student, clips, tmp_path_factory):
    target = tmp_path_factory.mktemp("exports") / "onnx"
    export_workdir(student, target, "onnx", (str(clips),))
    return target


def run_example(name, folder, clip, blocked, blocked_modules=("jax", "flax", "emojax")):
    """Output of an example in a process in which these modules cannot be imported."""
    for module in blocked_modules:
        (blocked / f"{module}.py").write_text(f"raise ImportError('{module} is not installed')\n")
    environment = {**os.environ, "PYTHONPATH": str(blocked)}
    check = subprocess.run([sys.executable, "-c", f"import {blocked_modules[0]}"], env=environment, capture_output=True)
    assert check.returncode == 1
    command = [sys.executable, name, str(clip)]
    found = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True)
    assert found.returncode == 0, found.stderr
    return found.stdout


def test_files_of_onnx(exported):
    files = {str(path.relative_to(exported)) for path in exported.rglob("*") if path.is_file()}
    assert files == {
        *("README.md", "metadata.json", "example.py", "example_stream.py", "audonnx/model.onnx", "audonnx/model.yaml"),
        *("model.onnx", "model_int8.onnx", "stream.onnx", "stream_int8.onnx"),
    }
    for path in exported.rglob("*.onnx"):
        onnx.checker.check_model(onnx.load(path), full_check=True)


def test_examples_run_without_jax_and_emojax(exported, student, clips, tmp_path):
    clip = clips / "0.wav"
    expected = emojax.load(student).predict(clip)
    lines = run_example("example.py", exported, clip, tmp_path).splitlines()
    assert lines[0].startswith("attributes ['activation', 'valence', 'dominance']")
    values = np.fromstring(lines[0].rpartition("[")[2].rstrip("]"), sep=" ")
    np.testing.assert_allclose(values, list(expected.attributes.values()), atol=1e-3)
    assert lines[1].startswith("categories ['anger', 'joy']")
    stream = run_example("example_stream.py", exported, clip, tmp_path).splitlines()
    assert len(stream) == 15  # chunks of 0.1 s of 1.5 s
    assert "'attributes': array(" in stream[-1]
    code = (exported / "example.py").read_text()
    assert len(code.splitlines()) <= 12


def test_card_and_metadata(exported):
    card = (exported / "README.md").read_text()
    for text in ("license: cc-by-4.0", "library_name: onnx", "on the scale 1 to 5", "anger, joy", "model_int8.onnx"):
        assert text in card
    assert (exported / "example.py").read_text().strip() in card
    metadata = json.loads((exported / "metadata.json").read_text())
    assert metadata["attributes"] == ["activation", "valence", "dominance"]
    assert (metadata["scale"], metadata["sample_rate"]) == ([1.0, 5.0], 16_000)


def test_a_model_without_categories_has_no_such_output(clips, tmp_path):
    workdir = write_workdir(tmp_path / "run", student_config(), categories=())
    export = export_workdir(workdir, tmp_path / "out", "onnx", (str(clips),))
    names = [output.name for output in onnxruntime.InferenceSession(export.files["model.onnx"]).get_outputs()]
    assert names == ["attributes", "embedding"]
    assert "categories" not in (tmp_path / "out" / "audonnx" / "model.yaml").read_text()
    run_example("example.py", tmp_path / "out", clips / "0.wav", tmp_path)


def test_audonnx_reads_its_variant(exported, clips):
    audonnx = pytest.importorskip("audonnx")
    model = audonnx.load(str(exported / "audonnx"))
    assert model.labels("attributes") == ["activation", "valence", "dominance"]
    assert model.labels("categories") == ["anger", "joy"]
    clip = np.zeros(16_000, np.float32)
    assert model(clip, 16_000, outputs="attributes").shape == (1, 3)


@pytest.fixture(scope="module")
def whisper(tmp_path_factory):
    return whisper_checkpoints.make(tmp_path_factory.mktemp("whisper"))[1]


def acoustic_config(checkpoint, **changes):
    tree = student_l.get_config()
    tree.model.acoustic.update({"checkpoint": str(checkpoint), "keep_layers": 0, **changes})
    tree.model.acoustic.network.embedding_size = 6
    return tree


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"padded": True, "layers": (0, 1), "train": "nothing", "train_convolutions": False},
        {"pooling": "statistics", "layers": (), "combine": "mean", "network": {"pooling": "mean"}},
        {"layers": (0, -1), "combine": "concatenate", "scan_layers": True, "normalisation": "none"},
    ],
)
def test_whisper_encoders(whisper, clips, tmp_path, changes):
    tree = acoustic_config(whisper)
    network = changes.pop("network", {})
    tree.model.acoustic.update(changes)
    tree.model.acoustic.network.update(network)
    workdir = write_workdir(tmp_path / "run", tree)
    export = export_workdir(workdir, tmp_path / "out", "onnx", (str(clips),))
    assert {"model.onnx", "model_int8.onnx", "audonnx/model.onnx"} == set(export.checks)
    assert "at most 19200 samples" in export.files["README.md"].decode()


@pytest.mark.parametrize(
    ("variant", "changes"),
    [
        ("hubert-batch-norm", {"layers": (0, 1), "combine": "weighted"}),
        ("wav2vec2-base", {"layers": (-1,), "pooling": "mean", "network": {"pooling": "mean"}}),
        ("wavlm-large", {"layers": (1, -1), "combine": "concatenate"}),
    ],
)
def test_speech_encoders(variant, changes, clips, tmp_path):
    kind, settings = speech_checkpoints.VARIANTS[variant]
    model = speech_checkpoints.make_model(kind, **settings)
    checkpoint = speech_checkpoints.write_checkpoint(
        tmp_path / "checkpoint", model, normalize=variant != "wav2vec2-base"
    )
    tree = acoustic_config(checkpoint)
    tree.model.acoustic.network.update(changes.pop("network", {}))
    tree.model.acoustic.update(changes)
    workdir = write_workdir(tmp_path / "run", tree)
    export = export_workdir(workdir, tmp_path / "out", "onnx", (str(clips),))
    assert {"model.onnx", "model_int8.onnx", "audonnx/model.onnx"} == set(export.checks)


def test_models_that_onnx_has_no_graph_for_are_refused_in_one_line(checkpoints, whisper, clips, tmp_path):
    trees = {"words": default.get_config(), "fusion": default.get_config()}
    trees["words"].model.modalities = ("log_mel", "lexical")
    trees["fusion"].model.modalities = ("log_mel", "acoustic")
    trees["words"].model.lexical.checkpoint = str(checkpoints["lexical"])
    trees["fusion"].model.acoustic.checkpoint = str(whisper)
    reasons = {
        "words": "takes transcripts .* export a model of .*student",
        "fusion": "no fusion .*--format=stablehlo",
    }
    for name, tree in trees.items():
        tree.data.max_tokens = 16
        workdir = write_workdir(tmp_path / name, tree)
        for format in ("onnx", "web") if name == "words" else ("onnx",):
            with pytest.raises(ConfigError, match=reasons[name]) as error:
                export_workdir(workdir, tmp_path / "out", format, (str(clips),))
            assert "\n" not in str(error.value)
        assert not (tmp_path / "out" / "model.onnx").exists()


def test_nothing_is_written_where_a_file_differs(student, clips, tmp_path, monkeypatch):
    monkeypatch.setattr("emojax.export.check.TOLERANCE", 0.0)
    with pytest.raises(ExportError, match=r"model.onnx differs from the model: .*attributes"):
        export_workdir(student, tmp_path / "out", "onnx", (str(clips),))
    assert not list((tmp_path / "out").glob("[!.]*")) if (tmp_path / "out").exists() else True


def test_recordings_and_folders_that_cannot_be_used(student, clips, tmp_path):
    with pytest.raises(ConfigError, match=r"--clips=FILE,\.\.\. must name recordings .*'toy' is not in"):
        export_workdir(student, tmp_path / "out", "onnx")
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "file").touch()
    with pytest.raises(ConfigError, match="--output must be a new or empty folder"):
        export_workdir(student, tmp_path / "full", "onnx", (str(clips),))
    with pytest.raises(emojax.errors.AudioError, match="no such file"):
        export_workdir(student, tmp_path / "out", "onnx", (str(tmp_path / "none.wav"),))


def test_the_command_reports_in_one_line(commands, student, tmp_path):
    result = commands.run("--mode=export", f"--workdir={student}")
    assert (result.returncode, result.stderr.strip()) == (2, "error: --output=FOLDER is missing")
    result = commands.run("--mode=export", f"--workdir={student}", f"--output={tmp_path / 'out'}")
    assert result.returncode == 1
    assert result.stderr.startswith("error: --clips=FILE")


def test_the_scale_is_that_of_the_corpus(exported):
    assert INFO.scale == (1.0, 5.0)
    metadata = onnxruntime.InferenceSession(exported / "model.onnx").get_modelmeta().custom_metadata_map
    assert json.loads(metadata["scale"]) == [1.0, 5.0]


@pytest.fixture(scope="module")
def program(student, clips, tmp_path_factory):
    pytest.importorskip("flatbuffers")
    target = tmp_path_factory.mktemp("exports") / "stablehlo"
    export = export_workdir(student, target, "stablehlo", (str(clips),))
    assert set(export.checks) == {"model.stablehlo", "stream.stablehlo"}
    return target


def test_stablehlo_runs_in_jax_alone(program, student, clips, tmp_path):
    lines = run_example("example.py", program, clips / "0.wav", tmp_path, blocked_modules=("flax", "emojax"))
    expected = emojax.load(student).predict(clips / "0.wav").attributes
    found = next(line for line in lines.splitlines() if line.startswith("attributes"))
    values = np.fromstring(found.rpartition("[")[2].rstrip("]"), sep=" ")
    np.testing.assert_allclose(values, list(expected.values()), atol=1e-3)


def test_encoders_without_free_lengths_are_refused(clips, tmp_path):
    folder = tmp_path / "base"
    model = speech_checkpoints.make_model("Hubert", **speech_checkpoints.BASE, **speech_checkpoints.FRAMES_OF_20_MS)
    speech_checkpoints.write_checkpoint(folder, model)
    workdir = write_workdir(tmp_path / "run", acoustic_config(folder))
    with pytest.raises(ConfigError, match="cannot be exported with free batch and length") as error:
        export_workdir(workdir, tmp_path / "out", "stablehlo", (str(clips),))
    assert "\n" not in str(error.value)


def test_hubert_is_a_program(checkpoints, clips, tmp_path):
    workdir = write_workdir(tmp_path / "run", acoustic_config(checkpoints["acoustic"]))
    export = export_workdir(workdir, tmp_path / "out", "stablehlo", (str(clips),))
    assert list(export.checks) == ["model.stablehlo"]


def test_fusions_of_the_waveform_are_programs(whisper, clips, tmp_path):
    tree = student_config()
    tree.model.modalities = ("log_mel", "acoustic")
    tree.model.acoustic.update({"checkpoint": str(whisper)})
    tree.model.acoustic.network.update({"gru_layers": 0, "conv_channels": 0, "pooling": "mean"})
    workdir = write_workdir(tmp_path / "run", tree)
    export = export_workdir(workdir, tmp_path / "out", "stablehlo", (str(clips),))
    assert list(export.checks) == ["model.stablehlo"]
