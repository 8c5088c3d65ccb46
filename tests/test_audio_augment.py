"""Feature augmentation: changes valid frames only, within its limits, as a function of its key."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from emojax.audio import (
    LogMelConfig,
    SpecAugmentConfig,
    TimeStretchConfig,
    VTLPConfig,
    log_mel,
    perturb_vocal_tract,
    spec_augment,
    stretch_time,
)
from emojax.audio.feature_augment import warp_matrix
from emojax.audio.mel_scale import mel_edges
from emojax.errors import ConfigError

FRAMES, BANDS = 60, 40
LOG_MEL = LogMelConfig(
    num_bands=BANDS,
    window_ms=25.0,
    hop_ms=10.0,
    fft_size=512,
    low_hz=20.0,
    high_hz=8000.0,
    mel_scale="htk",
    mel_norm="none",
    floor=1e-8,
)


def _batch(lengths, seed=0):
    features = np.random.default_rng(seed).normal(-6.0, 3.0, size=(len(lengths), FRAMES, BANDS)).astype(np.float32)
    mask = np.arange(FRAMES) < np.asarray(lengths)[:, None]
    return jnp.asarray(features), jnp.asarray(mask)


_log_mel = jax.jit(log_mel, static_argnames="config")
_stretch_time = jax.jit(stretch_time, static_argnames="config")
_spec_augment = jax.jit(spec_augment, static_argnames="config")


def _runs(hidden):
    """Lengths of the runs of True."""
    edges = np.flatnonzero(np.diff(np.concatenate([[0], hidden.astype(int), [0]])))
    return edges[1::2] - edges[::2]


@settings(deadline=None, max_examples=20)
@given(lengths=st.lists(st.integers(0, FRAMES), min_size=3, max_size=3), seed=st.integers(0, 999))
def test_spec_augment_time_mask_is_contiguous_and_within_its_limits(lengths, seed):
    features, mask = _batch(lengths)
    config = SpecAugmentConfig(1, 20, 0.3, 0, 0)
    masked = np.asarray(_spec_augment(jax.random.key(seed), features, mask, config))
    for row, original, length in zip(masked, np.asarray(features), lengths, strict=True):
        hidden = (row != original).any(axis=1)
        assert not hidden[length:].any()
        runs = _runs(hidden)
        assert len(runs) <= 1
        assert runs.sum() <= min(20, 0.3 * length)
        if runs.size:
            expected = np.broadcast_to(original[:length].mean(axis=0), row[hidden].shape)
            np.testing.assert_allclose(row[hidden], expected, rtol=1e-4, atol=1e-4)


def test_spec_augment_frequency_mask_covers_adjacent_bands_in_all_valid_frames():
    features, mask = _batch([FRAMES, 25] * 20)
    config = SpecAugmentConfig(0, 0, 0.0, 1, 8)
    changed = np.asarray(_spec_augment(jax.random.key(3), features, mask, config) != features)
    widths = []
    for row, length in zip(changed, [FRAMES, 25] * 20, strict=True):
        assert not row[length:].any()
        hidden = row[:length].any(axis=0)
        widths.append(hidden.sum())
        assert len(_runs(hidden)) <= 1
        np.testing.assert_array_equal(row[:length], np.broadcast_to(hidden, (length, BANDS)))
    assert max(widths) == 8
    assert min(widths) == 0


def test_spec_augment_draws_every_width_and_position():
    features, mask = _batch([10] * 2000)
    hidden = np.asarray(
        _spec_augment(jax.random.key(0), features, mask, SpecAugmentConfig(1, 4, 1.0, 0, 0)) != features
    )
    hidden = hidden.any(axis=2)[:, :10]
    counts = np.bincount(hidden.sum(axis=1), minlength=5)
    np.testing.assert_allclose(counts / 2000, 0.2, atol=0.03)
    single = hidden[hidden.sum(axis=1) == 1].argmax(axis=1)
    np.testing.assert_allclose(np.bincount(single, minlength=10) / len(single), 0.1, atol=0.05)


def test_augmentation_depends_on_key_and_differs_between_utterances():
    features, mask = _batch([FRAMES] * 4)
    same = jnp.broadcast_to(features[:1], features.shape)
    methods = (
        lambda key: spec_augment(key, same, mask, SpecAugmentConfig(2, 20, 0.5, 2, 8)),
        lambda key: perturb_vocal_tract(key, same, LOG_MEL, VTLPConfig(0.2)),
        lambda key: stretch_time(key, same, mask, TimeStretchConfig(0.2))[0],
    )
    for method in methods:
        augment = jax.jit(method)
        first = augment(jax.random.key(1))
        np.testing.assert_array_equal(first, augment(jax.random.key(1)))
        assert (first != augment(jax.random.key(2))).any()
        assert (first[0] != first[1]).any()
        assert first.dtype == jnp.float32


def test_augmentation_of_strength_zero_changes_nothing():
    features, mask = _batch([FRAMES, 30, 1, 0])
    key = jax.random.key(0)
    np.testing.assert_array_equal(_spec_augment(key, features, mask, SpecAugmentConfig(0, 10, 1.0, 0, 8)), features)
    np.testing.assert_array_equal(_spec_augment(key, features, mask, SpecAugmentConfig(2, 0, 1.0, 2, 0)), features)
    np.testing.assert_allclose(perturb_vocal_tract(key, features, LOG_MEL, VTLPConfig(0.0)), features, atol=1e-3)
    stretched, new_mask = stretch_time(key, features, mask, TimeStretchConfig(0.0))
    np.testing.assert_array_equal(new_mask, mask)
    np.testing.assert_allclose(stretched, jnp.where(mask[..., None], features, 0), atol=1e-5)


@pytest.mark.parametrize("hz", [500.0, 1500.0, 3000.0])
@pytest.mark.parametrize("factor", [0.85, 1.15])
def test_vtlp_shifts_a_tone_by_its_factor(hz, factor):
    """Compared with the log-mel energies of a tone that really has the other pitch."""
    time = np.arange(4000) / 16000
    tones = jnp.asarray(np.sin(2 * np.pi * np.array([[hz], [hz * factor]]) * time), jnp.float32)
    tone, moved = _log_mel(tones, LOG_MEL)[:, 5]
    warped = warp_matrix(jnp.array([factor]), LOG_MEL)[0] @ tone
    assert abs(int(warped.argmax()) - int(moved.argmax())) <= 1
    assert int(tone.argmax()) != int(moved.argmax())


@settings(deadline=None, max_examples=15)
@given(factor=st.floats(0.6, 1.4))
def test_warp_matrix_rows_are_ascending_weighted_means(factor):
    weights = np.asarray(warp_matrix(jnp.array([factor], jnp.float32), LOG_MEL)[0], np.float64)
    np.testing.assert_allclose(weights.sum(axis=1), 1, atol=1e-4)
    source = weights @ np.arange(BANDS)
    assert (np.diff(source) >= -1e-4).all()
    centres = mel_edges(BANDS, 20.0, 8000.0, "htk")[1:-1]
    low = (centres > 100) & (centres * max(1, 1 / factor) < 4700)
    np.testing.assert_allclose(weights[low] @ centres, centres[low] / factor, rtol=2e-3)


@settings(deadline=None, max_examples=15)
@given(lengths=st.lists(st.integers(0, FRAMES), min_size=3, max_size=3), seed=st.integers(0, 99))
def test_time_stretch_of_a_line_is_a_line_with_another_slope(lengths, seed):
    mask = jnp.arange(FRAMES) < jnp.array(lengths)[:, None]
    line = jnp.where(mask, jnp.arange(FRAMES, dtype=jnp.float32), jnp.nan)[..., None]
    stretched, new_mask = _stretch_time(jax.random.key(seed), line, mask, TimeStretchConfig(0.3))
    for row, kept, length in zip(np.asarray(stretched[..., 0]), np.asarray(new_mask), lengths, strict=True):
        count = kept.sum()
        assert kept[:count].all()
        np.testing.assert_array_equal(row[count:], 0)
        assert min(length, 1) <= count <= FRAMES
        assert 0.65 * length - 1 <= count <= 1.35 * length + 1
        if count > 1:
            slope = row[1]
            assert 1 / 1.3 - 1e-3 <= slope <= 1 / 0.7 + 1e-3
            np.testing.assert_allclose(row[:count], slope * np.arange(count), rtol=1e-4, atol=1e-4)
            assert count == FRAMES or row[count - 1] > length - 1 - slope - 1e-3


@pytest.mark.parametrize(
    ("make", "key"),
    [
        (lambda: SpecAugmentConfig(-1, 0, 0.0, 0, 0), "num_time_masks"),
        (lambda: SpecAugmentConfig(1, -1, 0.0, 0, 0), "max_time_width"),
        (lambda: SpecAugmentConfig(1, 1, 1.5, 0, 0), "max_time_fraction"),
        (lambda: SpecAugmentConfig(1, 1, 0.5, -2, 0), "num_frequency_masks"),
        (lambda: SpecAugmentConfig(1, 1, 0.5, 2, -3), "max_frequency_width"),
        (lambda: VTLPConfig(0.5), "max_warp"),
        (lambda: VTLPConfig(-0.1), "max_warp"),
        (lambda: TimeStretchConfig(float("nan")), "max_stretch"),
    ],
)
def test_invalid_settings_raise_naming_the_field(make, key):
    with pytest.raises(ConfigError, match=f"Config.{key} must be "):
        make()
