"""Weights of labels by the confidence in them: number of raters, or inverse variance of their mean.

`objective.confidence` selects the raw weight r of an utterance and attribute, rated by n people with standard deviation
s (of attributes mapped to [0, 1]), with s₀ = `objective.confidence_floor`:

- `num_ratings`: r = n, the inverse variance of a mean of n ratings of equal variance. With a distribution loss by
  cross-entropy, Σ n H(histogram, p) is the negative log-likelihood of all single ratings.
- `inverse_variance`: r = 1 / (s² + s₀²), for corpora whose number of raters is not known.
- `standard_error`: r = 1 / (s²/n + s₀²), the weights of a random-effects mean (DerSimonian and Laird 1986) with s₀² as
  the variance that does not come from raters.

s₀² bounds r where all raters agree. Then w = clip(r / mean(r), 1/b, b), b = `objective.confidence_bound`, with the mean
over the labels of the attribute in the global batch. A label without n or s has w = 1, the mean. CCC (weighted means,
variances and covariance), squared error and distribution losses divide by Σ w: the scale of the loss, and so the
balance between attributes, tasks and the learning rate, does not depend on how much the raters of a batch agree. Over
the batch and not over the corpus, because no pass over the corpus is needed, and a constant factor cancels.
"""

import jax.numpy as jnp
from jaxtyping import Array, Float

from emojax.losses.config import ObjectiveConfig
from emojax.types import Batch


def label_weights(batch: Batch, objective: ObjectiveConfig) -> Float[Array, "B"] | Float[Array, "B 3"]:
    """Weights of the labels of attributes in the loss, float32; 0 for rows of weight 0.

    Args:
      batch: global batch, with the ratings that `objective.confidence` needs.
      objective: losses on labels.

    Returns:
      `batch.weight` without `objective.confidence`; else weights per attribute.

    Raises:
      ValueError: the batch was loaded without ratings.
    """
    if objective.confidence == "none":
        return batch.weight
    counted = (batch.weight[:, None] != 0) & ~jnp.isnan(batch.attributes)
    raw = raw_weights(batch, objective)
    known = counted & jnp.isfinite(raw)
    relative = jnp.where(known, raw / _mean(raw, known), 1.0)
    bound = objective.confidence_bound
    return batch.weight.astype(jnp.float32)[:, None] * jnp.clip(relative, 1.0 / bound, bound)


def raw_weights(batch: Batch, objective: ObjectiveConfig) -> Float[Array, "B 3"]:
    """r of every label, positive; NaN where the number of raters or their deviation is not known."""
    if batch.rating_counts is None or batch.attributes_std is None:
        raise ValueError("batch must be loaded with ratings for objective.confidence")
    number = batch.rating_counts.astype(jnp.float32).sum(axis=-1)
    number = jnp.where(number > 0, number, jnp.nan)
    if objective.confidence == "num_ratings":
        return number
    variance, least = jnp.square(batch.attributes_std.astype(jnp.float32)), objective.confidence_floor**2
    if objective.confidence == "inverse_variance":
        return 1.0 / (variance + least)
    return 1.0 / (variance / number + least)


def _mean(values: Float[Array, "B 3"], known: Array) -> Float[Array, "3"]:
    # The second pass removes the rounding of the first: equal values have that value as mean, and weights of exactly 1.
    number = jnp.maximum(known.sum(axis=0), 1)
    mean = jnp.where(known, values, 0.0).sum(axis=0) / number
    mean = mean + jnp.where(known, values - mean, 0.0).sum(axis=0) / number
    return jnp.where(mean > 0, mean, 1.0)
