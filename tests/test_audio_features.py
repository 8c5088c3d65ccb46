"""Normalisation, statistics and deltas, compared with references on the unpadded utterance."""

import jax
import jax.numpy as jnp
import librosa
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from emojax.audio import (
    FeatureStatistics,
    add_deltas,
    deltas,
    feature_statistics,
    mean_and_std,
    merge_statistics,
    normalise_utterance,
    normalise_with,
)
from emojax.errors import ConfigError

FRAMES, FEATURES = 24, 5


def _batch(lengths, seed=0, padding=1e4):
    """Features with garbage in the padding, and their mask."""
    features = np.random.default_rng(seed).normal(-6.0, 3.0, size=(len(lengths), FRAMES, FEATURES)).astype(np.float32)
    mask = np.arange(FRAMES) < np.asarray(lengths)[:, None]
    return jnp.asarray(np.where(mask[..., None], features, padding)), jnp.asarray(mask)


lengths_lists = st.lists(st.integers(0, FRAMES), min_size=3, max_size=3)


@settings(deadline=None, max_examples=15)
@given(lengths=lengths_lists, seed=st.integers(0, 99))
def test_normalised_utterance_has_zero_mean_and_unit_variance_for_any_padding(lengths, seed):
    features, mask = _batch(lengths, seed, padding=np.nan)
    normalised = np.asarray(normalise_utterance(features, mask))
    for row, length, original in zip(normalised, lengths, np.asarray(features), strict=True):
        np.testing.assert_array_equal(row[length:], 0)
        if length:
            valid = original[:length].astype(np.float64)
            expected = (valid - valid.mean(axis=0)) / np.sqrt(valid.var(axis=0) + 1e-5)
            np.testing.assert_allclose(row[:length], expected, atol=2e-3)


def test_constant_features_normalise_to_zero_with_finite_gradient():
    features, mask = jnp.full((2, FRAMES, FEATURES), -18.42), jnp.arange(FRAMES) < jnp.array([[1], [FRAMES]])
    np.testing.assert_allclose(normalise_utterance(features, mask), 0, atol=1e-2)
    gradient = jax.jit(jax.grad(lambda x: jnp.square(normalise_utterance(x, mask)).sum()))(features)
    assert jnp.isfinite(gradient).all()


def test_corpus_statistics_normalise_all_frames_together():
    features, mask = _batch([FRAMES, 7, 0])
    mean, std = mean_and_std(feature_statistics(features, mask))
    valid = np.asarray(features)[np.asarray(mask)].astype(np.float64)
    np.testing.assert_allclose(mean, valid.mean(axis=0), rtol=1e-5)
    np.testing.assert_allclose(std, valid.std(axis=0), rtol=1e-5)
    normalised = np.asarray(normalise_with(features, mask, mean, std))
    np.testing.assert_allclose(normalised[np.asarray(mask)].mean(axis=0), 0, atol=1e-5)
    np.testing.assert_array_equal(normalised[~np.asarray(mask)], 0)


@settings(deadline=None, max_examples=15)
@given(first=lengths_lists, second=lengths_lists, seed=st.integers(0, 99))
def test_merged_statistics_equal_statistics_of_all_frames_in_any_order(first, second, seed):
    one, two = _batch(first, seed), _batch(second, seed + 100)
    together = feature_statistics(jnp.concatenate([one[0], two[0]]), jnp.concatenate([one[1], two[1]]))
    parts = feature_statistics(*one), feature_statistics(*two)
    for merged in (merge_statistics(*parts), merge_statistics(*reversed(parts))):
        for value, expected in zip(merged, together, strict=True):
            np.testing.assert_allclose(value, expected, rtol=1e-4, atol=1e-4)


def test_statistics_of_many_frames_keep_their_precision():
    """A mean far from zero, and more frames than float32 can count one by one."""
    total = FeatureStatistics(*(np.zeros(shape) for shape in ((), FEATURES, FEATURES)))
    batches = []
    for seed in range(20):
        features, mask = _batch([FRAMES] * 50, seed)
        batches.append(np.asarray(features, np.float64) + 1000)
        part = feature_statistics(features + 1000, mask)
        total = merge_statistics(total, FeatureStatistics(*(np.asarray(value, np.float64) for value in part)))
    mean, std = mean_and_std(total)
    frames = np.concatenate(batches).reshape(-1, FEATURES)
    np.testing.assert_allclose(mean, frames.mean(axis=0), rtol=1e-6)
    np.testing.assert_allclose(std, frames.std(axis=0), rtol=1e-4)
    doubled = FeatureStatistics(np.float32(2**25), total.mean, total.m2)
    assert merge_statistics(doubled, doubled).count == 2**26


@pytest.mark.parametrize("width", [3, 5, 9])
def test_deltas_equal_librosa_on_the_unpadded_utterance(width):
    lengths = [FRAMES, 9, 12, 1, 0]
    features, mask = _batch(lengths)
    ours = np.asarray(jax.jit(deltas, static_argnames="width")(features, mask, width))
    for row, length, original in zip(ours, lengths, np.asarray(features), strict=True):
        np.testing.assert_array_equal(row[length:], 0)
        if length >= width:  # librosa rejects shorter ones
            expected = librosa.feature.delta(original[:length], width=width, axis=0, mode="nearest")
            np.testing.assert_allclose(row[:length], expected, atol=1e-4)
    np.testing.assert_array_equal(ours[3, 0], 0)


def test_deltas_of_a_line_are_its_slope():
    features = jnp.arange(FRAMES, dtype=jnp.float32)[None, :, None] * jnp.array([1.0, -2.0])
    slopes = deltas(features, jnp.ones((1, FRAMES), bool), 5)
    np.testing.assert_allclose(slopes[0, 2:-2], np.tile([1.0, -2.0], (FRAMES - 4, 1)), rtol=1e-6)


def test_add_deltas_appends_first_and_second_deltas():
    features, mask = _batch([FRAMES, 10])
    both = jax.jit(add_deltas, static_argnames=("width", "order"))(features, mask, 9, 2)
    assert both.shape == (2, FRAMES, 3 * FEATURES)
    np.testing.assert_array_equal(add_deltas(features, mask, 9, 0), features)
    np.testing.assert_allclose(both[..., FEATURES : 2 * FEATURES], deltas(features, mask, 9), atol=1e-4)
    clip = np.asarray(features)[1, :10]
    once = librosa.feature.delta(clip, width=9, axis=0, mode="nearest")
    twice = librosa.feature.delta(once, width=9, axis=0, mode="nearest")
    np.testing.assert_allclose(both[1, :10], np.concatenate([clip, once, twice], axis=-1), atol=1e-4)


@pytest.mark.parametrize(
    ("width", "order", "key"), [(4, 1, "width"), (1, 2, "width"), (9, 3, "order"), (9, -1, "order")]
)
def test_invalid_deltas_raise(width, order, key):
    features, mask = _batch([FRAMES])
    with pytest.raises(ConfigError, match=f"deltas.{key}"):
        add_deltas(features, mask, width, order)
