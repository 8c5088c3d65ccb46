"""Losses of attributes: CCC against audmetric, squared error against NumPy, gradients, and degenerate batches."""

import audmetric
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from emojax.losses import ObjectiveConfig, ccc_loss, has_ccc, mse_loss, multitask_loss
from emojax.models import TCGRU, EmotionHeads, TCGRUConfig
from emojax.types import Batch


def draw_batch(num_items: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Predictions and labels on [0, 1], of different agreement per attribute."""
    rng = np.random.default_rng(seed)
    labels = rng.uniform(0, 1, (num_items, 3))
    predictions = 0.5 + np.array([0.8, 0.4, -0.2]) * (labels - 0.5) + 0.1 * rng.normal(size=(num_items, 3))
    return predictions.astype(np.float32), labels.astype(np.float32)


LOSS = jax.jit(ccc_loss)
GRADIENT = jax.jit(jax.grad(lambda *batch: ccc_loss(*batch).sum()))


def loss_of(predictions, labels, weights=None) -> jax.Array:
    return LOSS(predictions, labels, np.ones(len(predictions), np.float32) if weights is None else weights)


def gradient_of(predictions, labels, weights=None) -> np.ndarray:
    weights = np.ones(len(predictions), np.float32) if weights is None else weights
    return np.asarray(GRADIENT(predictions, labels, weights))


@settings(deadline=None, max_examples=20)
@given(seed=st.integers(0, 2**31), num_items=st.sampled_from([2, 3, 32, 500]), missing=st.sampled_from([0.0, 0.3]))
def test_one_minus_loss_is_audmetrics_ccc(seed, num_items, missing):
    predictions, labels = draw_batch(num_items, seed)
    labels[2:][np.random.default_rng(seed).random((num_items - 2, 3)) < missing] = np.nan
    expected = [
        audmetric.concordance_cc(y[~np.isnan(y)], x[~np.isnan(y)])
        for x, y in zip(predictions.T.astype(np.float64), labels.T.astype(np.float64), strict=True)
    ]
    np.testing.assert_allclose(1 - loss_of(predictions, labels), expected, rtol=0, atol=2e-6)


def test_gradient_equals_finite_differences_of_audmetric_in_float64():
    predictions, labels = draw_batch(12)
    labels[3, 1] = np.nan
    known = ~np.isnan(labels)
    expected = np.zeros((12, 3))
    for row, column in np.argwhere(known):
        moved = []
        for step in (1e-5, -1e-5):
            changed = predictions.astype(np.float64)
            changed[row, column] += step
            rows = known[:, column]
            moved.append(1 - audmetric.concordance_cc(labels[rows, column].astype(float), changed[rows, column]))
        expected[row, column] = (moved[0] - moved[1]) / 2e-5
    np.testing.assert_allclose(gradient_of(predictions, labels), expected, atol=2e-6)


def test_constant_predictions_have_loss_one_and_the_gradient_of_the_covariance():
    """A peer divides by roots of sums without epsilon: NaN once the predictions are constant."""
    _, labels = draw_batch(32)
    for value in (0.0, 0.1, 0.5):
        predictions = np.full((32, 3), value, np.float32)
        np.testing.assert_allclose(loss_of(predictions, labels), 1.0, atol=1e-6)
        gradient = gradient_of(predictions, labels)
        mean = labels.mean(axis=0, dtype=np.float64)
        denominator = labels.astype(np.float64).var(axis=0) + (value - mean) ** 2
        np.testing.assert_allclose(gradient, -2 * (labels - mean) / 32 / denominator, rtol=1e-4, atol=1e-6)
        assert np.abs(gradient).max() > 0.01


def test_descent_from_constant_predictions_reaches_agreement():
    _, labels = draw_batch(32)
    predictions = np.full((32, 3), 0.5, np.float32)
    for _ in range(200):
        predictions = predictions - 0.1 * gradient_of(predictions, labels)
    assert (loss_of(predictions, labels) < 0.02).all()


@pytest.mark.parametrize("predictions", ["varying", "the labels", "another constant"])
def test_constant_labels_have_loss_one_and_no_gradient(predictions):
    labels = np.full((16, 3), 0.1, np.float32)
    values = {"varying": draw_batch(16)[0], "the labels": labels, "another constant": labels + 0.3}[predictions]
    np.testing.assert_allclose(loss_of(values, labels), 1.0, atol=1e-6)
    np.testing.assert_allclose(gradient_of(values, labels), 0.0, atol=1e-6)


@pytest.mark.parametrize("num_labelled", [0, 1])
def test_last_batch_of_one_item_has_loss_zero_and_gradient_zero(num_labelled):
    """Peers divide 0 by 0 when the last batch of an epoch has one item."""
    predictions, labels = draw_batch(8)
    labels[num_labelled:] = np.nan
    np.testing.assert_array_equal(loss_of(predictions, labels), 0.0)
    np.testing.assert_array_equal(gradient_of(predictions, labels), 0.0)
    np.testing.assert_array_equal(has_ccc(jnp.asarray(labels), jnp.ones(8)), False)
    np.testing.assert_array_equal(loss_of(predictions[:num_labelled], labels[:num_labelled]), 0.0)


def test_row_for_column_each_attribute_is_a_column_of_a_square_batch():
    labels = np.array([[0.0, 0.1, 0.9], [0.5, 0.6, 0.2], [1.0, 0.2, 0.4]], np.float32)
    predictions = labels.copy()
    predictions[:, 1] = 0.3
    np.testing.assert_allclose(loss_of(predictions, labels), [0.0, 1.0, 0.0], atol=1e-6)


def test_nearly_equal_predictions_and_labels_have_a_bounded_gradient():
    rng = np.random.default_rng(0)
    for spread in (1e-3, 1e-5, 1e-7, 1e-20):
        labels = (spread * rng.random((16, 3))).astype(np.float32)
        gradient = gradient_of(labels + np.float32(spread) * rng.random((16, 3)).astype(np.float32), labels)
        assert np.isfinite(gradient).all()
        assert np.abs(gradient).max() < 1e5


@settings(deadline=None, max_examples=20)
@given(
    seed=st.integers(0, 2**31),
    garbage=st.sampled_from([np.nan, np.inf, -np.inf, 3e38, 0.0]),
    labelled=st.booleans(),
)
def test_filler_rows_never_change_loss_or_gradient(seed, garbage, labelled):
    predictions, labels = draw_batch(13, seed)
    padded = np.vstack([predictions, np.full((3, 3), garbage, np.float32)])
    padded_labels = np.vstack([labels, np.full((3, 3), 0.7 if labelled else garbage, np.float32)])
    weights = np.array([1.0] * 13 + [0.0] * 3, np.float32)
    np.testing.assert_allclose(loss_of(padded, padded_labels, weights), loss_of(predictions, labels), atol=1e-6)
    gradient = gradient_of(padded, padded_labels, weights)
    np.testing.assert_allclose(gradient[:13], gradient_of(predictions, labels), atol=1e-6)
    np.testing.assert_array_equal(gradient[13:], 0.0)


def test_garbage_predictions_of_items_without_label_change_nothing():
    predictions, labels = draw_batch(16)
    labels[4:8, 1] = np.nan
    changed = predictions.copy()
    changed[4:8, 1] = np.nan
    np.testing.assert_array_equal(loss_of(changed, labels), loss_of(predictions, labels))
    np.testing.assert_array_equal(gradient_of(changed, labels), gradient_of(predictions, labels))


def test_a_nan_prediction_of_a_labelled_item_is_not_hidden():
    predictions, labels = draw_batch(16)
    predictions[5, 1] = np.nan
    assert np.isnan(loss_of(predictions, labels)).tolist() == [False, True, False]


def test_weights_are_repetitions_and_only_their_ratios_matter():
    predictions, labels = draw_batch(20)
    repetitions = np.random.default_rng(0).integers(0, 4, (20,))
    repeated = loss_of(np.repeat(predictions, repetitions, axis=0), np.repeat(labels, repetitions, axis=0))
    for scale in (1.0, 1e-6, 1e6):
        weights = (scale * repetitions).astype(np.float32)
        np.testing.assert_allclose(loss_of(predictions, labels, weights), repeated, atol=1e-6)
        per_attribute = np.tile(weights[:, None], (1, 3))
        np.testing.assert_allclose(loss_of(predictions, labels, per_attribute), repeated, atol=1e-6)


@pytest.mark.parametrize("dtype", [jnp.bfloat16, jnp.float16])
def test_statistics_are_float32_for_narrow_inputs(dtype):
    predictions, labels = draw_batch(2000)
    # Near 1, squares and sums in bfloat16 would keep two digits.
    narrow, narrow_labels = (jnp.asarray(1 + values / 4, dtype) for values in (predictions, labels))
    loss = ccc_loss(narrow, narrow_labels, jnp.ones(2000, dtype))
    assert loss.dtype == jnp.float32
    expected = [
        1 - audmetric.concordance_cc(np.asarray(y, np.float64), np.asarray(x, np.float64))
        for x, y in zip(narrow.T, narrow_labels.T, strict=True)
    ]
    np.testing.assert_allclose(loss, expected, atol=1e-5)
    assert gradient_of(narrow, narrow_labels).dtype == dtype


def weighted_squared_error(predictions, labels, weights):
    """Per attribute in float64, and its gradient."""
    weights = np.where(np.isnan(labels), 0.0, weights if weights.ndim == 2 else weights[:, None]).astype(np.float64)
    error = np.where(weights > 0, predictions.astype(np.float64) - labels, 0.0)
    total = np.maximum(weights.sum(axis=0), np.finfo(np.float64).tiny)
    return (weights * error**2).sum(axis=0) / total, 2 * weights * error / total


mse_with_gradient = jax.jit(jax.value_and_grad(lambda *batch: (mse_loss(*batch).sum(), mse_loss(*batch)), has_aux=True))


@settings(deadline=None, max_examples=20)
@given(
    seed=st.integers(0, 2**31),
    missing=st.sampled_from([0.0, 0.5, 1.0]),
    garbage=st.sampled_from([np.nan, np.inf, -1e38]),
    by_attribute=st.booleans(),
)
def test_squared_error_and_its_gradient_are_numpys_over_labelled_rows_by_weight(seed, missing, garbage, by_attribute):
    predictions, labels = draw_batch(16, seed)
    rng = np.random.default_rng(seed)
    labels[rng.random((16, 3)) < missing] = np.nan
    weights = rng.choice([0.0, 0.3, 1.0], (16, 3) if by_attribute else 16).astype(np.float32)
    excluded = np.isnan(labels) | ((weights if by_attribute else weights[:, None]) == 0)
    expected, expected_gradient = weighted_squared_error(predictions, labels, weights)
    (_, found), gradient = mse_with_gradient(np.where(excluded, np.float32(garbage), predictions), labels, weights)
    np.testing.assert_allclose(found, expected, rtol=2e-6, atol=1e-9)
    np.testing.assert_allclose(gradient, expected_gradient, rtol=2e-5, atol=1e-8)
    np.testing.assert_array_equal(np.asarray(gradient)[excluded], 0.0)


def test_squared_error_of_one_labelled_item_is_defined():
    predictions, labels = jnp.full((4, 3), 0.7), jnp.full((4, 3), jnp.nan).at[2, 1].set(0.4)
    np.testing.assert_allclose(mse_loss(predictions, labels, jnp.ones(4)), [0, 0.09, 0], atol=1e-7)


@pytest.mark.parametrize("kind", ["mse", "mix"])
def test_the_gradient_of_a_networks_parameters_is_that_of_the_loss_by_hand(kind):
    """Through network and heads: reverse mode of JAX, against the derivative of the loss as NumPy computes it."""
    rng, rows = np.random.default_rng(0), 6
    network, heads = TCGRU(TCGRUConfig(gru_layers=1, gru_size=4, conv_channels=0, embedding_size=3)), EmotionHeads(0)
    frames, mask = jnp.asarray(rng.normal(size=(rows, 5, 2)), jnp.float32), jnp.ones((rows, 5), bool)
    params = {
        "network": jax.jit(network.init)(jax.random.key(0), frames, mask),
        "heads": heads.init(jax.random.key(1), jnp.zeros((rows, 3))),
    }
    labels = rng.uniform(size=(rows, 3)).astype(np.float32)
    labels[0, 0] = labels[3, 2] = np.nan
    weight = np.ones(rows, np.float32)
    weight[5] = 0
    objective = ObjectiveConfig(attribute_weights=(0.5, 0.3, 0.2), attribute_loss=kind, mse_share=0.75)
    batch = Batch(
        waveform=jnp.zeros((rows, 0)),
        num_samples=jnp.zeros(rows, int),
        tokens=jnp.zeros((rows, 0), int),
        num_tokens=jnp.zeros(rows, int),
        attributes=jnp.asarray(labels),
        emotion=jnp.full(rows, -1),
        emotion_votes=jnp.zeros((rows, 0)),
        weight=jnp.asarray(weight),
        index=jnp.arange(rows),
    )

    @jax.jit
    def forward(params):
        return heads.apply(params["heads"], network.apply(params["network"], frames, mask))

    def loss(params):
        return multitask_loss(forward(params), batch, {}, objective, jnp.zeros(0))

    (found, scalars), gradient = jax.jit(jax.value_and_grad(loss, has_aux=True))(params)
    predictions, pull_back = jax.vjp(lambda params: forward(params).attributes, params)
    errors, by_error = weighted_squared_error(np.asarray(predictions), labels, weight)
    share, weights = {"mse": 1.0, "mix": 0.75}[kind], np.array([0.5, 0.3, 0.2])
    distances = 1 - np.array([concordance(predictions[:, d], labels[:, d], weight) for d in range(3)])
    assert float(found) == pytest.approx(weights @ (share * errors + (1 - share) * distances), abs=1e-6)
    assert scalars["loss/mse_valence"] == pytest.approx(errors[1], abs=1e-6)
    assert ("loss/ccc_valence" in scalars) == (kind == "mix")
    by_distance = gradient_of(np.asarray(predictions), labels, weight)
    cotangent = weights * (share * by_error + (1 - share) * by_distance)
    (expected,) = pull_back(jnp.asarray(cotangent, jnp.float32))
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-7), gradient, expected)
    assert all(np.abs(leaf).max() > 0 for leaf in jax.tree.leaves(gradient["heads"]))


def concordance(predictions, labels, weight):
    counted = ~np.isnan(labels) & (weight > 0)
    return audmetric.concordance_cc(labels[counted], np.asarray(predictions)[counted])
