"""`emojax.load(workdir).predict(...)`: any file or array in, named values in the corpus's scale out."""

import csv
import dataclasses
import json

import jax
import numpy as np
import pytest
import soundfile
import soxr

import emojax
from emojax.__main__ import main
from emojax.config import parse_experiment
from emojax.errors import CheckpointError, ConfigError
from emojax.evaluation.windows import Windows
from emojax.inference.batches import BatchedPredictions
from emojax.metrics import regression_scores
from emojax.parallel import COMPILATIONS
from emojax.reporting import evaluate_workdir
from emojax.training import train_workdir
from emojax.types import ATTRIBUTES
from emojax.workdir import read_config
from tests import mini_corpus

pytestmark = pytest.mark.usefixtures("one_device_in_module")


@pytest.fixture(scope="module")
def workdir(mini_data_dir, tmp_path_factory):
    config = mini_corpus.log_mel_config(mini_data_dir)
    directory = tmp_path_factory.mktemp("runs") / "mini"
    train_workdir(parse_experiment(config.to_dict()), directory)
    evaluate_workdir(directory)
    return directory


@pytest.fixture(scope="module")
def model(workdir):
    return emojax.load(workdir)


def clip(number=0, split="test"):
    return mini_corpus.make_example(split, number, True, 3)["audio"]


def same(left, right, tolerance=1e-5):
    assert left.attributes.keys() == right.attributes.keys()
    for name, value in left.attributes.items():
        assert value == pytest.approx(right.attributes[name], abs=tolerance)


def test_values_are_named_and_in_the_corpus_scale_and_equal_the_evaluation(model, workdir):
    rows = {row["id"]: row for row in csv.DictReader((workdir / "evaluation" / "test.csv").open())}
    for number in (0, 1, 5):
        prediction = model.predict(clip(number), 16_000)
        assert tuple(prediction.attributes) == ATTRIBUTES
        row = rows[f"test_{number:03d}"]
        for name, value in prediction.attributes.items():
            assert value == pytest.approx(float(row[f"predicted_{name}"]), abs=1e-4)
        for name, value in prediction.emotions.items():
            assert value == pytest.approx(float(row[f"probability_{name}"]), abs=1e-4)
        assert sum(prediction.emotions.values()) == pytest.approx(1.0)
        assert prediction.emotion in mini_corpus.CATEGORIES


def test_a_path_an_array_a_pair_and_a_list_agree(model, tmp_path):
    audio = clip()
    soundfile.write(tmp_path / "clip.wav", audio, 16_000)
    from_array = model.predict(audio, 16_000)
    same(model.predict(tmp_path / "clip.wav"), from_array)
    same(model.predict(str(tmp_path / "clip.wav")), from_array)
    same(model.predict((audio, 16_000)), from_array)
    for prediction in model.predict([tmp_path / "clip.wav", (audio, 16_000)]):
        same(prediction, from_array)
    assert model.predict([]) == model.predict(()) == []


def test_a_list_comes_back_in_its_order_whatever_the_lengths(model):
    clips = [clip(number, "train") for number in range(20)]
    together = model.predict([(audio, 16_000) for audio in clips])
    for audio, prediction in zip(clips, together, strict=True):
        same(model.predict(audio, 16_000), prediction)


def test_any_rate_channel_count_and_width(model, tmp_path):
    audio = clip(3).astype(np.float32) / 32768
    wide = np.random.default_rng(0).normal(0, 0.1, (30_000, 2)).astype(np.float32)
    expected = model.predict(soxr.resample(wide.mean(axis=1), 48_000, 16_000, quality="HQ"), 16_000)
    same(model.predict(wide, 48_000), expected)
    soundfile.write(tmp_path / "stereo.wav", np.stack([audio, audio], axis=1), 16_000, subtype="PCM_24")
    same(model.predict(tmp_path / "stereo.wav"), model.predict(audio, 16_000), tolerance=1e-3)


def test_silence_and_a_single_sample_give_finite_numbers(model):
    for audio in (np.zeros(16_000, np.float32), np.zeros(1, np.float32)):
        prediction = model.predict(audio, 16_000)
        assert all(np.isfinite(value) for value in prediction.attributes.values())


def test_few_shapes_are_compiled(workdir):
    model = emojax.load(workdir)
    for length in range(1_000, 60_000, 1_777):
        model.predict(np.zeros(length, np.float32), 16_000)
    assert model._step.forward._cache_size() == 3  # 1, 2 and 4 s


