"""Log-mel energies: equality with librosa and transformers, independence of padding, gradients."""

import dataclasses
from pathlib import Path

import jax
import jax.numpy as jnp
import librosa
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers.audio_utils import mel_filter_bank, spectrogram, window_function

from emojax.audio import LogMelConfig, frame_mask, log_mel, num_frames, read_audio
from emojax.audio.mel_energies import mel_energies, mel_energies_by_products
from emojax.audio.mel_scale import mel_filterbank
from emojax.errors import ConfigError
from emojax.schema import parse, to_tree

HTK = LogMelConfig(
    num_bands=40,
    window_ms=25.0,
    hop_ms=10.0,
    fft_size=512,
    low_hz=20.0,
    high_hz=8000.0,
    mel_scale="htk",
    mel_norm="none",
    floor=1e-8,
)
WHISPER = dataclasses.replace(
    HTK, num_bands=80, fft_size=400, low_hz=0.0, mel_scale="slaney", mel_norm="slaney", floor=1e-10
)
EMODB = Path(__file__).parents[1] / "tfds_builders" / "emodb" / "audio"

_jitted = jax.jit(log_mel, static_argnames="config")


def _librosa(waveform, config):
    # librosa centres a short window in the transform; its frames begin that much earlier.
    margin = (config.fft_size - config.window_samples) // 2
    energies = librosa.feature.melspectrogram(
        y=np.pad(waveform, ((0, 0), (margin, margin))).astype(np.float64),  # librosa rounds like its input
        sr=16000,
        n_fft=config.fft_size,
        hop_length=config.hop_samples,
        win_length=config.window_samples,
        window="hann",
        center=False,
        power=2.0,
        n_mels=config.num_bands,
        fmin=config.low_hz,
        fmax=config.high_hz,
        htk=config.mel_scale == "htk",
        norm=None if config.mel_norm == "none" else "slaney",
    )
    return np.log(np.maximum(energies, config.floor)).swapaxes(1, 2)


def _random_waveform(samples, rows=2, level=0.1):
    rng = np.random.default_rng(samples)
    return (rng.normal(size=(rows, samples)) * level * np.abs(rng.normal(size=(rows, samples)))).astype(np.float32)


def _assert_same_energies(ours, reference):
    """Energies within 1e-4, and what rounding to float32 adds: 2**-24 of the amplitude of the frame's strongest band.

    In a band's energy that is twice as much times its own amplitude, and -110 dB where the band itself is silent.
    """
    assert ours.shape == reference.shape
    energies, expected = np.exp(np.asarray(ours, np.float64)), np.exp(np.asarray(reference, np.float64))
    strongest = expected.max(axis=-1, keepdims=True)
    allowed = 1e-4 * expected + 2 * 2**-24 * np.sqrt(expected * strongest) + 1e-11 * strongest
    assert (np.abs(energies - expected) <= allowed).all(), np.abs(energies / expected - 1).max()


@pytest.mark.parametrize(
    "config",
    [
        HTK,
        WHISPER,
        dataclasses.replace(HTK, fft_size=400),
        dataclasses.replace(HTK, window_ms=32.0, hop_ms=16.0, high_hz=7600.0),
        dataclasses.replace(HTK, window_ms=20.0, hop_ms=7.5, mel_norm="slaney"),
        dataclasses.replace(HTK, window_ms=10.0, hop_ms=15.0),
    ],
)
def test_equals_librosa_on_noise(config):
    waveform = _random_waveform(16123)
    ours = _jitted(jnp.asarray(waveform), config)
    _assert_same_energies(ours, _librosa(waveform, config))


@pytest.mark.parametrize("fft_size", [400, 512])
def test_products_of_accelerators_equal_the_transform_of_cpus(fft_size):
    bands = dataclasses.replace(HTK, fft_size=fft_size).bands
    frames = np.random.default_rng(0).normal(size=(2, 5, 3, 400)).astype(np.float32) * np.hanning(401)[:400]
    by_products = mel_energies_by_products(jnp.asarray(frames), bands)
    transformed = jax.vmap(lambda rows: mel_energies(rows, bands))(jnp.asarray(frames))
    exact = np.abs(np.fft.rfft(frames, fft_size)) ** 2 @ mel_filterbank(bands)
    _assert_same_energies(np.log(by_products), np.log(exact))
    _assert_same_energies(np.log(transformed), np.log(exact))


