"""Clips to rows: order, bounded memory, resumption, outputs; a double in place of the model."""

import csv
import io
import json
import os
import re
import threading
from types import SimpleNamespace

import numpy as np
import pyarrow.parquet
import pytest
import soundfile

from emojax.errors import ConfigError, EmojaxError
from emojax.evaluation.windows import WHOLE, Windows
from emojax.inference import batches, length_buckets, reading, run
from emojax.inference.decoding_pool import DecodingPool
from emojax.inference.distributions import RatingDistribution
from emojax.inference.journal import Outputs
from emojax.inference.predictor import Prediction
from emojax.inference.run import predict_clips, predict_to_files, print_predictions
from emojax.inference.sources import Clip, read_clip_table

RATE = 16_000


class Double:
    """Predicts the mean and the standard deviation of a clip's samples; counts what is computed."""

    min_samples, takes_audio, seconds_at_once, batches_at_once = 400, True, 4, 1

    def __init__(self, windows=WHOLE, categories=("calm", "=angry"), ratings=False, takes_transcripts=False):
        self.windows, self.categories, self.ratings = windows, categories, ratings
        self.takes_transcripts = takes_transcripts
        self.computed, self.texts, self.prepared = [], [], []

    @property
    def shapes(self):
        return length_buckets.BatchShapes(
            self.seconds_at_once * RATE, self.windows.samples or None, self.windows.always
        )

    def prepare(self, shapes):
        self.prepared += shapes

    def window_outputs(self, waveform, num_samples, texts):
        self.computed.append(waveform.shape)
        self.texts += texts
        weights = np.arange(waveform.shape[1]) < num_samples[:, None]
        mean = (waveform * weights).sum(1) / np.maximum(num_samples, 1)
        attributes = np.stack([mean, mean + 1, mean + 2], axis=1)
        return attributes, np.tile([0.25, 0.75], (len(mean), 1)), attributes[:, :2]

    def named(self, output, row):
        values = dict(zip(("activation", "valence", "dominance"), map(float, output.attributes[row]), strict=True))
        emotions = dict(zip(self.categories, (0.25, 0.75), strict=False))
        ratings = {"valence": RatingDistribution((1.0, 2.0), (0.5, 0.5))} if self.ratings else {}
        return Prediction(values, emotions, output.embedding[row].astype(np.float32), ratings)


@pytest.fixture
def clips(tmp_path):
    """12 clips of 0.3 to 2.5 s, each of one value; the fifth is damaged."""
    found = []
    for number, seconds in enumerate((1.0, 2.5, 0.3, 1.4, 1, 0.8, 2.2, 1.0, 0.9, 1.9, 1.1, 0.5)):
        path = tmp_path / f"{number:02d}.wav"
        soundfile.write(path, np.full(round(seconds * RATE), number / 32), RATE)
        found.append(Clip(path.name, path))
    found[4].path.write_text("damaged")
    return found


@pytest.fixture
def outputs(tmp_path):
    """Function that returns the files of a command."""
    (tmp_path / "out").mkdir()

    def outputs(name="rows.csv", embeddings=None):
        folder = tmp_path / "out"
        embeddings = embeddings and folder / embeddings
        return Outputs(folder / name, name.rpartition(".")[2], embeddings, folder / "rows.failed.csv")

    return outputs


@pytest.fixture(autouse=True)
def digest(monkeypatch):
    monkeypatch.setattr(run, "model_digest", lambda predictor: "double")


def predicted(double, clips, lines=None, **options):
    with DecodingPool(0) as pool:
        warn = [].append if lines is None else lines.append
        yield from predict_clips(double, clips, range(len(clips)), pool, warn, **options)


def to_files(double, clips, outputs, lines=None, **options):
    with DecodingPool(0) as pool:
        warn = [].append if lines is None else lines.append
        return predict_to_files(double, clips, outputs, options, pool, warn)


def test_rows_are_printed_in_the_order_of_the_list_and_failures_are_lines(clips):
    double, out, lines = Double(), io.StringIO(), []
    assert print_predictions(predicted(double, clips), "csv", out, lines.append) == 1
    rows = list(csv.DictReader(io.StringIO(out.getvalue())))
    assert [row["file"] for row in rows] == [clip.file for clip in clips if clip.file != "04.wav"]
    for row in rows:
        number = int(row["file"][:2])
        samples = soundfile.info(clips[number].path).frames
        assert (float(row["start"]), float(row["end"])) == (0.0, samples / RATE)
        assert float(row["valence"]) == pytest.approx(1 + number / 32, abs=1e-4)
        assert (row["emotion"], row["probability_=angry"]) == ("'=angry", "0.75")
    assert lines == ["error: 04.wav: cannot be read as audio (Format not recognised)"]
    assert max(rows * samples for rows, samples in double.computed) <= double.seconds_at_once * RATE
    assert sum(rows for rows, _ in double.computed) == 11  # no empty row here


