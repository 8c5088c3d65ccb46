"""Waveform augmentation: noise, reverberation, speed and gain, compared with scipy and soxr."""

import functools
import re

import hypothesis
import hypothesis.strategies as st
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.fft
import scipy.signal
import soundfile
import soxr

from emojax.audio import (
    active_power,
    add_noise,
    augment_waveform,
    change_speed,
    convolve,
    load_sounds,
    noise_bank,
    reverberate,
    room_bank,
    speech_activity,
)
from emojax.audio.degradations import fast_length
from emojax.audio.waveform_augment import (
    GainConfig,
    NoiseConfig,
    ReverberationConfig,
    SpeedConfig,
    WaveformAugmentConfig,
)
from emojax.errors import AudioError, ConfigError
from emojax.parallel import MeshConfig, batch_sharding, make_mesh, replicated

SAMPLES = 16_000


def speech(lengths=(16_000, 9_000, 12_345), seed=0):
    """Bursts of tone with pauses, zero after each clip's end, and the lengths."""
    random = np.random.default_rng(seed)
    rows = []
    for length in lengths:
        time = np.arange(SAMPLES) / 16_000
        envelope = (np.sin(2 * np.pi * 2.3 * time + random.uniform(0, 6)) > 0) * random.uniform(0.05, 0.3)
        row = envelope * np.sin(2 * np.pi * random.uniform(200, 900) * time)
        rows.append(np.where(np.arange(SAMPLES) < length, row, 0))
    return jnp.asarray(np.stack(rows), jnp.float32), jnp.asarray(lengths)


def config(noise=0.0, room=0.0, gain=0.0, speed=0.0, folder=""):
    return WaveformAugmentConfig(
        speed=SpeedConfig(speed, 0.1),
        reverberation=ReverberationConfig(room, 0.5, folder),
        noise=NoiseConfig(noise, 0.0, 20.0, folder),
        gain=GainConfig(gain, 6.0),
        bank_clips=5,
        bank_seconds=0.7,
    )


@hypothesis.settings(deadline=None, max_examples=10)
@hypothesis.given(snr=st.floats(-10, 40), seed=st.integers(0, 1000))
def test_add_noise_has_the_requested_snr_over_speech(snr, seed):
    waveform, lengths = speech(seed=seed)
    noise = jnp.asarray(np.random.default_rng(seed).normal(0, 3.0, waveform.shape), jnp.float32)
    noisy = add_noise(waveform, lengths, noise, jnp.full(3, snr))
    active = np.asarray(speech_activity(waveform, lengths))
    added = np.asarray(noisy, np.float64) - np.asarray(waveform, np.float64)
    for row in range(3):
        on = active[row]
        assert 0.2 < on[: int(lengths[row])].mean() < 0.8  # pauses are not speech
        power = np.square(np.asarray(waveform[row], np.float64)[on]).mean()
        found = 10 * np.log10(power / np.square(added[row][on]).mean())
        assert found == pytest.approx(snr, abs=0.01)
        assert not np.asarray(noisy[row, int(lengths[row]) :]).any()


def test_add_noise_does_not_change_silence_or_infinite_snr():
    waveform, lengths = speech()
    silent = waveform.at[0].set(0.0)
    noise = jnp.ones_like(silent).at[1].set(0.0)
    noisy = add_noise(silent, lengths, noise, jnp.array([10.0, 10.0, jnp.inf]))
    np.testing.assert_array_equal(noisy, silent)
    assert not speech_activity(silent, lengths)[0].any()


def test_speech_activity_does_not_depend_on_padding():
    waveform, lengths = speech()
    longer = jnp.pad(waveform, ((0, 0), (0, 777)), constant_values=0.9)
    np.testing.assert_array_equal(speech_activity(longer, lengths)[:, :SAMPLES], speech_activity(waveform, lengths))
    assert float(active_power(waveform, jnp.zeros(waveform.shape, bool)).max()) == 0.0


@pytest.mark.parametrize("length", [1, 2, 700, 8_000])
def test_convolution_equals_scipy(length):
    waveform, _ = speech()
    response = np.random.default_rng(length).normal(0, 0.1, (3, length)).astype(np.float32)
    expected = scipy.signal.fftconvolve(np.asarray(waveform, np.float64), response.astype(np.float64), axes=1)
    found = convolve(waveform, jnp.asarray(response))
    np.testing.assert_allclose(found, expected, atol=1e-5 * np.abs(expected).max())