def test_equals_librosa_on_recorded_speech():
    waveform = read_audio(sorted(EMODB.glob("*.opus"))[0])[None]
    for config in (dataclasses.replace(HTK, floor=1e-12), WHISPER):
        _assert_same_energies(_jitted(jnp.asarray(waveform), config), _librosa(waveform, config))


def test_many_and_long_clips_equal_one_short_clip_at_a_time():
    """Long clips are transformed in steps whose last one overlaps the one before."""
    waveform = _random_waveform(16000 * 25, rows=1)
    _assert_same_energies(_jitted(jnp.asarray(waveform), HTK), _librosa(waveform, HTK))
    waveform = _random_waveform(8000, rows=70)
    _assert_same_energies(_jitted(jnp.asarray(waveform), HTK), _librosa(waveform, HTK))


@pytest.mark.parametrize("config", [HTK, WHISPER])
def test_equals_transformers_spectrogram(config):
    waveform = _random_waveform(9000, rows=1)
    filters = mel_filter_bank(
        config.fft_size // 2 + 1,
        config.num_bands,
        config.low_hz,
        config.high_hz,
        16000,
        norm=None if config.mel_norm == "none" else "slaney",
        mel_scale=config.mel_scale,
    )
    reference = spectrogram(
        waveform[0],
        window_function(config.window_samples, "hann"),
        config.window_samples,
        config.hop_samples,
        config.fft_size,
        power=2.0,
        center=False,
        mel_filters=filters,
        mel_floor=config.floor,
        log_mel="log",
    )
    _assert_same_energies(_jitted(jnp.asarray(waveform), config)[0], reference.T)


def test_full_scale_integers_and_floats_give_the_same_energies():
    pcm = np.round(_random_waveform(8000) * 32768).clip(-32768, 32767).astype(np.int16)
    from_pcm = _jitted(jnp.asarray(pcm), HTK)
    assert from_pcm.dtype == jnp.float32
    np.testing.assert_allclose(from_pcm, _jitted(jnp.asarray(pcm / 32768.0, jnp.float32), HTK), rtol=1e-5)
    wide = _jitted(jnp.asarray(pcm.astype(np.int32) << 16), HTK)
    np.testing.assert_allclose(wide, from_pcm, rtol=1e-5)


def test_gain_shifts_log_energies():
    waveform = jnp.asarray(_random_waveform(8000))
    np.testing.assert_allclose(_jitted(10 * waveform, HTK) - _jitted(waveform, HTK), np.log(100.0), atol=1e-4)


@settings(deadline=None, max_examples=20)
@given(samples=st.integers(1, 2000), width=st.sampled_from([2000, 2700]), seed=st.integers(0, 99))
def test_valid_frames_do_not_depend_on_zero_padding(samples, width, seed):
    clip = np.random.default_rng(seed).normal(size=(1, samples)).astype(np.float32)
    padded = _jitted(jnp.asarray(np.pad(clip, ((0, 0), (0, width - samples)))), HTK)
    mask = frame_mask(jnp.array([samples]), padded.shape[1], HTK)
    alone = _librosa(np.pad(clip, ((0, 0), (0, max(HTK.window_samples - samples, 0)))), HTK)
    assert alone.shape[1] == mask.sum() == num_frames(samples, HTK)
    _assert_same_energies(padded[mask], alone[0])


@settings(deadline=None, max_examples=50)
@given(samples=st.integers(0, 5000))
def test_num_frames_counts_complete_frames_and_at_least_one(samples):
    starts = range(0, max(samples, 1), HTK.hop_samples)
    inside = sum(start + HTK.window_samples <= samples for start in starts)
    expected = max(inside, 1) if samples else 0
    assert num_frames(samples, HTK) == expected
    assert num_frames(np.array([samples]), HTK)[0] == expected
    assert num_frames(jnp.array([samples]), HTK)[0] == expected


