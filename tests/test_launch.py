"""The command line: one command trains, evaluates and reports; wrong input is an error of one line."""

import functools
import json
import os
import signal
import subprocess
import sys
import time

import numpy as np
import pytest

from emojax.types import ATTRIBUTES
from tests.command_server import ROOT

SMALL = (
    "--config.corpus.name=mini_corpus",
    "--config.data.batch_size=8",
    "--config.data.bucket_seconds=(1.0,2.0)",
    "--config.data.workers=0",
    "--config.model.log_mel.network.gru_layers=1",
    "--config.model.log_mel.network.gru_size=8",
    "--config.model.log_mel.network.conv_channels=8",
    "--config.model.log_mel.network.embedding_size=8",
    "--config.objective.emotion_weight=0.5",
    "--config.training.epochs=4",
    "--config.training.checkpoint_every_steps=3",
    "--config.training.log_every_steps=1",
    "--config.evaluation.bootstrap_resamples=50",
)


def command(*arguments):
    return [sys.executable, "launch.py", *map(str, arguments)]


def environment(data_dir):
    return os.environ | {"TFDS_DATA_DIR": str(data_dir), "JAX_NUM_CPU_DEVICES": "1", "JAX_PLATFORMS": "cpu"}


def launch(data_dir, *arguments):
    """Runs the command in a Python of its own, where `commands` forks it."""
    pipes = {"capture_output": True, "text": True, "timeout": 300, "check": False}
    return subprocess.run(command(*arguments), cwd=ROOT, env=environment(data_dir), **pipes)


def training(workdir, *more):
    """Arguments."""
    return "--config=configs/default.py", f"--workdir={workdir}", *SMALL, *more


@pytest.fixture
def forked(commands, mini_data_dir):
    return functools.partial(commands.run, data_dir=mini_data_dir)


@pytest.fixture
def train(forked):
    return lambda workdir, *more: forked(*training(workdir, *more))


def error_line(result):
    assert result.returncode != 0
    assert "Traceback" not in result.stderr, result.stderr
    lines = [line for line in result.stderr.splitlines() if line.startswith("error: ")]
    assert len(lines) == 1, result.stderr
    assert result.stderr.endswith(f"{lines[0]}\n"), result.stderr
    assert "\\n" not in lines[0]
    return lines[0]


@pytest.fixture(scope="module")
def finished(mini_data_dir, tmp_path_factory):
    workdir = tmp_path_factory.mktemp("runs") / "finished"
    result = launch(mini_data_dir, *training(os.path.relpath(workdir, ROOT)))
    assert result.returncode == 0, result.stderr
    return workdir, result


def logged(workdir):
    """What was logged, without what a clock measures."""
    lines = [json.loads(line) for line in (workdir / "metrics.jsonl").read_text().splitlines()]
    return [{name: value for name, value in line.items() if not name.startswith("seconds/")} for line in lines]


def parameters(workdir):
    import jax

    from emojax.parallel import MeshConfig, make_mesh
    from emojax.workdir import restore_model

    trained = restore_model(workdir, make_mesh(MeshConfig(data=1, fsdp=1), jax.devices()[:1]))
    return trained.step, jax.device_get(trained.variables)


@pytest.fixture(scope="module")
def trained(finished):
    """Step and variables of the finished run."""
    return parameters(finished[0])


def test_one_command_trains_and_evaluates(finished):
    workdir, result = finished
    found = {str(path.relative_to(workdir)) for path in workdir.rglob("*") if path.is_file()}
    expected = {
        "config.json",
        "corpus.json",
        "metrics.jsonl",
        "summary.json",
        "README.md",
        "evaluation/test.json",
        "evaluation/test.csv",
    }
    assert expected <= found
    assert any(name.endswith(".png") for name in found)
    assert any("tfevents" in name for name in found)
    summary = json.loads((workdir / "evaluation" / "test.json").read_text())
    for attribute in ATTRIBUTES:
        score = summary["ccc"][attribute]
        assert score["low"] <= score["value"] <= score["high"]
    assert {"uar", "macro_f1", "accuracy", "confusion", "baselines"} <= set(summary)
    assert "ETA" in result.stderr or "validation" in result.stderr
    training = json.loads((workdir / "summary.json").read_text())
    assert training["parameters"] > 0
    assert f"{training['parameters']:,}" in result.stdout
    losses = [line["train/loss"] for line in logged(workdir) if "train/loss" in line]
    assert np.mean(losses[-4:]) < np.mean(losses[:4])


def test_one_command_tests_the_model(finished, forked):
    workdir, _ = finished
    few = ("--config.robustness.utterances=2", "--config.robustness.rooms=1", "--config.fairness.sentiment_sentences=2")
    result = forked("--mode=test", f"--workdir={workdir}", "--config=configs/model_tests.py", *few)
    assert result.returncode == 0, result.stderr
    assert "all tests" in result.stdout
    assert (workdir / "tests.html").exists()
    tested = json.loads((workdir / "tests" / "test.json").read_text())
    scores = json.loads((workdir / "evaluation" / "test.json").read_text())
    values = {(row["output"], row["metric"], row["condition"]): row["value"] for row in tested["results"]}
    for attribute in ATTRIBUTES:
        assert values[attribute, "CCC", ""] == pytest.approx(scores["ccc"][attribute]["value"], abs=1e-4)
        width = scores["scale"][1] - scores["scale"][0]
        assert values[attribute, "MAE", ""] == pytest.approx(scores["mae"][attribute]["value"] / width, abs=1e-4)
    assert values["emotion", "UAR", ""] == pytest.approx(scores["uar"]["value"], abs=1e-4)