def test_fast_length_is_the_next_fast_size():
    for least in [*range(1, 500), 79_999, 100_001, 131_073]:
        assert fast_length(least) == scipy.fft.next_fast_len(least, real=True)


def test_reverberation_preserves_timing_energy_and_padding():
    waveform, lengths = speech()
    response = np.zeros((3, 4_000), np.float32)
    response[:, 300] = 0.8  # direct sound after 300 samples
    response[1, 1_000], response[2, 3_999] = 0.4, -0.5
    wet = np.asarray(
        reverberate(waveform + 7.0 * (jnp.arange(SAMPLES) >= lengths[:, None]), lengths, jnp.asarray(response))
    )
    np.testing.assert_allclose(wet[0], waveform[0], atol=1e-5)
    dry = np.asarray(waveform, np.float64)
    expected = scipy.signal.fftconvolve(dry[1], response[1].astype(np.float64))[300 : 300 + SAMPLES]
    expected[9_000:] = 0
    expected *= np.sqrt(np.square(dry[1]).sum() / np.square(expected).sum())
    np.testing.assert_allclose(wet[1], expected, atol=1e-5)
    np.testing.assert_allclose(np.square(wet).sum(axis=1), np.square(dry).sum(axis=1), rtol=1e-4)
    untouched = reverberate(waveform, lengths, jnp.zeros((3, 10)))
    np.testing.assert_array_equal(untouched, waveform)


def test_change_speed_is_exact_for_one_and_equals_soxr_in_band():
    waveform, lengths = speech((16_000, 9_000, 16_000))
    waveform = waveform.at[2].set(jnp.asarray(_band_limited(16_000, 3_500)))
    factors = jnp.array([1.0, 1.25, 0.9], jnp.float32)
    found, changed = change_speed(waveform, lengths, factors)
    np.testing.assert_array_equal(found[0], waveform[0])
    np.testing.assert_array_equal(changed, [16_000, 7_200, 16_000])
    assert not np.asarray(found[1, 7_200:]).any()
    expected = soxr.resample(np.asarray(waveform[2]), 16_000 * 0.9, 16_000, quality="VHQ")[:16_000]
    inside = slice(200, 15_800)
    error = np.asarray(found[2])[inside] - expected[inside]
    ratio = 10 * np.log10(np.square(expected[inside]).mean() / np.square(error).mean())
    assert ratio > 50  # dB, for content below 3.5 kHz


def test_change_speed_attenuates_aliases():
    time = np.arange(SAMPLES) / 16_000
    tone = jnp.asarray(np.sin(2 * np.pi * 7_600 * time)[None], jnp.float32)
    found, changed = change_speed(tone, jnp.array([SAMPLES]), jnp.array([1.4]))
    inside = np.asarray(found[0, 200 : int(changed[0]) - 200])
    assert 20 * np.log10(np.sqrt(2 * np.square(inside).mean())) < -20


def test_augmentations_keep_padding_zero_and_rows_independent():
    waveform, lengths = speech()
    for settings in (
        config(noise=1.0),
        config(room=1.0),
        config(gain=1.0),
        config(speed=1.0),
        config(1.0, 1.0, 1.0, 1.0),
    ):
        sounds = load_sounds(settings, seed=0)
        augment = jax.jit(functools.partial(augment_waveform, sounds=sounds, config=settings))
        found, changed = augment(jax.random.key(1), waveform, lengths)
        assert np.isfinite(found).all()
        assert not np.allclose(found, waveform)
        for row in range(3):
            assert not np.asarray(found[row, int(changed[row]) :]).any()
        other, _ = augment(jax.random.key(1), waveform.at[0].multiply(0.5), lengths)
        np.testing.assert_array_equal(other[1:], found[1:])
        again, _ = augment(jax.random.key(1), waveform, lengths)
        np.testing.assert_array_equal(again, found)


def test_augmentation_probabilities_are_shares_of_rows():
    waveform = jnp.full((200, 2_000), 0.1)
    settings = config(gain=0.3)
    found, _ = augment_waveform(jax.random.key(0), waveform, jnp.full(200, 2_000), load_sounds(settings, 0), settings)
    changed = ~np.isclose(found, waveform).all(axis=1)
    assert 0.2 < changed.mean() < 0.4


