"""Losses of rating distributions and weights by confidence: references, degenerate batches, eight devices."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.stats
import sklearn.metrics
from hypothesis import given, settings
from hypothesis import strategies as st
from jax.sharding import AxisType, NamedSharding, PartitionSpec

from emojax.losses import (
    ObjectiveConfig,
    ccc_loss,
    discretised_normal,
    label_weights,
    mse_loss,
    multitask_loss,
    rating_losses,
    rating_targets,
)
from emojax.models import expected_ratings
from emojax.types import Batch, EmotionOutput

ROWS, BINS = 16, 5
RATED = ObjectiveConfig(rating_weight=0.5)


def make_batch(counts, stds=None, labels=None, weight=None) -> Batch:
    rows = len(counts)
    values = np.linspace(0, 1, counts.shape[-1])
    total = counts.sum(axis=-1)
    with np.errstate(invalid="ignore"):
        means = (counts * values).sum(axis=-1) / total
    return Batch(
        waveform=jnp.zeros((rows, 8), jnp.int16),
        num_samples=jnp.full(rows, 8),
        tokens=jnp.zeros((rows, 0), jnp.int32),
        num_tokens=jnp.zeros(rows, jnp.int32),
        attributes=jnp.asarray(means if labels is None else labels, jnp.float32),
        emotion=jnp.full(rows, -1),
        emotion_votes=jnp.zeros((rows, 0)),
        weight=jnp.ones(rows) if weight is None else jnp.asarray(weight, jnp.float32),
        index=jnp.arange(rows),
        attributes_std=jnp.full((rows, 3), jnp.nan) if stds is None else jnp.asarray(stds, jnp.float32),
        rating_counts=jnp.asarray(counts, jnp.float32),
    )


def draw(seed=0, rows=ROWS):
    """Outputs and a batch of 3 to 7 raters; the last four rows are filler, some labels have no histogram."""
    rng = np.random.default_rng(seed)
    counts = np.array(
        [[rng.multinomial(3 + row % 5, rng.dirichlet(np.ones(BINS))) for _ in range(3)] for row in range(rows)]
    )
    counts[rng.random((rows, 3)) < 0.2] = 0
    weight = np.ones(rows)
    weight[-4:] = 0
    logits = jnp.asarray(rng.normal(size=(rows, 3, BINS)), jnp.float32)
    labels = rng.uniform(0, 1, (rows, 3))
    labels[1, 0] = np.nan
    batch = make_batch(counts, rng.uniform(0, 0.4, (rows, 3)), labels, weight)
    output = EmotionOutput(expected_ratings(logits), jnp.zeros((rows, 0)), jnp.zeros((rows, 2)), rating_logits=logits)
    return output, batch


def loss_of(logits, batch, config):
    output = EmotionOutput(expected_ratings(logits), jnp.zeros((len(logits), 0)), jnp.zeros((len(logits), 2)))
    return multitask_loss(output.replace(rating_logits=logits), batch, {}, config, jnp.zeros(0))


def test_the_cross_entropy_is_the_log_loss_of_all_raters_choices():
    """sklearn's log loss over single choices, each weighted by 1 / number of raters of its utterance."""
    output, batch = draw()
    losses, labelled = rating_losses(output.rating_logits, batch, RATED)
    probabilities = np.asarray(jax.nn.softmax(output.rating_logits), np.float64)
    probabilities /= probabilities.sum(axis=-1, keepdims=True)
    for column in range(3):
        rows, values, weights = [], [], []
        for row in range(ROWS - 4):
            counts = np.asarray(batch.rating_counts[row, column]).astype(int)
            rows += [row] * counts.sum()
            values += np.repeat(np.arange(BINS), counts).tolist()
            weights += [1 / counts.sum()] * counts.sum() if counts.sum() else []
        expected = sklearn.metrics.log_loss(
            values, probabilities[rows, column], sample_weight=weights, labels=range(BINS)
        )
        assert losses[column] == pytest.approx(expected, rel=1e-5)
        assert labelled[:, column].sum() == len(set(rows))


def test_the_squared_distance_is_the_crps_of_all_choices_up_to_a_constant():
    """The CRPS by its definition with expectations, E|X − y| − E|X − X'| / 2, of every single choice."""
    output, batch = draw()
    config = dataclasses.replace(RATED, rating_loss="squared_emd")
    values = np.linspace(0, 1, BINS)
    distance = np.abs(values[:, None] - values)
    losses, _ = rating_losses(output.rating_logits, batch, config)
    probabilities = np.asarray(jax.nn.softmax(output.rating_logits), np.float64)
    target, labelled = map(np.asarray, rating_targets(batch, BINS, config))
    inner = np.einsum("bak,kl,bal->ba", probabilities, distance, probabilities)
    crps = np.einsum("bak,kl,bal->ba", probabilities, distance, target) - inner / 2
    cumulative = target.cumsum(axis=-1)[..., :-1]
    constant = (cumulative * (1 - cumulative)).sum(axis=-1) / (BINS - 1)
    for column in range(3):
        rows = labelled[:, column]
        assert losses[column] == pytest.approx((crps - constant)[rows, column].mean(), rel=1e-4)


