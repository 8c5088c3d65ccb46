"""`python -m emojax predict` with a trained model: agreement with evaluation, options, interruption."""

import csv
import io
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import soundfile

from emojax.__main__ import main
from emojax.config import parse_experiment
from emojax.reporting import evaluate_workdir
from emojax.training import train_workdir
from emojax.types import ATTRIBUTES
from tests import mini_corpus

pytestmark = pytest.mark.usefixtures("one_device_in_module")

SIZE = mini_corpus.SIZES["test"]


@pytest.fixture(scope="module")
def workdir(mini_data_dir, tmp_path_factory):
    """An evaluated run whose longer utterances have windows of half a second."""
    config = mini_corpus.log_mel_config(mini_data_dir)
    config.evaluation.window_seconds = 0.5
    directory = tmp_path_factory.mktemp("runs") / "mini"
    train_workdir(parse_experiment(config.to_dict()), directory)
    evaluate_workdir(directory)
    return directory


@pytest.fixture(scope="module")
def recordings(tmp_path_factory):
    """The test split as files, and one recording of all of them with a table of their times."""
    folder = tmp_path_factory.mktemp("recordings")
    audio = [mini_corpus.make_example("test", number, True, 3)["audio"] for number in range(SIZE)]
    for number, samples in enumerate(audio):
        soundfile.write(folder / f"test_{number:03d}.wav", samples, 16_000)
    (folder / "joined").mkdir()
    soundfile.write(folder / "joined" / "all.flac", np.concatenate(audio), 16_000)
    bounds = np.concatenate([[0], np.cumsum([len(samples) for samples in audio])]) / 16_000
    rows = [f"all.flac,{start!r},{end!r}" for start, end in zip(bounds[:-1].tolist(), bounds[1:].tolist(), strict=True)]
    (folder / "joined" / "table.csv").write_text("\n".join(["file,start,end", *rows]) + "\n")
    return folder


@pytest.fixture
def evaluated(workdir):
    """Columns of the predictions of `--mode=evaluate`."""
    with (workdir / "evaluation" / "test.csv").open() as file:
        rows = sorted(csv.DictReader(file), key=lambda row: row["id"])
    names = [*(f"predicted_{name}" for name in ATTRIBUTES), *(f"probability_{name}" for name in mini_corpus.CATEGORIES)]
    return np.array([[float(row[name]) for name in names] for row in rows])


def numbers(text):
    rows = list(csv.DictReader(io.StringIO(text)))
    names = [*ATTRIBUTES, *(f"probability_{name}" for name in mini_corpus.CATEGORIES)]
    return np.array([[float(row[name]) for name in names] for row in rows])


@pytest.mark.parametrize("workers", [0, 2])
def test_the_command_agrees_with_the_evaluation_to_a_millionth_of_the_scale(
    workdir, recordings, evaluated, capsys, workers
):
    tolerance = np.array([6e-6] * 3 + [1e-6] * 3)  # attributes from 1 to 7, probabilities
    files = [str(recordings / f"test_{number:03d}.wav") for number in range(SIZE)]
    for inputs in (files, [str(recordings / "joined" / "table.csv")]):
        assert main(["predict", str(workdir), *inputs, f"--workers={workers}"]) == 0
        out, err = capsys.readouterr()
        assert err == ""
        assert (np.abs(numbers(out) - evaluated) <= tolerance).all()


def test_files_on_standard_input_and_all_outputs(workdir, recordings, evaluated, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(recordings)
    names = "".join(f"test_{number:03d}.wav\n" for number in range(SIZE)) + "gone.wav\n"
    for name in ("a.jsonl", "a.parquet"):
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(names.encode())))
        arguments = ["--output", str(tmp_path / name), "--embeddings", str(tmp_path / "e.npy")]
        assert main(["predict", str(workdir), "-", *arguments]) == 1
        out, err = capsys.readouterr()
        assert out == ""
        assert "error: gone.wav: no such file\n" in err
        assert err.endswith(f"{tmp_path / name}: {SIZE} clips, 1 failed: {tmp_path / 'a.failed.csv'}\n")
    rows = [json.loads(line) for line in (tmp_path / "a.jsonl").read_text().splitlines()]
    assert [row["file"] for row in rows] == names.splitlines()[:SIZE]
    found = np.array([[*row["attributes"].values(), *row["emotions"].values()] for row in rows])
    np.testing.assert_allclose(found, evaluated, atol=6e-6)
    assert np.load(tmp_path / "e.npy").shape == (SIZE, 8)
    assert (tmp_path / "a.failed.csv").read_text().splitlines()[1] == "gone.wav,0.0,,gone.wav: no such file"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--format=parquet"], "--format=parquet needs --output"),
        (["--output=a.txt"], "--output must end in .csv, .jsonl, .parquet, or --format be given, got a.txt"),
        (["--embeddings=e.npy"], "--embeddings needs --output, whose rows are in the same order"),
        (["--output=a.csv", "--embeddings=e.csv"], "--embeddings must end in .npy or .npz, got e.csv"),
        (["--workers=-1"], "--workers must be >= 0, got -1"),
        (["--batch-seconds=0"], "--batch-seconds must be >= 1, got 0"),
    ],
)
def test_options_are_checked_before_anything_is_read(arguments, message, capsys):
    assert main(["predict", "nowhere", "nothing.wav", *arguments]) == 1
    assert capsys.readouterr().err == f"error: {message}\n"


def test_a_killed_command_continues_and_its_processes_end(workdir, recordings, tmp_path):
    (tmp_path / "fifo").mkdir()
    os.mkfifo(tmp_path / "fifo" / "last.wav")  # reading it waits: the command is stopped there
    table = tmp_path / "table.txt"
    files = [recordings / f"test_{number:03d}.wav" for number in range(SIZE)]
    table.write_text("\n".join(map(str, [*files, tmp_path / "fifo" / "last.wav"])))
    output = tmp_path / "rows.csv"
    command = [sys.executable, "-m", "emojax", "predict", workdir, table, f"--output={output}", "--workers=2"]
    command = [*map(str, command), "--batch-seconds=1"]
    environment = os.environ | {"JAX_PLATFORMS": "cpu"}
    process = subprocess.Popen(command, env=environment, stderr=subprocess.PIPE, cwd=Path(__file__).parents[1])
    journal = tmp_path / "rows.csv.partial"
    for _ in range(2400):
        if process.poll() is not None or (journal.exists() and journal.read_bytes().count(b'"row"') >= 3):
            break
        time.sleep(0.05)
    children = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
    process.send_signal(signal.SIGKILL)
    process.wait()
    before = journal.read_bytes().count(b'"row"')
    assert before >= 3
    assert not output.exists()
    assert children
    for _ in range(200):
        if not any(Path(f"/proc/{child}").exists() and not zombie(child) for child in children):
            break
        time.sleep(0.05)
    else:
        raise AssertionError("processes are left")
    (tmp_path / "fifo" / "last.wav").unlink()
    assert main(["predict", str(workdir), str(table), f"--output={output}"]) == 1
    with output.open() as file:
        assert [row["file"] for row in csv.DictReader(file)] == [str(path) for path in files]


def zombie(pid):
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