def test_bundled_noises_for_training_and_evaluation_are_disjoint():
    training = noise_bank("", "train", 1000, 0.1, seed=0)
    evaluation = noise_bank("", "evaluation", 1000, 0.1, seed=0)
    assert len(training.names) > 40
    assert len(evaluation.names) > 20
    assert not set(training.names) & set(evaluation.names)
    np.testing.assert_allclose(np.abs(training.sounds).max(axis=1), 1.0, atol=1e-6)
    training, evaluation, every = (
        room_bank("", part, 100, 2.0, seed=0).names for part in ("train", "evaluation", None)
    )
    assert (len(training), len(evaluation)) == (2, 5)
    assert sorted(training + evaluation) == sorted(every)


def test_noise_folder_is_searched_split_and_checked(tmp_path):
    random = np.random.default_rng(0)
    for number in range(30):
        path = tmp_path / "musan" / "noise" / f"part-{number % 3}" / f"n{number}.wav"
        path.parent.mkdir(parents=True, exist_ok=True)
        soundfile.write(path, random.normal(0, 0.1, 4_000 + number), 8_000)
    training = noise_bank(str(tmp_path / "musan"), "train", 100, 5.0, seed=3)
    evaluation = noise_bank(str(tmp_path / "musan"), "evaluation", 100, 5.0, seed=3)
    assert sorted(training.names + evaluation.names) == sorted(
        f"noise/part-{number % 3}/n{number}.wav" for number in range(30)
    )
    assert evaluation.names
    assert training.lengths.min() >= 8_000  # resampled to 16 kHz
    assert len(noise_bank(str(tmp_path / "musan"), "train", 4, 0.1, seed=3).names) == 4
    with pytest.raises(ConfigError, match="no such folder"):
        noise_bank(str(tmp_path / "gone"), "train", 1, 1.0, 0)
    (tmp_path / "empty").mkdir()
    with pytest.raises(ConfigError, match="has no audio files for train"):
        noise_bank(str(tmp_path / "empty"), "train", 1, 1.0, 0)
    (tmp_path / "bad").mkdir()
    for number in range(20):
        (tmp_path / "bad" / f"{number}.wav").write_bytes(b"RIFF")
    with pytest.raises(AudioError, match=r"bad/\d+\.wav"):
        noise_bank(str(tmp_path / "bad"), "train", 1, 1.0, 0)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: NoiseConfig(1.5, 0.0, 1.0, ""), r"probability must be >= 0 and <= 1, got 1\.5"),
        (lambda: NoiseConfig(0.5, 10.0, 1.0, ""), "low_snr_db must be <= high_snr_db"),
        (lambda: SpeedConfig(0.5, 0.6), "max_change must be"),
        (lambda: GainConfig(0.5, -1.0), "max_db must be"),
        (lambda: ReverberationConfig(0.5, 0.0, ""), "max_seconds must be"),
    ],
)
def test_invalid_value_raises_naming_the_field(make, message):
    with pytest.raises(ConfigError, match=message):
        make()


def test_augmentation_keeps_batches_sharded():
    mesh = make_mesh(MeshConfig(data=4, fsdp=2))
    everything = config(noise=1.0, room=1.0, gain=1.0, speed=1.0)
    sounds = jax.device_put(load_sounds(everything, seed=0), replicated(mesh))
    key = jax.random.key(0)
    waveform, lengths = speech((16_000, 9_000, 12_345, 7_000) * 4)
    change = jax.jit(functools.partial(augment_waveform, sounds=sounds, config=everything))
    expected, _ = change(key, waveform, lengths)
    rows = jax.device_put((waveform, lengths), batch_sharding(mesh))
    changed, _ = change(key, *rows)
    np.testing.assert_allclose(changed, expected, atol=1e-5)
    program = change.lower(key, *rows).compile().as_text()
    moved = re.findall(r"= (\w+\[[\d,]*\])\S* (?:all-gather|all-to-all|all-reduce|collective-permute)\(", program)
    assert moved == []


def _band_limited(samples, highest_hz):
    spectrum = np.fft.rfft(np.random.default_rng(0).normal(0, 0.2, samples))
    spectrum[int(highest_hz / 8_000 * len(spectrum)) :] = 0
    return np.fft.irfft(spectrum, samples).astype(np.float32)
