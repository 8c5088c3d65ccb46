"""Annotation of recordings and of many files: contents, resume, bad input in one line."""

import dataclasses
import io
import json
import signal

import numpy as np
import pytest
import soundfile

from emojax.annotation import read_annotation, run
from emojax.annotation.annotator import Annotator, batches_of, describe
from emojax.annotation.config import ActivityConfig, AnnotateConfig, SegmentsConfig, TrackConfig
from emojax.annotation.recording import measure
from emojax.annotation.speakers import make_turns
from emojax.errors import AudioError, ConfigError, EmojaxError
from tests.annotation_examples import ModelDouble, bursts
from tests.test_annotation_transcripts import Spoken

CONFIG = AnnotateConfig(
    activity=ActivityConfig(detector="energy"),
    segments=SegmentsConfig(min_seconds=0.5, max_seconds=4.0),
    track=TrackConfig(window_seconds=1.0, hop_seconds=0.25, smoothing_seconds=0.0),
    formats=("csv", "rttm", "vtt", "srt", "audacity", "textgrid", "elan"),
)
SPANS = [(1.0, 3.0), (5.0, 12.0)]
TALK = bursts(14.0, SPANS, level=0.2)


def annotated(waveform=TALK, model=None, config=CONFIG, turns=None, recognizer=None):
    model = model or ModelDouble()
    recording = measure([waveform], io.BytesIO(), None)
    return Annotator(model, describe(model, "double"), config, recognizer).annotate_recording(recording, turns, "f")


def mean(waveform, start, end):
    return float(np.mean(waveform[round(start * 16_000) : round(end * 16_000)]))


def test_segments_and_windows_are_predicted_from_their_samples():
    found = annotated()
    assert found.duration == 14.0
    assert len(found.segments) >= 3  # the second is longer than 4 s
    assert all(segment.end - segment.start <= 4 for segment in found.segments)
    assert abs(found.segments[0].start - 0.9) < 0.1
    assert abs(found.segments[-1].end - 12.1) < 0.1
    for segment in found.segments:
        expected = mean(TALK, segment.start, segment.end)
        assert segment.attributes == dict.fromkeys(("activation", "valence", "dominance"), expected)
        assert segment.emotion == "anger"
        assert (segment.speaker, segment.transcript, segment.words, segment.spread) == (None, None, None, None)
    track = found.track
    assert track.times[0] == 0.5
    assert track.times[-1] == 13.5
    inside = np.array([any(s.start <= time < s.end for s in found.segments) for time in track.times])
    np.testing.assert_array_equal(np.isfinite(track.attributes["valence"]), inside)
    for time, value in zip(track.times[inside], track.attributes["valence"][inside], strict=True):
        np.testing.assert_allclose(value, mean(TALK, time - 0.5, time + 0.5), rtol=1e-6)
    assert track.spread is None
    assert found.speech_seconds < 10


def test_distributions_give_a_spread_and_plain_models_no_categories():
    found = annotated(model=ModelDouble(categories=(), distributions=True))
    assert found.model.categories == ()
    assert {segment.emotion for segment in found.segments} == {None}
    assert found.segments[0].probabilities is None
    np.testing.assert_allclose(found.segments[0].spread["valence"], 1.0)
    spread = found.track.spread["activation"]
    np.testing.assert_allclose(spread[np.isfinite(spread)], 1.0)
    assert json.loads(json.dumps(found.to_tree(), allow_nan=False))["categories"] == []


def test_smoothing_averages_windows():
    rough = annotated().track.attributes["valence"]
    smooth = annotated(
        config=dataclasses.replace(CONFIG, track=dataclasses.replace(CONFIG.track, smoothing_seconds=1.0))
    )
    valid = np.isfinite(rough)
    assert np.abs(np.diff(smooth.track.attributes["valence"][valid])).sum() < np.abs(np.diff(rough[valid])).sum()


def test_turns_give_speakers_and_a_recognizer_transcripts():
    turns = make_turns([(0.0, 4.0, "A"), (5.0, 30.0, "B")])
    recognizer = Spoken()
    config = dataclasses.replace(CONFIG, transcripts=True)
    found = annotated(config=config, turns=turns, recognizer=recognizer)
    speakers = [segment.speaker for segment in found.segments]
    assert speakers == ["A", *["B"] * (len(speakers) - 1)]
    words = [word for segment in found.segments for word in segment.words]
    assert len(words) == recognizer.clips[0] // 16_000
    assert [word.start for word in words] == sorted(word.start for word in words)
    assert found.segments[0].transcript.startswith("w0 w1")


def test_models_with_a_lexical_modality_get_the_words_and_need_them():
    class Lexical(ModelDouble):
        takes_transcripts = True

    with pytest.raises(ConfigError, match=r"config.transcripts must be True: double has a lexical modality"):
        annotated(model=Lexical())
    model = Lexical()
    annotated(model=model, config=dataclasses.replace(CONFIG, transcripts=True), recognizer=Spoken())
    texts = [text for _, text in model.seen]
    assert texts[0].startswith("w0 w1")
    assert any(text.count("w") == 1 for text in texts)  # a window of one second