def test_batches_that_are_computed_at_the_same_time_give_the_same_and_are_few(clips, monkeypatch):
    double, alone = Double(), {result.number: result.row for result in predicted(Double(), clips)}
    double.batches_at_once, double.seconds_at_once = 2, 1
    running, most, both = set(), [], threading.Barrier(2)
    compute = double.window_outputs

    def counted(*arguments):
        running.add(threading.get_ident())
        most.append(len(running))
        if len(most) <= 2:  # the first two are in their threads at once
            both.wait(timeout=30)
        outputs = compute(*arguments)
        running.discard(threading.get_ident())
        return outputs

    monkeypatch.setattr(double, "window_outputs", counted)
    assert {result.number: result.row for result in predicted(double, clips)} == alone
    assert max(most) == 2


def test_a_clip_that_fails_while_its_window_is_computed_has_no_result():
    double, computing, dropped = Double(), threading.Event(), threading.Event()
    double.batches_at_once, double.seconds_at_once = 2, 1
    compute = double.window_outputs

    def late(*arguments):
        computing.set()
        assert dropped.wait(timeout=30)
        return compute(*arguments)

    double.window_outputs = late
    predictions = batches.BatchedPredictions(double, at_once=2)
    second = np.ones(RATE, np.float32)
    assert list(predictions.add("fails", second, "")) == []
    assert computing.wait(timeout=30)
    predictions.drop("fails")
    dropped.set()
    found = [*predictions.add("stays", second, ""), *predictions.end("stays"), *predictions.rest()]
    assert [clip for clip, _ in found] == ["stays"]


def test_an_error_in_a_thread_is_raised(clips):
    double = Double()
    double.batches_at_once, double.seconds_at_once = 2, 1

    def broken(*arguments):
        raise MemoryError("no memory for this batch")

    double.window_outputs = broken
    with pytest.raises(MemoryError, match="no memory for this batch"):
        list(predicted(double, clips))


def test_rows_wait_for_few_others(clips, monkeypatch):
    monkeypatch.setattr(length_buckets, "_MOST_OVERTAKING", 3)
    order = [result.number for result in predicted(Double(), [clips[1], *[clips[0]] * 40])]
    assert order.index(0) < 6