def test_one_command_draws_the_robustness_grid(finished, forked):
    workdir, _ = finished
    few = ("--config.noise.kinds=white", "--config.noise.snrs_db=0.0", "--config.rooms.count=0")
    few += ("--config.channels.codecs=()", "--config.bootstrap_resamples=100")
    arguments = ("--mode=robustness", f"--workdir={workdir}", "--config=configs/robustness.py", *few)
    result = forked(*arguments)
    assert result.returncode == 0, result.stderr
    assert (workdir / "robustness.html").exists()
    (path,) = (workdir / "robustness").glob("*/test.json")
    found = {(s["condition"], s["output"]): s["score"]["value"] for s in json.loads(path.read_text())["scores"]}
    scores = json.loads((workdir / "evaluation" / "test.json").read_text())
    for attribute in ATTRIBUTES:
        assert found["clean", attribute] == pytest.approx(scores["ccc"][attribute]["value"], abs=1e-4)
    assert found["clean", "emotion"] == pytest.approx(scores["uar"]["value"], abs=1e-4)
    assert "ETA" in result.stderr
    again = forked(*arguments)
    assert again.returncode == 0
    assert "ETA" not in again.stderr  # nothing was left to compute


def test_one_command_annotates_recordings(finished, forked, tmp_path):
    import soundfile

    from emojax.annotation import read_annotation
    from tests.annotation_examples import bursts

    workdir, _ = finished
    soundfile.write(tmp_path / "talk.ogg", bursts(6.0, [(1.0, 4.0)]), 16_000)
    (tmp_path / "broken.wav").write_bytes(b"RIFF")
    arguments = ("--mode=annotate", f"--workdir={workdir}", f"--output={tmp_path / 'out'}")
    result = forked(*arguments, "--config=annotate", "--config.activity.detector=energy", tmp_path / "talk.ogg")
    assert result.returncode == 0, result.stderr
    assert "1 of 1 recordings annotated; " in result.stdout
    found = read_annotation(tmp_path / "out" / "talk.json")
    assert found.segments
    assert found.model.categories
    result = forked(*arguments, tmp_path / "broken.wav")
    assert result.returncode == 1
    assert error_line(result).startswith(f"error: {tmp_path / 'broken.wav'}: cannot be read as audio")
    result = forked(*arguments)
    assert result.returncode == 2
    assert error_line(result) == "error: recordings are missing: --mode=annotate --workdir=DIR FILE_OR_FOLDER ..."


def test_a_wrong_category_map_is_an_error_of_one_line(finished, forked):
    result = forked("--mode=evaluate", f"--workdir={finished[0]}", "--category_map=joy:happiness,sad")
    line = error_line(result)
    assert line.startswith("error: --category_map must be THEIRS:OURS")
    assert line.endswith("got 'sad'")


def test_the_same_config_gives_the_same_result(finished, train, tmp_path):
    workdir, _ = finished
    assert train(tmp_path / "again").returncode == 0
    assert logged(tmp_path / "again") == logged(workdir)


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT])
def test_an_interrupted_run_continues_bit_exactly(finished, trained, commands, train, mini_data_dir, tmp_path, number):
    whole, _ = finished
    workdir = tmp_path / "killed"
    rng = np.random.default_rng(int(number) + os.getpid())
    last = logged(whole)[-1]["step"]
    stop_at = int(rng.integers(2, last - 2))
    process = commands.start(*training(workdir), data_dir=mini_data_dir)
    log = workdir / "metrics.jsonl"
    while process.poll() is None and not (log.exists() and len(log.read_text().splitlines()) >= stop_at):
        time.sleep(0.002)
    process.send_signal(number)
    process.communicate(timeout=120)
    assert process.returncode == {signal.SIGKILL: -9, signal.SIGTERM: 0, signal.SIGINT: 130}[number], (
        f"stop at {stop_at}"
    )
    result = train(workdir)
    assert result.returncode == 0, result.stderr
    assert logged(workdir) == logged(whole), f"killed at about line {stop_at}"
    (step, left), (whole_step, right) = parameters(workdir), trained
    assert step == whole_step

    import jax

    jax.tree.map(np.testing.assert_array_equal, left, right)


def test_a_finished_run_is_not_trained_again(finished, train):
    workdir, _ = finished
    before = (workdir / "metrics.jsonl").read_text()
    assert train(workdir).returncode == 0
    assert (workdir / "metrics.jsonl").read_text() == before