@pytest.mark.parametrize("seconds", [0.001, 0.01, 0.3, 1.0])
def test_short_recordings_have_at_most_one_segment_and_window(seconds):
    waveform = np.full(round(seconds * 16_000), 0.1, np.float32)
    waveform[::2] = -0.1
    found = annotated(np.concatenate([waveform, np.zeros(0, np.float32)]))
    assert len(found.segments) + found.skipped <= 1
    assert len(found.track.times) == 1
    found.to_tree()


def test_a_recording_without_speech_has_no_segments():
    found = annotated(np.zeros(16_000 * 60, np.float32))
    assert found.segments == ()
    assert not np.isfinite(found.track.attributes["valence"]).any()
    assert found.to_tree()["counts"] == {"segments": 0, "speech_seconds": 0, "skipped": 0}


def test_eight_hours_of_silence_have_a_track_without_values():
    minute, times = measure([np.zeros(16_000 * 60, np.float32)], io.BytesIO(), None), 8 * 60
    measured = {name: np.tile(getattr(minute, name), times) for name in ("probabilities", "levels", "peaks")}
    recording = dataclasses.replace(minute, num_samples=times * minute.num_samples, **measured)
    found = Annotator(ModelDouble(), describe(ModelDouble(), "double"), CONFIG).annotate_recording(recording, None, "f")
    assert (found.duration, found.segments) == (8 * 3600.0, ())
    assert np.isnan(found.track.attributes["valence"]).all()
    assert len(found.track.times) == pytest.approx(8 * 3600 / 0.25, abs=4)


def test_clips_are_read_in_batches():
    assert list(batches_of([])) == []
    assert list(batches_of([16_000] * 600)) == [(0, 256), (256, 512), (512, 600)]
    assert list(batches_of([16_000 * 500] * 3)) == [(0, 1), (1, 2), (2, 3)]


@pytest.fixture
def folder(tmp_path):
    """Recordings: two good ones, one in a subfolder; none is damaged."""
    recordings = tmp_path / "recordings"
    (recordings / "part").mkdir(parents=True)
    soundfile.write(recordings / "one.wav", TALK, 16_000, subtype="FLOAT")
    soundfile.write(recordings / "part" / "two.flac", TALK[: 8 * 16_000], 16_000)
    return recordings


@pytest.fixture
def model(monkeypatch):
    double = ModelDouble()
    monkeypatch.setattr(run, "load", lambda workdir: double)
    return double


def test_a_folder_is_annotated_once_and_continued(folder, model, tmp_path, monkeypatch):
    out = tmp_path / "out"
    outcome = run.annotate_files(tmp_path / "mfb", CONFIG, [folder], out)
    assert (outcome.total, outcome.annotated, outcome.missing) == (2, 2, 0)
    assert "2 of 2 recordings annotated; " in str(outcome)
    names = {path.relative_to(out).as_posix() for path in out.rglob("*") if path.is_file()}
    suffixes = [".json", ".csv", ".rttm", ".vtt", ".srt", ".labels.txt", ".TextGrid", ".eaf"]
    assert names == {f"{name}{suffix}" for name in ("one", "part/two") for suffix in suffixes}
    found = read_annotation(out / "part" / "two.json")
    assert found.file == "../../recordings/part/two.flac"
    assert found.model.name == "mfb"

    # The same once more: nothing is computed, and a missing format is written from the JSON file.
    rows = (out / "one.csv").read_text()
    (out / "one.csv").unlink()
    model.seen.clear()
    outcome = run.annotate_files(tmp_path / "mfb", CONFIG, [folder, folder / "one.wav"], out)
    assert (outcome.total, outcome.annotated, model.seen) == (2, 0, [])
    assert str(outcome) == "0 of 2 recordings annotated, 2 before or by other hosts"
    assert (out / "one.csv").read_text() == rows

    # Changed recordings, damaged annotations, other settings and models are computed.
    (out / "one.json").write_text((out / "one.json").read_text().replace("14.0", "15.0", 1))
    soundfile.write(folder / "part" / "two.flac", TALK[: 9 * 16_000], 16_000)
    assert run.annotate_files(tmp_path / "mfb", CONFIG, [folder], out).annotated == 2
    other = dataclasses.replace(CONFIG, segments=SegmentsConfig(min_seconds=0.6, max_seconds=4.0))
    assert run.annotate_files(tmp_path / "mfb", other, [folder], out).annotated == 2
    monkeypatch.setattr(run, "load", lambda workdir: ModelDouble(name="another"))
    assert run.annotate_files(tmp_path / "mfb", other, [folder], out).annotated == 2


