"""Co-moments: accumulation in any parts and order, numerical stability."""

import functools

import audmetric
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from emojax.metrics import CoMoments, co_moments
from emojax.metrics.scores import REGRESSION_MEASURES, ccc_from_moments, moments_in_float64


def draw_ratings(num_items: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Ratings on a scale of 1 to 7 with a tenth of them missing, and predictions that agree to some degree."""
    rng = np.random.default_rng(seed)
    labels = rng.uniform(1, 7, (num_items, 3))
    predictions = 0.6 * labels + rng.normal(1.5, 0.8, (num_items, 3))
    labels[rng.random((num_items, 3)) < 0.1] = np.nan
    return predictions, labels


@settings(deadline=None, max_examples=8)
@given(seed=st.integers(0, 2**31), num_parts=st.integers(1, 400))
def test_accumulation_over_any_partition_of_100k_items_equals_one_shot(seed, num_parts):
    predictions, labels = draw_ratings(100_000, seed)
    rng = np.random.default_rng(seed)
    parts = np.split(rng.permutation(100_000), np.sort(rng.integers(0, 100_000, num_parts - 1)))
    accumulated = functools.reduce(
        CoMoments.merge, (moments_in_float64(predictions[part], labels[part]) for part in parts)
    )
    whole = moments_in_float64(predictions, labels)
    for measure in REGRESSION_MEASURES.values():
        np.testing.assert_allclose(measure(accumulated), measure(whole), rtol=0, atol=1e-12)


def test_float32_accumulation_under_jit_equals_float64_one_shot():
    predictions, labels = draw_ratings(100_000, 0)
    predictions, labels = predictions.astype(np.float32), labels.astype(np.float32)

    @jax.jit
    def accumulate(predictions, labels):
        def add(total, part):
            return total.merge(co_moments(*part, jnp.ones(len(part[0])))), None

        first = co_moments(predictions[0], labels[0], jnp.ones(predictions.shape[1]))
        return jax.lax.scan(add, first, (predictions[1:], labels[1:]))[0]

    accumulated = accumulate(predictions.reshape(1000, 100, 3), labels.reshape(1000, 100, 3))
    whole = moments_in_float64(predictions, labels)
    np.testing.assert_allclose(ccc_from_moments(accumulated), ccc_from_moments(whole), rtol=0, atol=1e-6)


def test_large_offsets_do_not_cancel_in_float32():
    rng = np.random.default_rng(0)
    labels = (1000 + rng.normal(size=(4000, 3))).astype(np.float32)
    predictions = (labels + rng.normal(size=(4000, 3))).astype(np.float32)
    halves = [
        co_moments(*map(jnp.asarray, part), jnp.ones(2000))
        for part in zip(np.split(predictions, 2), np.split(labels, 2), strict=True)
    ]
    expected = [audmetric.concordance_cc(labels[:, d].astype(float), predictions[:, d].astype(float)) for d in range(3)]
    np.testing.assert_allclose(ccc_from_moments(halves[0].merge(halves[1])), expected, atol=2e-5)
    # What one-pass sums make of the same numbers.
    naive = (labels * predictions).mean(axis=0) - labels.mean(axis=0) * predictions.mean(axis=0)
    assert abs(naive - 1.0).max() > 0.01


def test_zero_filled_moments_are_the_identity_of_merge():
    moments = moments_in_float64(*draw_ratings(50, 1))
    zeros = jax.tree.map(np.zeros_like, moments)
    for merged in (zeros.merge(moments), moments.merge(zeros)):
        jax.tree.map(np.testing.assert_array_equal, merged, moments)
    assert np.isnan(ccc_from_moments(zeros.merge(zeros))).all()


@pytest.mark.parametrize("value", [0.1, 1 / 3, 2.7, 1e6 / 7])
def test_equal_values_have_exactly_no_variance_even_if_accumulated(value):
    labels = np.random.default_rng(0).normal(size=(1003, 1))
    constant = np.full((1003, 1), value)
    parts = [
        moments_in_float64(constant[part], labels[part]) for part in (slice(0, 7), slice(7, 500), slice(500, None))
    ]
    merged = functools.reduce(CoMoments.merge, parts)
    assert merged.variance_sum_prediction == 0
    assert merged.covariance_sum == pytest.approx(0, abs=1e-12)
    assert merged.mean_prediction == value


@settings(deadline=None, max_examples=20)
@given(seed=st.integers(0, 2**31))
def test_integer_weights_are_repetitions(seed):
    predictions, labels = draw_ratings(30, seed)
    repetitions = np.random.default_rng(seed).integers(0, 4, 30)
    repeated = moments_in_float64(np.repeat(predictions, repetitions, axis=0), np.repeat(labels, repetitions, axis=0))
    weighted = moments_in_float64(predictions, labels, repetitions)
    for name, measure in REGRESSION_MEASURES.items():
        np.testing.assert_allclose(measure(weighted), measure(repeated), atol=1e-12, err_msg=name)