def test_evaluate_needs_only_the_workdir(finished, forked):
    workdir, _ = finished
    result = forked("--mode=evaluate", f"--workdir={workdir}", "--splits=dev,test")
    assert result.returncode == 0, result.stderr
    assert (workdir / "evaluation" / "dev.json").exists()
    assert "CCC valence" in result.stdout


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--config.data.batch_sise=3"], "error: --config: has no field 'batch_sise'; Did you mean \"batch_size\""),
        (["--config.data.batch_size=many"], "batch_size"),
        (["--config.data.batch_size=0"], "config.data.batch_size must"),
        (
            ["--config.optimizer.schedule=linear"],
            "config.optimizer.schedule must be 'constant' or 'cosine'",
        ),
        (
            ["--config.corpus.train_split=test"],
            "config.corpus.train_split must not overlap",
        ),
        (["--config.corpus.name=absent_corpus"], "corpus 'absent_corpus' is not in"),
        (["--config.corpus.validation_split=valid"], "no split 'valid'; it has train, dev, test"),
        (["--config.objective.attribute_weights=(0.,0.,0.)", "--config.objective.emotion_weight=0."], "has no label"),
    ],
)
def test_wrong_settings_stop_before_any_work(forked, tmp_path, arguments, message):
    workdir = tmp_path / "never"
    result = forked(*training(workdir, *arguments))
    assert message in error_line(result)
    assert not workdir.exists()


def test_other_mistakes_are_errors_of_one_line(finished, forked, tmp_path):
    workdir, _ = finished
    (tmp_path / "broken.py").write_text("import absent_module")
    (tmp_path / "empty.py").write_text("")
    (tmp_path / "list.py").write_text("def get_config():\n    return []\n")
    cases = [
        (["--config=configs/default.py"], "--workdir=DIR is missing"),
        ([f"--config={tmp_path / 'broken.py'}"], f"No module named 'absent_module' ({tmp_path / 'broken.py'}, line 1)"),
        ([f"--config={tmp_path / 'empty.py'}", f"--workdir={tmp_path}"], "the file has no function get_config"),
        (
            [f"--config={tmp_path / 'list.py'}", f"--workdir={tmp_path}"],
            "get_config must return an ml_collections",
        ),
        (["--config=configs/default.py", "--config.trainin.epochs=1"], "has no field 'trainin'; Did you mean \"train"),
        ([f"--workdir={tmp_path}"], "--config=configs/NAME.py is missing"),
        (
            ["--mode=robustness", f"--workdir={workdir}", "--config.utterances=12"],
            "--config.utterances sets a field of --config=configs/NAME.py, which is missing",
        ),
        (
            ["--mode=evaluate", f"--workdir={workdir}", "--folds=3"],
            "--folds is a flag of --mode=train, got --mode=eval",
        ),
        (
            [f"--workdir={tmp_path}", "--splits=dev"],
            "--splits is a flag of --mode=evaluate or test or robustness, got --mode=train",
        ),
        (
            ["--config=configs/nothing.py", f"--workdir={tmp_path}"],
            "configs/nothing.py: no such config file; the package has",
        ),
        (["--mode=evaluate", f"--workdir={tmp_path / 'none'}"], "no such workdir"),
        (["--mode=evaluate", f"--workdir={tmp_path}"], "is not a workdir"),
        (["--mode=evaluate", f"--workdir={workdir}", "--splits=tset"], "no split 'tset'; it has train, dev, test"),
        (["--mode=test", f"--workdir={tmp_path / 'none'}"], "no such workdir"),
        (["--mode=fly", f"--workdir={workdir}"], "fly"),
        (["--config=configs/default.py", "--workdir=gs://own/run"], "--workdir must be a folder, got gs://own/run"),
        (
            ["--mode=extract", "--config=configs/extract.py", f"--workdir={tmp_path}", "--beam_pipeline_options=-x"],
            "--beam_pipeline_options needs --beam",
        ),
    ]
    for arguments, message in cases:
        assert message in error_line(forked(*arguments)), arguments


def test_a_workdir_of_another_config_is_refused(finished, train):
    workdir, _ = finished
    line = error_line(train(workdir, "--config.optimizer.learning_rate=0.5"))
    assert "was made with another config: optimizer.learning_rate was" in line


@pytest.mark.parametrize(("largest_file", "named"), [(2_000, "config.json"), (30_000, "checkpoint could not be saved")])
def test_a_full_disk_stops_with_the_file_named(forked, tmp_path, largest_file, named):
    larger = "--config.model.log_mel.network.gru_size=48"  # so that the checkpoint is larger than the other files
    assert named in error_line(forked(*training(tmp_path / "full", larger), largest_file=largest_file))


def test_diverging_training_stops_and_keeps_the_last_good_checkpoint(train, tmp_path):
    workdir = tmp_path / "diverges"
    line = error_line(
        train(
            workdir,
            "--config.optimizer.learning_rate=1e38",
            "--config.optimizer.clip_norm=0.",
            "--config.optimizer.warmup_steps=0",
            "--config.training.checkpoint_every_steps=1",
        )
    )
    assert "is nan at step" in line or "is inf at step" in line
    _, variables = parameters(workdir)
    import jax

    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(variables))
