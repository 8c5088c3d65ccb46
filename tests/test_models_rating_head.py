"""Rating heads: expectations, first predictions, and every kind of fusion."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.stats

from emojax.errors import ConfigError
from emojax.models import EmotionHeads, EmotionModelConfig, expected_ratings, start_heads
from emojax.models.fusion import LateHeads
from emojax.models.rating_head import maximum_entropy_logits


def test_the_expectation_is_that_of_scipys_discrete_distribution():
    logits = np.random.default_rng(0).normal(size=(3, 7))
    found = expected_ratings(jnp.asarray(logits, jnp.float32))
    for row, mean in zip(logits, found, strict=True):
        shares = np.exp(row) / np.exp(row).sum()
        assert mean == pytest.approx(scipy.stats.rv_discrete(values=(range(7), shares)).mean() / 6, abs=1e-6)


def test_first_distributions_have_the_means_of_the_labels_and_maximum_entropy():
    means = jnp.array([0.06, 0.31, 0.5, 0.93])
    logits = maximum_entropy_logits(means, 5)
    np.testing.assert_allclose(expected_ratings(logits), means, atol=1e-5)
    np.testing.assert_allclose(jnp.diff(logits, n=2), 0, atol=1e-4)  # the exponential family of the mean
    np.testing.assert_allclose(
        expected_ratings(maximum_entropy_logits(jnp.array([0.0, 1.0]), 3)), [0.05, 0.95], atol=1e-4
    )


@pytest.mark.parametrize("bins", [2, 7])
def test_heads_start_at_the_means_of_the_labels(bins):
    heads = EmotionHeads(4, rating_bins=bins)
    embedding = jax.random.normal(jax.random.key(1), (5, 6))
    params = heads.init(jax.random.key(0), embedding)["params"]
    assert set(params) == {"ratings", "categories"}
    means = jnp.array([0.3, 0.6, 0.5])
    output = heads.apply({"params": start_heads(params, means, jnp.zeros(4))}, embedding)
    linear = EmotionHeads(0)
    start = start_heads(linear.init(jax.random.key(0), embedding)["params"], means, jnp.zeros(0))
    spread = jnp.abs(linear.apply({"params": start}, embedding).attributes - means).max()
    assert jnp.abs(output.attributes - means).max() < 2 * spread
    assert spread < 0.03
    assert output.rating_logits.shape == (5, 3, bins)
    np.testing.assert_allclose(output.attributes, expected_ratings(output.rating_logits), atol=1e-6)


def test_late_fusion_starts_at_the_mean_of_the_logits():
    late = LateHeads(0, rating_bins=5)
    embeddings = {name: jax.random.normal(jax.random.key(n), (4, 6)) for n, name in enumerate(("log_mel", "lexical"))}
    params = late.init(jax.random.key(0), embeddings)["params"]
    output = late.apply({"params": params}, embeddings)
    logits = [
        EmotionHeads(0, rating_bins=5).apply({"params": params[name]}, embeddings[name]).rating_logits
        for name in embeddings
    ]
    np.testing.assert_allclose(output.rating_logits, sum(logits) / 2, atol=1e-6)
    started = late.apply({"params": start_heads(params, jnp.array([0.3, 0.6, 0.5]), jnp.zeros(0))}, embeddings)
    assert started.rating_logits.shape == (4, 3, 5)


def test_one_value_is_no_scale():
    with pytest.raises(ConfigError, match=r"model.rating_bins must be 0 or >= 2, got 1"):
        EmotionModelConfig(rating_bins=1)