def test_damaged_files_are_counted_and_named_and_the_others_annotated(folder, model, tmp_path, capsys):
    (folder / "broken.mp3").write_bytes(b"\x00\x01" * 500)
    (folder / "empty.wav").write_bytes(b"")
    outcome = run.annotate_files(tmp_path / "mfb", CONFIG, [folder], tmp_path / "out")
    assert (outcome.total, outcome.annotated, outcome.missing) == (4, 2, 2)
    assert "2 of 4 recordings annotated, 2 failed; " in str(outcome)
    errors = [line for line in capsys.readouterr().err.splitlines() if line.startswith("error: ")]
    assert len(errors) == 2
    assert f"{folder / 'broken.mp3'}: cannot be read as audio" in errors[0]
    assert errors[1] == f"error: {folder / 'empty.wav'}: has no bytes"


def test_a_signal_keeps_finished_recordings(folder, model, tmp_path, monkeypatch):
    received = []

    class Interruption:
        received = None

        def __enter__(self):
            received.append(self)
            return self

        def __exit__(self, *exception):
            pass

    monkeypatch.setattr(run, "Interruption", Interruption)
    predict = model.predict

    def predict_then_stop(*arguments, **options):
        if read_finished(tmp_path / "out"):
            received[0].received = signal.SIGTERM
        return predict(*arguments, **options)

    model.predict = predict_then_stop
    outcome = run.annotate_files(tmp_path / "mfb", CONFIG, [folder], tmp_path / "out")
    assert (outcome.annotated, outcome.interrupted_by) == (1, signal.SIGTERM)
    assert read_finished(tmp_path / "out") == ["one.json"]
    model.predict = predict
    assert run.annotate_files(tmp_path / "mfb", CONFIG, [folder], tmp_path / "out").annotated == 1


def read_finished(out):
    return sorted(path.name for path in out.rglob("*.json"))


def test_hosts_share_the_recordings(folder, model, tmp_path, monkeypatch):
    monkeypatch.setattr(run.jax, "process_count", lambda: 2)
    found = []
    for host in (1, 0):
        monkeypatch.setattr(run.jax, "process_index", lambda host=host: host)
        outcome = run.annotate_files(tmp_path / "mfb", CONFIG, [folder], tmp_path / "out")
        found.append((outcome.annotated, outcome.missing, read_finished(tmp_path / "out")))
    assert found[0][0] == 1
    assert found[0][2] == ["two.json"]
    assert found[1] == (1, 0, ["one.json", "two.json"])


def test_rttm_gives_speakers_and_one_of_another_file_is_an_error(folder, model, tmp_path):
    rttm = tmp_path / "turns.rttm"
    rttm.write_text("SPEAKER one 1 0 20 <NA> <NA> Anna <NA> <NA>\n")
    run.annotate_files(tmp_path / "mfb", CONFIG, [folder], tmp_path / "out", [rttm])
    assert {each.speaker for each in read_annotation(tmp_path / "out" / "one.json").segments} == {"Anna"}
    assert {each.speaker for each in read_annotation(tmp_path / "out" / "part" / "two.json").segments} == {None}
    with pytest.raises(EmojaxError, match=r"--rttm must have turns of two .*, got turns of one"):
        run.annotate_files(tmp_path / "mfb", CONFIG, [folder / "part"], tmp_path / "out", [rttm])
    own = tmp_path / "out" / "one.rttm"
    with pytest.raises(ConfigError, match=r"one.rttm would be overwritten; use another --output"):
        run.annotate_files(tmp_path / "mfb", CONFIG, [folder], tmp_path / "out", [own])


def test_names_that_would_collide_and_missing_files_are_errors(folder, model, tmp_path):
    soundfile.write(folder / "part" / "one.wav", TALK, 16_000)
    inputs = [folder / "one.wav", folder / "part" / "one.wav"]
    with pytest.raises(ConfigError, match=r"one.wav and .*one.wav would both be written to .*one.json; rename one"):
        run.annotate_files(tmp_path / "mfb", CONFIG, inputs, tmp_path / "out")
    with pytest.raises(AudioError, match=r"none.wav: no such file or folder"):
        run.annotate_files(tmp_path / "mfb", CONFIG, [folder / "none.wav"], tmp_path / "out")


def test_too_long_recordings_are_refused(folder, model, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr("emojax.annotation.recording.MAX_SECONDS", 10.0)
    outcome = run.annotate_files(tmp_path / "mfb", CONFIG, [folder / "one.wav"], tmp_path / "out")
    assert outcome.missing == 1
    assert "one.wav: must have at most 0.00277778 hours, got 0.0" in capsys.readouterr().err


def test_the_page_plays_the_recording(folder, model, tmp_path):
    (folder / "one.wav").rename(folder / "one #1.wav")
    config = dataclasses.replace(CONFIG, formats=("html", "elan"))
    run.annotate_files(tmp_path / "mfb", config, [folder / "one #1.wav"], tmp_path / "out")
    page = (tmp_path / "out" / "one #1.html").read_text()
    assert '"./../recordings/one%20%231.wav"' in page
    assert "../recordings/one%20%231.wav" in (tmp_path / "out" / "one #1.eaf").read_text()
