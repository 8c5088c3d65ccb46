"""Losses of attributes over the global batch: 1 − CCC, mean squared error, or a mix of both.

CCC is a statistic of a set: the mean of the CCCs of parts of a batch is a different loss. These are functions of
global arrays; inside `jax.jit`, sums over a batch axis that is sharded over devices run over the whole batch.
"""

from collections.abc import Callable

import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from emojax.losses.config import AttributeLoss, LossSettings, Scalars
from emojax.metrics.moments import co_moments, pair_mask
from emojax.types import ATTRIBUTES, NUM_ATTRIBUTES, Batch, EmotionOutput

EPSILON = 1e-10
"""Added to CCC's denominator (a variance, on a scale of [0, 1]), so that its inverse is bounded.

It is the square of a spread of 1e-5 of the scale; it changes CCC by less than float32 resolves (6e-8) wherever the
denominator exceeds 0.0017, that is, for ratings whose standard deviation is above 0.04 of the scale.
"""


def ccc_loss(
    predictions: Float[Array, "B A"],
    labels: Float[Array, "B A"],
    weights: Float[Array, "B"] | Float[Array, "B A"],
) -> Float[Array, "A"]:
    """1 − CCC per attribute (Lin 1989, biased variances, weighted), in [0, 2], float32.

    Statistics are float32 whatever the inputs are, each mean subtracted before squaring. Constant predictions have
    loss 1 and the gradient of the covariance; constant labels have loss 1 and no gradient.

    Args:
      predictions: on the scale of the labels; those without label or weight have no influence and gradient 0.
      labels: in [0, 1]; NaN where missing.
      weights: not negative; 0 excludes an item (or one of its attributes). Only their ratios matter.

    Returns:
      Loss per attribute; 0 with gradient 0 where `has_ccc` is false.
    """
    weights = weights.astype(jnp.float32)
    labels = labels.astype(jnp.float32)
    moments = co_moments(predictions.astype(jnp.float32), labels, weights)
    numerator, denominator = moments.ccc_terms()
    return jnp.where(has_ccc(labels, weights), 1.0 - numerator / (denominator + EPSILON), 0.0)


def mse_loss(
    predictions: Float[Array, "B A"],
    labels: Float[Array, "B A"],
    weights: Float[Array, "B"] | Float[Array, "B A"],
) -> Float[Array, "A"]:
    """Mean squared error per attribute, Σ w (prediction − label)² / Σ w over labelled items, float32.

    Args:
      predictions: on the scale of the labels; those without label or weight have no influence and gradient 0.
      labels: in [0, 1]; NaN where missing.
      weights: not negative; 0 excludes an item (or one of its attributes). Only their ratios matter.

    Returns:
      Loss per attribute; 0 with gradient 0 without labels.
    """
    moments = co_moments(predictions.astype(jnp.float32), labels.astype(jnp.float32), weights.astype(jnp.float32))
    return moments.squared_error / jnp.where(moments.weight > 0, moments.weight, 1.0)


def has_ccc(labels: Float[Array, "B A"], weights: Float[Array, "B"] | Float[Array, "B A"]) -> Bool[Array, "A"]:
    """True for attributes with at least two labelled items of non-zero weight: CCC of fewer is not defined."""
    return _num_labels(labels, weights) >= 2


def mix_losses(kind: AttributeLoss, mse_share: float, losses: dict[str, Float[Array, "A"]]) -> Float[Array, "A"]:
    """The loss that the config names: `ccc`, `mse`, or (1 − mse_share) · ccc + mse_share · mse."""
    if kind == "mix":
        return (1.0 - mse_share) * losses["ccc"] + mse_share * losses["mse"]
    return losses[kind]


def attribute_term(output: EmotionOutput, batch: Batch, settings: LossSettings) -> tuple[Float[Array, ""], Scalars]:
    """Σ_d w_d L_d over activation, valence and dominance, L from `objective.attribute_loss`.

    Attributes without a loss in this batch (fewer than two labels, or for the squared error alone none) are skipped,
    and the weights of the others are scaled up to the same sum: so the loss has one scale for a corpus with one, two or
    three rated attributes. With learned weighting, L_d becomes exp(−s_d) L_d + s_d: see `LossSettings.log_variance`.

    Returns:
      The loss, and scalars: `loss/ccc_<attribute>` and `loss/mse_<attribute>` of the losses that are used (0 where
      skipped), `labels/<attribute>` (number of labels), with learned weighting `weight/<attribute>` = exp(−s_d).
    """
    objective, log_variance = settings.objective, settings.log_variance
    names = ("ccc", "mse") if objective.attribute_loss == "mix" else (objective.attribute_loss,)
    parts = {name: ATTRIBUTE_LOSSES[name](output.attributes, batch.attributes, batch.weight) for name in names}
    losses = mix_losses(objective.attribute_loss, objective.mse_share, parts)
    num_labels = _num_labels(batch.attributes, batch.weight)
    defined = num_labels >= (1 if objective.attribute_loss == "mse" else 2)
    scalars = {f"labels/{name}": num_labels[column].astype(jnp.float32) for column, name in enumerate(ATTRIBUTES)}
    for name, part in parts.items():
        scalars |= {f"loss/{name}_{attribute}": part[column] for column, attribute in enumerate(ATTRIBUTES)}
    if log_variance is not None:
        scale = jnp.exp(-log_variance[:NUM_ATTRIBUTES])
        losses = scale * losses + log_variance[:NUM_ATTRIBUTES]
        scalars |= {f"weight/{name}": scale[column] for column, name in enumerate(ATTRIBUTES)}
    return weighted_mean(losses, objective.attribute_weights, defined), scalars


def weighted_mean(
    losses: Float[Array, "3"], weights: tuple[float, float, float], defined: Bool[Array, "3"]
) -> Float[Array, ""]:
    """Mean over the attributes whose loss is defined; 0 if their weights sum to 0."""
    counted = jnp.where(defined, jnp.asarray(weights, jnp.float32), 0.0)
    total = counted.sum()
    return (counted * losses).sum() / jnp.where(total > 0, total, 1.0)


def _num_labels(labels: Array, weights: Array) -> Array:
    return pair_mask(labels, weights[:, None] if weights.ndim == 1 else weights).sum(axis=0)


ATTRIBUTE_LOSSES: dict[str, Callable[[Array, Array, Array], Array]] = {"ccc": ccc_loss, "mse": mse_loss}
"""Losses towards labels, by name: from predictions, labels and weights to one value per attribute."""