@pytest.mark.parametrize("kind", ["cross_entropy", "squared_emd"])
def test_a_prediction_equal_to_the_histogram_has_the_least_loss(kind):
    counts = np.random.default_rng(1).integers(1, 6, (6, 3, BINS))
    batch, config = make_batch(counts), dataclasses.replace(RATED, rating_loss=kind)
    gradient = jax.grad(lambda logits: rating_losses(logits, batch, config)[0].sum())(
        jnp.log(jnp.asarray(counts, jnp.float32))
    )
    np.testing.assert_allclose(gradient, 0, atol=1e-6)


def test_the_discretised_normal_has_the_probabilities_of_scipy():
    rng = np.random.default_rng(0)
    mean, std = rng.uniform(0, 1, (4, 3)), rng.uniform(0.15, 0.5, (4, 3))
    edges = np.array([-np.inf, 1, 3, 5, 7, np.inf]) / 8
    expected = np.diff(scipy.stats.norm.cdf(edges, mean[..., None], std[..., None]), axis=-1)
    found = discretised_normal(jnp.asarray(mean, jnp.float32), jnp.asarray(std, jnp.float32), BINS)
    np.testing.assert_allclose(found, expected, atol=2e-6)
    agreed = discretised_normal(jnp.full((1, 1), 0.55), jnp.zeros((1, 1)), BINS)
    np.testing.assert_allclose(agreed @ jnp.linspace(0, 1, BINS), 0.55, atol=0.01)


def test_a_normal_is_assumed_only_where_asked_for_and_only_without_histogram():
    _, batch = draw()
    target, labelled = rating_targets(batch, BINS, RATED)
    assumed, more = rating_targets(batch, BINS, dataclasses.replace(RATED, rating_target="normal"))
    np.testing.assert_array_equal(np.asarray(assumed)[np.asarray(labelled)], np.asarray(target)[np.asarray(labelled)])
    counted = np.asarray(batch.rating_counts).any(axis=-1)
    np.testing.assert_array_equal(labelled, counted & (np.asarray(batch.weight) > 0)[:, None])
    missing = np.isnan(np.asarray(batch.attributes))
    np.testing.assert_array_equal(more, (counted | ~missing) & (np.asarray(batch.weight) > 0)[:, None])
    np.testing.assert_allclose(assumed.sum(axis=-1), more, atol=1e-6)


@pytest.mark.parametrize("kind", ["cross_entropy", "squared_emd"])
def test_rows_without_a_target_have_no_influence_and_no_gradient(kind):
    output, batch = draw()
    config = dataclasses.replace(RATED, rating_loss=kind)
    none = batch.replace(rating_counts=jnp.zeros_like(batch.rating_counts))
    (loss, scalars), gradient = jax.value_and_grad(
        lambda logits: loss_of(logits, none, dataclasses.replace(config, attribute_weights=(0.0, 0.0, 0.0))),
        has_aux=True,
    )(output.rating_logits)
    assert loss == 0
    assert not np.asarray(gradient).any()
    assert scalars["labels/ratings_valence"] == 0
    garbage = jnp.where(batch.weight[:, None, None] == 0, jnp.nan, output.rating_logits)
    expected, _ = rating_losses(output.rating_logits, batch, config)
    losses, pull_back, _ = jax.vjp(lambda logits: rating_losses(logits, batch, config), garbage, has_aux=True)
    np.testing.assert_allclose(losses, expected, rtol=1e-6)
    (gradient,) = pull_back(jnp.ones(3))
    assert np.isfinite(gradient).all()
    assert not np.asarray(gradient)[-4:].any()


def test_without_a_weight_the_loss_has_no_rating_scalars():
    output, batch = draw()
    plain = batch.replace(rating_counts=None, attributes_std=None)
    _, scalars = multitask_loss(output, plain, {}, ObjectiveConfig(), jnp.zeros(0))
    assert not [name for name in scalars if "ratings" in name]
    with pytest.raises(ValueError, match=r"model.rating_bins must be 5, the values of the corpus, got 7"):
        rating_targets(batch, 7, RATED)


CONFIDENCES = ("num_ratings", "inverse_variance", "standard_error")