def test_later_samples_do_not_change_earlier_frames():
    waveform = _random_waveform(4000)
    changed = waveform.copy()
    changed[:, 2000:] = 1.0
    before = num_frames(2000, HTK)
    ours, other = _jitted(jnp.asarray(waveform), HTK), _jitted(jnp.asarray(changed), HTK)
    np.testing.assert_allclose(ours[:, :before], other[:, :before], atol=1e-5)
    assert np.abs(ours[:, before] - other[:, before]).max() > 1.0


@pytest.mark.parametrize("samples", [1, 399, 400, 560])
def test_silence_and_very_short_clips_give_the_floor_and_zero_gradient(samples):
    silence = jnp.zeros((2, samples))
    np.testing.assert_allclose(_jitted(silence, HTK), np.log(1e-8), rtol=1e-6)
    gradient = jax.jit(jax.grad(lambda x: log_mel(x, HTK).sum()))
    np.testing.assert_array_equal(gradient(silence), 0.0)
    assert jnp.isfinite(gradient(jnp.full((2, samples), 1e-30))).all()


def test_empty_batches_and_empty_clips_have_no_frames():
    assert log_mel(jnp.zeros((0, 800)), HTK).shape == (0, 3, 40)
    assert log_mel(jnp.zeros((3, 0)), HTK).shape == (3, 0, 40)


def test_gradient_equals_finite_differences():
    """In float64, on a clip long enough for several steps."""
    with jax.enable_x64(True):
        waveform = jnp.asarray(_random_waveform(2000 * 20, rows=2).astype(np.float64))
        weights = jnp.asarray(np.random.default_rng(1).normal(size=log_mel(waveform, HTK).shape))
        direction = jnp.asarray(np.random.default_rng(2).normal(size=waveform.shape))

        def weighted(step):
            return (log_mel(waveform + step * direction, HTK) * weights).sum()

        weighted = jax.jit(weighted)
        slope = jax.jit(jax.grad(weighted))(0.0)
        numerical = (weighted(1e-7) - weighted(-1e-7)) / 2e-7
        np.testing.assert_allclose(slope, numerical, rtol=1e-5)


def test_vmap_equals_batch():
    waveform = jnp.asarray(_random_waveform(3000, rows=6).reshape(3, 2, 3000))
    np.testing.assert_allclose(
        jax.jit(jax.vmap(lambda x: log_mel(x, HTK)))(waveform).reshape(6, -1, 40),
        _jitted(waveform.reshape(6, -1), HTK),
        atol=1e-4,
    )


def test_log_mel_keeps_batches_sharded():
    """The steps run over time, so no device needs another's rows."""
    mesh = jax.make_mesh((8,), ("data",), axis_types=(jax.sharding.AxisType.Auto,))
    rows = jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec("data"))
    waveform = jnp.asarray(_random_waveform(16000 * 3, rows=16))
    compiled = jax.jit(lambda x: log_mel(x, HTK), in_shardings=rows, out_shardings=rows).lower(waveform).compile()
    assert "all-gather" not in compiled.as_text()
    np.testing.assert_allclose(compiled(jax.device_put(waveform, rows)), _jitted(waveform, HTK), atol=1e-4)


@pytest.mark.parametrize(
    "change",
    [
        {"num_bands": 0},
        {"num_bands": 200},
        {"window_ms": 25.01},
        {"window_ms": 0.0},
        {"hop_ms": -10.0},
        {"window_ms": 401 / 16},
        {"fft_size": 396},
        {"fft_size": 510},
        {"low_hz": -1.0},
        {"low_hz": 8000.0},
        {"high_hz": 8001.0},
        {"mel_scale": "bark"},
        {"mel_norm": "area"},
        {"floor": 0.0},
        {"floor": float("nan")},
    ],
)
def test_invalid_settings_raise_naming_the_field(change):
    with pytest.raises(ConfigError, match=rf"\.{next(iter(change))} must be "):
        parse(LogMelConfig, to_tree(HTK) | change)