def test_clips_compute_few_empty_rows_and_wait_for_others_within_a_bound(workdir, monkeypatch):
    model, rows = emojax.load(workdir), []
    model.seconds_at_once = 4
    forward = model._step.forward
    monkeypatch.setattr(model._step, "forward", lambda v, batch: rows.append(batch.num_samples) or forward(v, batch))
    clips = [(clip(number)[:4_800], 16_000) for number in range(5)]
    expected = [model.predict(item) for item in clips]
    for most_waiting, counts in ((10**7, [4, 1]), (15_000, [4, 1]), (14_000, [4, 1, 1]), (9_000, [1, 1, 1, 1, 1])):
        rows.clear()
        batches = BatchedPredictions(model, most_waiting=most_waiting)
        found = {}
        for number, (samples, _) in enumerate(clips):
            found |= batches.add(number, samples.astype(np.float32) / 2**15, "")
            assert batches.samples_waiting <= most_waiting
            found |= batches.end(number)
        found |= batches.rest()
        for number, one in enumerate(expected):
            same(found[number], one)
        assert [len(batch) for batch in rows] == counts
    rows.clear()
    model.predict(clips[:2])
    assert [len(batch) for batch in rows] == [1, 1]


def test_warmup_compiles_every_shape_of_later_calls(workdir):
    model = emojax.load(workdir)
    model.seconds_at_once = 4
    assert model.warmup(seconds=2.0, batch=4) == 4  # 1 and 4 rows of 1 s, 1 and 2 of 2 s
    compiled = model._step.forward._cache_size()
    assert compiled == 4
    for count in (1, 2, 3, 4):
        model.predict([(np.zeros(length, np.float32), 16_000) for length in (100, 17_000, 32_000, 9_000)[:count]])
        model.predict([(np.zeros(9_000, np.float32), 16_000)] * count)
    assert model._step.forward._cache_size() == compiled
    with pytest.raises(ConfigError, match=r"^warmup: seconds must be > 0 and batch >= 1, got 0 and 1$"):
        model.warmup(seconds=0)


def test_warmup_compiles_windows_of_clips_that_are_shorter_than_the_longest(workdir):
    model = emojax.load(workdir)
    model.windows = Windows(40_000, equal=True)
    assert model.warmup(seconds=4.0) == 3  # 1, 2 and 2.5 s, though a clip of 4 s has two windows of 2 s
    compiled = model._step.forward._cache_size()
    model.predict(np.zeros(40_000, np.float32), 16_000)
    assert model._step.forward._cache_size() == compiled


def test_kept_programs_are_not_compiled_again_unless_they_are_damaged(workdir, model, tmp_path):
    samples = clip()[:9_000]
    expected = model.predict(samples, 16_000)
    for compiled, change in ((1, None), (0, None), (1, lambda content: content[:-1]), (0, None)):
        if change:
            (path,) = tmp_path.iterdir()
            path.write_bytes(change(path.read_bytes()))
        other = emojax.load(workdir)
        other.keep_programs(tmp_path)
        before = COMPILATIONS.programs
        same(other.predict(samples, 16_000), expected)
        assert COMPILATIONS.programs - before == compiled
        assert other._step.forward._cache_size() == 0


@pytest.fixture(scope="module")
def windowed(workdir, mini_data_dir, tmp_path_factory):
    """A run whose validation had windows of half a second, in lengths of batches that are no multiples of it."""
    config = read_config(workdir)
    config = dataclasses.replace(
        config,
        evaluation=dataclasses.replace(config.evaluation, window_seconds=0.5),
        training=dataclasses.replace(config.training, epochs=1),
    )
    directory = tmp_path_factory.mktemp("runs") / "windowed"
    train_workdir(config, directory)
    return directory


def test_predict_validation_and_evaluation_agree_where_utterances_have_windows(windowed, workdir):
    evaluate_workdir(windowed, splits=("dev",))
    rows = list(csv.DictReader((windowed / "evaluation" / "dev.csv").open()))
    examples = [clip(int(row["id"].removeprefix("dev_")), "dev") for row in rows]
    assert {len(audio) % 8_000 >= 2_000 for audio in examples} == {True, False}  # the last is kept, or is left out
    predictions = emojax.load(windowed).predict([(audio, 16_000) for audio in examples])
    for row, prediction in zip(rows, predictions, strict=True):
        named = {f"predicted_{name}": value for name, value in prediction.attributes.items()}
        named |= {f"probability_{name}": value for name, value in prediction.emotions.items()}
        assert named == pytest.approx({name: float(row[name]) for name in named}, abs=6e-6)  # 1e-6 of the scale
    labels = np.array([[float(row[f"label_{name}"] or "nan") for name in ATTRIBUTES] for row in rows])
    predicted = np.array([[prediction.attributes[name] for name in ATTRIBUTES] for prediction in predictions])
    logged = [json.loads(line) for line in (windowed / "metrics.jsonl").read_text().splitlines()]
    (validation,) = [line for line in logged if "validation/ccc_activation" in line]
    for name, value in regression_scores(predicted, labels)["ccc"].items():
        assert validation[f"validation/ccc_{name}"] == pytest.approx(value, abs=1e-5)
    whole = emojax.load(workdir).predict(examples[0], 16_000)
    assert whole.attributes != pytest.approx(predictions[0].attributes, abs=1e-3)


