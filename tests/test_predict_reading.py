"""Reading for the predict command: segments in one pass, long files window by window, decoding in processes."""

import os
import signal

import numpy as np
import pytest
import soundfile

from emojax.audio import read_audio
from emojax.evaluation.windows import WHOLE, Windows
from emojax.inference import decoding_pool, decoding_worker, reading
from emojax.inference.decoding_pool import DecodingPool, default_workers, tasks_of
from emojax.inference.reading import End, Failure, Reading, Samples, cut, read_clips
from emojax.inference.sources import Clip

RATE = 16_000
HALVES = Windows(RATE // 2)
EQUAL = Windows(RATE, equal=True)
SERVE = decoding_worker.serve


@pytest.fixture
def noise(tmp_path):
    """Function that writes a file of noise and returns its path and the samples that `read_audio` returns."""

    def noise(name="noise.wav", seconds=10.0, rate=RATE):
        values = np.random.default_rng(0).normal(0, 0.1, round(seconds * rate))
        soundfile.write(tmp_path / name, values, rate)
        return tmp_path / name, read_audio(tmp_path / name)

    return noise


@pytest.fixture(params=["kept", "read again"])
def kept(request, monkeypatch):
    """Limits of the samples that are kept: none of the tests' clips, or clips of 0.3 s."""
    if request.param == "read again":
        monkeypatch.setattr(reading, "_KEPT", round(0.3 * RATE))
    return request.param == "kept"


def by_clip(events):
    windows, ends, failures = {}, {}, {}
    for event in events:
        if isinstance(event, Samples):
            assert event.clip not in ends
            windows.setdefault(event.clip, []).append(event.values)
        else:
            (ends if isinstance(event, End) else failures)[event.clip] = event
    return windows, ends, failures


@pytest.mark.parametrize("windows", [WHOLE, HALVES, EQUAL])
@pytest.mark.parametrize("rate", [16_000, 44_100])
def test_windows_are_those_of_the_whole_waveform(noise, kept, windows, rate):
    path, samples = noise("noise.flac", 7.3, rate)
    found, ends, failures = by_clip(read_clips([(4, Clip("n", path))], Reading(windows, 400)))
    assert not failures
    assert ends == {4: End(4, 0.0, len(samples) / RATE, "")}
    for part, (start, length) in zip(found[4], windows.of(len(samples)), strict=True):
        np.testing.assert_array_equal(part, samples[start : start + length])


def test_segments_of_a_file_are_read_in_one_pass_in_any_order(noise, kept, monkeypatch):
    path, samples = noise(seconds=10)
    passes = []
    read_blocks = reading.read_blocks
    monkeypatch.setattr(reading, "read_blocks", lambda path: passes.append(path) or read_blocks(path))
    times = [(3.0, 3.2), (0.0, 0.25), (9.9, None), (3.1, 3.35), (2.0, 2.29)]
    clips = [(number, Clip("noise.wav", path, *bounds)) for number, bounds in enumerate(times)]
    found, ends, failures = by_clip(read_clips(clips, Reading(WHOLE, 400)))
    assert not failures
    for number, (start, end) in enumerate(times):
        (values,) = found[number]
        np.testing.assert_array_equal(values, samples[round(start * RATE) : None if end is None else round(end * RATE)])
        assert (ends[number].start, ends[number].end) == (start, end or 10.0)
    assert (len(passes) == 1) == kept


def test_times_beyond_the_file_are_cut_or_fail_with_one_line(noise):
    path, _ = noise(seconds=2)
    times = [(1.0, 2.0005), (1.0, 3.5), (2.0, 3.0), (5.0, None), (1.999, 2.5), (0.0, 0.00001)]
    clips = [(number, Clip("a.wav", path, *bounds)) for number, bounds in enumerate(times)]
    found, ends, failures = by_clip(read_clips(clips, Reading(WHOLE, 400)))
    assert ends == {0: End(0, 1.0, 2.0, ""), 1: End(1, 1.0, 2.0, "a.wav [1 to 3.5 s]: ends with the file, at 2 s")}
    assert [len(values) for number in (0, 1) for values in found[number]] == [RATE, RATE]
    assert {number: failure.message for number, failure in failures.items()} == {
        2: "a.wav [2 to 3 s]: start 2 s is beyond the end of the file, 2 s",
        3: "a.wav [5 s to its end]: start 5 s is beyond the end of the file, 2 s",
        4: "a.wav [1.999 to 2.5 s]: must have at least 400 samples at 16 kHz (25 ms, one frame of this model), got 16",
        5: "a.wav [0 to 1e-05 s]: must have at least 400 samples at 16 kHz (25 ms, one frame of this model), got 0",
    }


def test_files_that_cannot_be_read_fail_with_one_line(tmp_path):
    (tmp_path / "empty.wav").touch()
    (tmp_path / "notes.wav").write_text("notes")
    (tmp_path / "dead.wav").symlink_to("nowhere.wav")
    soundfile.write(tmp_path / "nan.wav", [0.0, np.nan, 0.0], RATE, subtype="FLOAT")
    limits = "must be finite and at most 1000 (full scale 1.0; pass integers as int16 or int32)"
    for name, message in (
        ("nan.wav", f"list/nan.wav: sample 1 {limits}, got nan"),
        ("empty.wav", "list/empty.wav: has no bytes"),
        ("notes.wav", "list/notes.wav: cannot be read as audio (Format not recognised)"),
        ("dead.wav", "list/dead.wav: no such file (a link to nowhere.wav)"),
        ("gone.wav", "list/gone.wav: no such file"),
        (".", "list/.: must be an audio file, got a directory"),
    ):
        (event,) = read_clips([(0, Clip(f"list/{name}", tmp_path / name))], Reading(WHOLE, 0))
        assert event == Failure(0, message)


def test_a_model_without_audio_input_reads_a_second_and_a_recognizer_the_whole(noise, kept, monkeypatch):
    path, samples = noise(seconds=3)
    clip = [(0, Clip("a.wav", path))]
    found, ends, _ = by_clip(read_clips(clip, Reading(WHOLE, 0, audio=False)))
    assert [len(values) for values in found[0]] == [RATE]
    assert ends[0].end == 3.0
    found, _, _ = by_clip(read_clips(clip, Reading(HALVES, 0, whole=True)))
    np.testing.assert_array_equal(*found[0], samples)
    monkeypatch.setattr(reading, "MAX_SECONDS", 2.0)
    _, _, failures = by_clip(read_clips(clip, Reading(HALVES, 0, whole=True)))
    assert failures[0].message.startswith("a.wav: must have at most ")


def test_a_file_of_any_length_is_held_one_window_and_one_block_at_a_time():
    read, taken = [0], []

    def blocks():
        for number in range(1000):
            read[0] += 100
            yield np.full(100, number, np.float32)

    bounds = [(start, 250) for start in range(50, 99_000, 300)]
    for start, values in zip([start for start, _ in bounds], cut(blocks(), bounds, "a.wav"), strict=True):
        assert len(values) == 250
        assert read[0] < start + 250 + 100  # nothing is read ahead
        taken.append(values[0])
    np.testing.assert_array_equal(taken, [start // 100 for start, _ in bounds])


def test_a_file_that_becomes_shorter_while_it_is_read_fails(noise, monkeypatch):
    path, samples = noise(seconds=3)
    monkeypatch.setattr(reading, "_KEPT", RATE)
    calls = []

    def read_blocks(path):
        calls.append(path)
        yield samples if len(calls) == 1 else samples[:RATE]

    monkeypatch.setattr(reading, "read_blocks", read_blocks)
    *_, event = read_clips([(0, Clip("a.wav", path))], Reading(HALVES, 0))
    assert event == Failure(0, "a.wav: changed while it was read, it has 16000 samples in place of 48000")


def test_clips_are_grouped_by_file():
    clips = list(enumerate([Clip(name, name) for name in "aababb"]))
    assert [[number for number, _ in task] for task in tasks_of(clips)] == [[0, 1], [2], [3], [4, 5]]
    assert default_workers(2) == 0 < default_workers(1000) <= 8


def crash(clips, reading):
    if "crash" in clips[0][1].file:
        os.kill(os.getpid(), signal.SIGKILL)
    return read_clips(clips, reading)


def test_processes_read_what_this_process_reads_and_a_crash_fails_one_file(noise, monkeypatch):
    path, _ = noise(seconds=3)
    clips = [(number, Clip(f"{number}.wav", path, number / 10, number / 10 + 0.5)) for number in range(8)]
    clips[5] = (5, Clip("crash.wav", path.with_name("crash.wav")))
    expected, ends, _ = by_clip(read_clips(clips[:5] + clips[6:], Reading(HALVES, 400)))
    monkeypatch.setattr(decoding_pool, "_SEGMENTS_AT_ONCE", 1)
    monkeypatch.setattr(decoding_pool, "_READ_AHEAD", 100)
    monkeypatch.setattr(decoding_worker, "serve", serve_and_crash)
    with DecodingPool(2) as pool:
        for _ in range(2):  # a pool is used again, after its process was replaced
            found, found_ends, failures = by_clip(pool.read(iter(clips), Reading(HALVES, 400)))
            assert found_ends == ends
            for number, values in expected.items():
                np.testing.assert_array_equal(np.concatenate(found[number]), np.concatenate(values))
            message = "crash.wav: cannot be read as audio (the process that decoded it ended with signal 9)"
            assert failures == {5: Failure(5, message)}
        events = pool.read(iter(clips), Reading(HALVES, 400))
        next(events)  # the rest is not read


def serve_and_crash(connection, inherited):
    """Serves as a worker process, which is killed by files of the name `crash.wav`."""
    decoding_worker.read_clips = crash
    SERVE(connection, inherited)