@pytest.mark.parametrize("confidence", CONFIDENCES)
@pytest.mark.parametrize("attribute_loss", ["ccc", "mse"])
def test_equal_confidence_gives_exactly_the_unweighted_loss(confidence, attribute_loss):
    output, batch = draw()
    counts = jnp.where(jnp.arange(BINS) == 2, 7.0, 0.0) * jnp.ones_like(batch.rating_counts)
    batch = batch.replace(rating_counts=counts, attributes_std=jnp.full((ROWS, 3), 0.123))
    plain = ObjectiveConfig(attribute_loss=attribute_loss)
    weighted = dataclasses.replace(plain, confidence=confidence)
    loss, scalars = loss_of(output.rating_logits, batch, plain)
    found, others = loss_of(output.rating_logits, batch, weighted)
    assert found == loss
    assert all(others[name] == scalars[name] for name in scalars)


@pytest.mark.parametrize("confidence", CONFIDENCES)
def test_weights_follow_their_formula(confidence):
    _, batch = draw()
    config = ObjectiveConfig(confidence=confidence, confidence_floor=0.2, confidence_bound=1.5)
    weights = np.asarray(label_weights(batch, config), np.float64)
    n, s = np.asarray(batch.rating_counts).sum(axis=-1), np.asarray(batch.attributes_std)
    with np.errstate(divide="ignore", invalid="ignore"):
        raw = {"num_ratings": n, "inverse_variance": 1 / (s**2 + 0.04), "standard_error": 1 / (s**2 / n + 0.04)}[
            confidence
        ]
    known = ~np.isnan(np.asarray(batch.attributes)) & (np.asarray(batch.weight) > 0)[:, None]
    known &= (n > 0) | (confidence == "inverse_variance")
    for column in range(3):
        rows = known[:, column]
        expected = np.clip(raw[rows, column] / raw[rows, column].mean(), 1 / 1.5, 1.5)
        np.testing.assert_allclose(weights[rows, column], expected, rtol=1e-5)
        assert np.ptp(expected) > 0.1
    np.testing.assert_array_equal(weights[:-4][~known[:-4]], 1)
    assert not weights[-4:].any()


def test_the_weighted_loss_is_that_of_repeated_utterances():
    """Whole weights: CCC and squared error of a batch in which an utterance comes as often as its weight."""
    rng = np.random.default_rng(0)
    times = rng.integers(1, 4, 8)
    predictions, labels = rng.uniform(0, 1, (8, 3)), rng.uniform(0, 1, (8, 3))
    for loss in (ccc_loss, mse_loss):
        weighted = loss(
            *(jnp.asarray(array, jnp.float32) for array in (predictions, labels, np.tile(times[:, None], 3)))
        )
        repeated = [jnp.asarray(np.repeat(array, times, axis=0), jnp.float32) for array in (predictions, labels)]
        np.testing.assert_allclose(weighted, loss(*repeated, jnp.ones(times.sum())), rtol=1e-5)
    expected = [
        sklearn.metrics.mean_squared_error(labels[:, column], predictions[:, column], sample_weight=times)
        for column in range(3)
    ]
    np.testing.assert_allclose(weighted, expected, rtol=1e-5)


@settings(deadline=None, max_examples=20)
@given(seed=st.integers(0, 1000), confidence=st.sampled_from(CONFIDENCES), bound=st.floats(1, 10))
def test_weights_are_within_their_bounds(seed, confidence, bound):
    _, batch = draw(seed)
    config = ObjectiveConfig(confidence=confidence, confidence_bound=bound)
    weights = np.asarray(label_weights(batch, config))[:-4]
    assert (weights >= 1 / bound - 1e-6).all()
    assert (weights <= bound + 1e-6).all()


@pytest.mark.parametrize("confidence", ["none", *CONFIDENCES])
@pytest.mark.parametrize("kind", ["cross_entropy", "squared_emd"])
def test_over_eight_devices_loss_scalars_and_gradient_are_those_of_one(confidence, kind):
    output, batch = draw(rows=32)
    config = dataclasses.replace(RATED, rating_loss=kind, confidence=confidence, rating_target="normal")
    step = jax.jit(jax.value_and_grad(loss_of, has_aux=True), static_argnums=2)
    (loss, scalars), gradient = step(output.rating_logits, batch, config)
    mesh = jax.make_mesh((8,), ("data",), axis_types=(AxisType.Auto,))
    sharded = jax.device_put((output.rating_logits, batch), NamedSharding(mesh, PartitionSpec("data")))
    (found, others), sharded_gradient = step(*sharded, config)
    assert found == pytest.approx(float(loss), abs=1e-6)
    assert all(others[name] == pytest.approx(float(scalars[name]), abs=1e-6) for name in scalars)
    np.testing.assert_allclose(sharded_gradient, gradient, atol=1e-6)