@pytest.mark.parametrize("windows", [Windows(RATE // 4), Windows(RATE // 4, equal=True)])
def test_a_long_file_is_read_and_computed_in_bounded_memory(tmp_path, monkeypatch, windows):
    values = np.repeat(np.arange(240) / 480, RATE // 4)  # a minute
    soundfile.write(tmp_path / "long.wav", values, RATE)
    monkeypatch.setattr(reading, "_KEPT", RATE)
    alive, most = [], []
    event = reading.Samples

    class Counted(event):
        def __init__(self, *arguments):
            super().__init__(*arguments)
            alive.append(1)

        def __del__(self):
            alive.pop()

    monkeypatch.setattr(reading, "Samples", Counted)
    monkeypatch.setattr(run, "Samples", Counted)
    double = Double(windows)
    outputs_of = double.window_outputs
    double.window_outputs = lambda *arguments: most.append(len(alive)) or outputs_of(*arguments)
    (result,) = predicted(double, [Clip("long.wav", tmp_path / "long.wav")])
    assert result.row.attributes["activation"] == pytest.approx(values.mean(), abs=1e-4)
    assert sum(rows for rows, _ in double.computed) == 240
    assert max(most) <= 2
    assert max(rows * samples for rows, samples in double.computed) <= double.seconds_at_once * RATE


def test_eight_hours_of_silence_are_one_row(tmp_path, monkeypatch):
    monkeypatch.setattr(reading, "read_blocks", lambda path: (np.zeros(RATE * 60, np.float32) for _ in range(480)))
    double = Double(Windows(600 * RATE, equal=True))
    double.window_outputs = lambda waveform, lengths, texts: (
        double.computed.append(waveform.shape),
        [np.zeros((len(lengths), width)) for width in (3, 2, 4)],
    )[1]
    (result,) = predicted(double, [Clip("silence.wav", tmp_path / "silence.wav")])
    assert result.row.columns() | {"file": "", "start": 0.0, "end": 8 * 3600.0} == result.row.columns() | {"file": ""}
    assert double.computed == [(1, 600 * RATE)] * 48


def test_files_of_every_format_hold_the_same_rows_and_embeddings(clips, outputs):
    rows = {}
    for name, embeddings in (("a.csv", None), ("a.jsonl", "e.npy"), ("a.parquet", "e.npz")):
        double, files, lines = Double(ratings=True), outputs(name, embeddings), []
        assert to_files(double, clips, files, lines) == 1
        assert lines == [f"{files.table}: 11 clips, 1 failed: {files.failures}"]
        assert not files.journal.exists()
        assert [clip.file for clip in read_clip_table(files.failures, None)] == ["04.wav"]
        rows[name] = files.table
    with rows["a.csv"].open() as file:
        found = [{key: value.removeprefix("'") for key, value in row.items()} for row in csv.DictReader(file)]
    table = pyarrow.parquet.read_table(rows["a.parquet"]).to_pylist()
    assert found == [{key: str(value) for key, value in row.items()} for row in table]
    assert "q05_valence" in found[0]
    trees = [json.loads(line) for line in rows["a.jsonl"].read_text().splitlines()]
    assert [tree["attributes"]["valence"] for tree in trees] == [row["valence"] for row in table]
    assert trees[0]["ratings"]["valence"]["std"] == 0.5
    folder = rows["a.csv"].parent
    with np.load(folder / "e.npz") as arrays:
        np.testing.assert_array_equal(arrays["embeddings"], np.load(folder / "e.npy"))
        assert arrays["file"].tolist() == [row["file"] for row in table]
        np.testing.assert_allclose(arrays["embeddings"][:, 1], [row["valence"] for row in table], rtol=1e-6)
    assert not list(folder.glob("*.partial")) + list(folder.glob(".*"))


def test_a_model_without_categories_has_no_columns_of_them(clips, outputs):
    for name in ("a.csv", "a.parquet", "a.jsonl"):
        to_files(Double(categories=()), clips[:2], outputs(name))
    folder = outputs().table.parent
    columns = ["file", "start", "end", "activation", "valence", "dominance"]
    assert (folder / "a.csv").read_text().splitlines()[0].split(",") == columns
    assert pyarrow.parquet.read_table(folder / "a.parquet").column_names == columns
    tree = json.loads((folder / "a.jsonl").read_text().splitlines()[0])
    assert (tree["emotion"], tree["emotions"]) == (None, {})


def test_where_every_clip_fails_the_outputs_are_empty(clips, outputs):
    for name, embeddings in (("a.csv", "e.npy"), ("a.parquet", "e.npz"), ("a.jsonl", None)):
        assert to_files(Double(), clips[4:5], outputs(name, embeddings)) == 1
    folder = outputs().table.parent
    assert (folder / "a.csv").read_text() == "file,start,end\n"
    assert pyarrow.parquet.read_table(folder / "a.parquet").num_rows == 0
    assert len(np.load(folder / "e.npy")) == 0
    assert to_files(Double(), clips[:1], outputs("a.csv")) == 0
    assert not outputs().failures.exists()


class Stopped(Exception):
    pass


@pytest.mark.parametrize("cut", [0, 1, 40])
@pytest.mark.parametrize("name", ["a.csv", "a.parquet"])
def test_a_command_that_was_killed_continues(clips, outputs, cut, name):
    whole = outputs(f"whole-{name}", "whole.npy")
    to_files(Double(), clips, whole)
    double, files = Double(), outputs(name, "e.npy")
    double.seconds_at_once = 2
    outputs_of = double.window_outputs

    def stopped(*arguments):
        if len(double.computed) == 6:
            raise Stopped
        return outputs_of(*arguments)

    double.window_outputs = stopped
    with pytest.raises(Stopped):
        to_files(double, clips, files)
    content = files.journal.read_bytes()
    files.journal.write_bytes(content[: len(content) - cut])  # what a killed process has written
    assert not files.table.exists()
    before = content[: len(content) - cut].count(b'"row"') - (cut > 0)
    again = Double()
    assert to_files(again, [*clips, clips[0]], files) == 1  # the list may change
    assert sum(rows for rows, _ in again.computed) == 11 - before
    assert 0 < before < 11
    expected, found = whole.table.read_bytes(), files.table.read_bytes()
    if name == "a.csv":
        assert found.decode().splitlines() == [*(lines := expected.decode().splitlines()), lines[1]]
    else:
        assert pyarrow.parquet.read_table(files.table).num_rows == 12
    np.testing.assert_array_equal(np.load(files.embeddings)[:11], np.load(whole.embeddings))
    assert not list(files.table.parent.glob("*.partial"))


def test_a_file_that_has_changed_since_is_predicted_again(clips, outputs):
    files, double = outputs("a.csv", "e.npy"), Double()
    double.named = lambda output, row, named=double.named: len(double.computed) < 4 and named(output, row)
    double.seconds_at_once = 1
    with pytest.raises(AttributeError):
        to_files(double, clips[5:9], files)  # the last one is not computed
    soundfile.write(clips[5].path, np.full(RATE, 0.5), RATE)
    clips[6].path.unlink()
    again, lines = Double(), []
    again.seconds_at_once = 1
    assert to_files(again, clips[5:9], files, lines) == 1
    assert len(again.computed) == 2  # the changed file and the one that was not computed
    assert lines[-1] == f"{files.table}: 3 clips, 1 failed: {files.failures}"
    rows = list(csv.DictReader(files.table.open()))
    assert [row["file"] for row in rows] == ["05.wav", "07.wav", "08.wav"]
    assert float(rows[0]["activation"]) == pytest.approx(0.5, abs=1e-4)
    assert np.load(files.embeddings)[0, 0] == pytest.approx(0.5, abs=1e-4)


def test_results_of_another_model_or_process_are_not_continued(clips, outputs, monkeypatch):
    files = outputs()
    double = Double()
    double.window_outputs = None
    with pytest.raises(TypeError):
        to_files(double, clips, files)
    monkeypatch.setattr(run, "model_digest", lambda predictor: "other")
    with pytest.raises(EmojaxError, match=r"rows.csv.partial: has results of another model; delete it to start again$"):
        to_files(Double(), clips, files)
    with pytest.raises(EmojaxError, match=r"has results of another model, recognizer; delete"):
        to_files(Double(), clips, files, recognizer="tiny")
    files.journal.write_text("something else\n")
    with pytest.raises(EmojaxError, match=r"rows.csv.partial: is not a file of unfinished predictions; delete it$"):
        to_files(Double(), clips, files)
    files.journal.unlink()
    from emojax.inference.journal import Journal

    with Journal(files, {}), pytest.raises(EmojaxError, match=r"rows.csv.partial: another process writes it$"):
        Journal(files, {})


def test_outputs_that_cannot_be_written_are_one_line(clips, outputs, tmp_path):
    if os.geteuid() == 0:
        (tmp_path / "file").write_text("")
        with pytest.raises(EmojaxError, match=r"file/rows.csv.partial: cannot be written \(.*\)$"):
            to_files(Double(), clips, Outputs(tmp_path / "file" / "rows.csv", "csv", None, tmp_path / "f.csv"))


class Recognizer:
    """Transcribes the number of samples."""

    min_samples = RATE // 2

    def __init__(self):
        self.groups = []

    def transcribe_all(self, waveforms):
        self.groups.append(len(waveforms))
        return [SimpleNamespace(text=f"{len(waveform)} samples") for waveform in waveforms]


def test_clips_without_transcript_are_transcribed_as_a_whole_in_groups(clips, monkeypatch):
    monkeypatch.setattr(run, "_TRANSCRIBED_SECONDS", 3)
    clips[0] = Clip(clips[0].file, clips[0].path, transcript="well done")
    double, recognizer = Double(Windows(RATE, equal=True), takes_transcripts=True), Recognizer()
    results = {result.number: result for result in predicted(double, clips, recognizer=recognizer)}
    words = {number: result.row.transcript for number, result in results.items() if result.row}
    assert (words[0], words[1], words[2]) == ("well done", "40000 samples", "")  # 0.3 s are too short
    assert len(double.texts) == 18  # a text for each window
    assert double.texts.count("40000 samples") == 3
    assert len(recognizer.groups) > 2
    with pytest.raises(ConfigError, match=re.escape("--recognizer must not be given: this model has no lexical")):
        next(predicted(Double(), clips, recognizer=recognizer))


def test_transcripts_of_a_table_are_inputs_of_a_model_that_reads_words(clips):
    clips[0] = Clip(clips[0].file, clips[0].path, transcript="well done")
    for takes, texts, words in ((True, ["well done", ""], ["well done", ""]), (False, None, [None, None])):
        double = Double(takes_transcripts=takes)
        rows = {result.number: result.row for result in predicted(double, [clips[0], clips[7]])}
        assert [rows[number].transcript for number in (0, 1)] == words
        assert texts is None or double.texts == texts