@pytest.mark.parametrize("samples", [7_999, 8_000, 8_001, 9_999, 10_000, 16_000, 23_456, 30_001])
def test_around_the_bounds_of_windows_a_clip_is_the_mean_of_its_windows(windowed, samples):
    model = emojax.load(windowed)
    audio = np.random.default_rng(samples).normal(0, 0.1, samples).astype(np.float32)
    pieces = [audio[start : start + 8_000] for start in range(0, samples, 8_000)]
    pieces = [piece for number, piece in enumerate(pieces) if number == 0 or len(piece) >= 2_000]
    each = [model.predict(piece, 16_000) for piece in pieces]
    weights = np.array([len(piece) for piece in pieces]) / sum(len(piece) for piece in pieces)
    found = model.predict(audio, 16_000)
    for name, value in found.attributes.items():
        expected = weights @ [prediction.attributes[name] for prediction in each]
        assert value == pytest.approx(expected, abs=6e-6)
    for name, value in found.emotions.items():
        assert value == pytest.approx(weights @ [prediction.emotions[name] for prediction in each], abs=1e-6)
    np.testing.assert_allclose(found.embedding, weights @ [p.embedding for p in each], atol=2e-6)


def test_a_folder_that_is_no_workdir_is_named(tmp_path, workdir):
    with pytest.raises(CheckpointError, match=r"config.json: no such file; .* is not a workdir"):
        emojax.load(tmp_path)
    import shutil

    broken = tmp_path / "broken"
    shutil.copytree(workdir, broken)
    shutil.rmtree(broken / "checkpoints")
    with pytest.raises(CheckpointError, match=r"has no checkpoint yet; train it first"):
        emojax.load(broken)


def test_loading_runs_no_code_of_the_workdir(workdir, tmp_path):
    import shutil

    copied = tmp_path / "copied"
    shutil.copytree(workdir, copied)
    for name in ("config.py", "sitecustomize.py", "__init__.py", "checkpoints/evil.py"):
        (copied / name).write_text(f"open({str(tmp_path / 'ran')!r}, 'w')")
    assert emojax.load(copied).predict(clip(), 16_000)
    assert not (tmp_path / "ran").exists()
    assert jax.device_count() == 8


@pytest.fixture
def folder(tmp_path):
    """Two clips in folders, a file that is no audio, and one that has no audio suffix."""
    (tmp_path / "clips" / "more").mkdir(parents=True)
    soundfile.write(tmp_path / "clips" / "a.wav", clip(0), 16_000)
    soundfile.write(tmp_path / "clips" / "more" / "b.FLAC", clip(1), 16_000)
    (tmp_path / "clips" / "broken.wav").write_text("not audio")
    (tmp_path / "clips" / "notes.txt").write_text("notes")
    return tmp_path / "clips"


def test_the_command_prints_a_csv_row_per_file_and_reports_those_that_cannot_be_read(workdir, model, folder, capsys):
    assert main(["predict", str(workdir), str(folder)]) == 1
    out, err = capsys.readouterr()
    assert err.startswith(f"error: {folder / 'broken.wav'}: cannot be read as audio")
    assert len(err.splitlines()) == 1
    rows = list(csv.DictReader(out.splitlines()))
    assert [row["file"] for row in rows] == [str(folder / "a.wav"), str(folder / "more" / "b.FLAC")]
    for row, number in zip(rows, (0, 1), strict=True):
        expected = model.predict(clip(number), 16_000)
        found = {name: float(row[name]) for name in ATTRIBUTES}
        assert found == pytest.approx(expected.attributes, abs=1e-4)
        assert row["emotion"] == expected.emotion
        found = {name: float(row[f"probability_{name}"]) for name in mini_corpus.CATEGORIES}
        assert found == pytest.approx(expected.emotions, abs=1e-4)


def test_the_command_prints_json_lines(workdir, model, folder, capsys):
    assert main(["predict", str(workdir), str(folder / "a.wav"), "--format=jsonl"]) == 0
    row = json.loads(capsys.readouterr().out)
    expected = model.predict(clip(0), 16_000)
    assert row["attributes"] == pytest.approx(expected.attributes, abs=1e-4)
    assert row["emotions"] == pytest.approx(expected.emotions, abs=1e-4)
    assert (row["file"], row["emotion"]) == (str(folder / "a.wav"), expected.emotion)


def test_the_command_refuses_paths_without_audio_before_it_loads_the_model(tmp_path, capsys):
    for path, message in ((tmp_path, "has no audio file"), (tmp_path / "none", "no such file or folder")):
        assert main(["predict", str(tmp_path / "no_workdir"), str(path)]) == 1
        assert message in capsys.readouterr().err
