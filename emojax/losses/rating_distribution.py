"""Loss between predicted distributions of ratings and the histograms of the raters' choices.

With histogram shares q_k of an utterance and attribute and predicted probabilities p_k over the K values of the scale:

- `cross_entropy`: −Σ_k q_k log p_k, which ignores the order of the values.
- `squared_emd`: Σ_k (P_k − Q_k)² / (K − 1), with cumulative P and Q: the squared earth mover's distance of ordered
  values (Hou, Yu and Samaras 2016). It is the CRPS (ranked probability score, Epstein 1969) of the single ratings on
  the unit scale minus Σ_k Q_k (1 − Q_k) / (K − 1), which does not depend on p: the gradients are equal.

Histograms are the corpus's own (`objective.rating_target="histogram"`). "normal" adds an assumption for utterances that
have none: the ratings are those of a normal distribution with the label as mean and the raters' standard deviation,
discretised at the middles between values.
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from emojax.losses.confidence import label_weights
from emojax.losses.config import ObjectiveConfig
from emojax.types import Batch

_LEAST_STD = 0.5
"""Least standard deviation of a discretised normal, in units of the distance between values: raters who all agree would
otherwise give a mean between two values no probability of either."""


def rating_targets(
    batch: Batch, bins: int, objective: ObjectiveConfig
) -> tuple[Float[Array, "B 3 K"], Bool[Array, "B 3"]]:
    """Target distributions, and which labels have one.

    Args:
      batch: global batch, loaded with ratings.
      bins: K.
      objective: losses on labels.

    Returns:
      Shares of the values, 0 without a target; and True where there is one.

    Raises:
      ValueError: the batch was loaded without ratings, or its histograms have another number of values.
    """
    if batch.rating_counts is None or batch.attributes_std is None:
        raise ValueError("batch must be loaded with ratings for objective.rating_weight")
    counts = batch.rating_counts.astype(jnp.float32)
    rows = (batch.weight != 0)[:, None]
    shape = (*batch.attributes.shape, bins)
    target, labelled = jnp.zeros(shape, jnp.float32), jnp.zeros(shape[:2], bool)
    if counts.shape[-1] == bins:
        total = counts.sum(axis=-1)
        labelled = rows & (total > 0)
        target = jnp.where(labelled[..., None], counts / jnp.where(labelled, total, 1.0)[..., None], 0.0)
    elif counts.shape[-1]:
        raise ValueError(f"model.rating_bins must be {counts.shape[-1]}, the values of the corpus, got {bins}")
    if objective.rating_target == "normal":
        assumed = rows & ~labelled & ~jnp.isnan(batch.attributes) & ~jnp.isnan(batch.attributes_std)
        mean = jnp.where(assumed, batch.attributes, 0.5)
        std = jnp.where(assumed, batch.attributes_std, 0.5)
        target = jnp.where(assumed[..., None], discretised_normal(mean, std, bins), target)
        labelled = labelled | assumed
    return target, labelled


def discretised_normal(mean: Float[Array, "B A"], std: Float[Array, "B A"], bins: int) -> Float[Array, "B A K"]:
    """Probabilities of K equally spaced values from 0 to 1 under rounded normal variables, float32.

    Args:
      mean: in [0, 1].
      std: not negative; at least half the distance between values is used.
      bins: K. The first and the last value also have the probability beyond the ends of the scale.
    """
    spacing = 1.0 / (bins - 1)
    middles = (jnp.arange(bins - 1, dtype=jnp.float32) + 0.5) * spacing
    scale = jnp.maximum(std.astype(jnp.float32), _LEAST_STD * spacing)
    below = jax.scipy.stats.norm.cdf((middles - mean.astype(jnp.float32)[..., None]) / scale[..., None])
    ends = [jnp.zeros((*below.shape[:-1], 1)), below, jnp.ones((*below.shape[:-1], 1))]
    return jnp.diff(jnp.concatenate(ends, axis=-1), axis=-1)


def cross_entropy(logits: Float[Array, "B 3 K"], target: Float[Array, "B 3 K"]) -> Float[Array, "B 3"]:
    """−Σ_k target_k log softmax(logits)_k, in nats."""
    return -(target * jax.nn.log_softmax(logits)).sum(axis=-1)


def squared_emd(logits: Float[Array, "B 3 K"], target: Float[Array, "B 3 K"]) -> Float[Array, "B 3"]:
    """Squared earth mover's distance between softmax(logits) and target, over a scale of length 1."""
    difference = jnp.cumsum(jax.nn.softmax(logits) - target, axis=-1)[..., :-1]
    return jnp.square(difference).sum(axis=-1) / difference.shape[-1]


RATING_LOSSES: dict[str, Callable[[Array, Array], Array]] = {"cross_entropy": cross_entropy, "squared_emd": squared_emd}
"""Losses of distributions, by name: from logits and targets to one value per utterance and attribute."""


def rating_losses(
    logits: Float[Array, "B 3 K"], batch: Batch, objective: ObjectiveConfig
) -> tuple[Float[Array, "3"], Bool[Array, "B 3"]]:
    """Loss per attribute: mean over the labels with a target, weighted by `label_weights`.

    Args:
      logits: `EmotionOutput.rating_logits`.
      batch: global batch, loaded with ratings.
      objective: losses on labels.

    Returns:
      The losses, 0 with gradient 0 without a target; and which labels have one.
    """
    target, labelled = rating_targets(batch, logits.shape[-1], objective)
    weights = label_weights(batch, objective).astype(jnp.float32)
    weights = jnp.where(labelled, weights[:, None] if weights.ndim == 1 else weights, 0.0)
    logits = jnp.where(labelled[..., None], logits.astype(jnp.float32), 0.0)
    losses = RATING_LOSSES[objective.rating_loss](logits, target)
    total = weights.sum(axis=0)
    return (weights * losses).sum(axis=0) / jnp.where(total > 0, total, 1.0), labelled
