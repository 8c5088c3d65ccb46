"""The concordance correlation coefficient as a loss over the global batch.

CCC is a statistic of a set: the mean of the CCCs of parts of a batch is another, wrong loss. These are functions of
global arrays; inside `jax.jit`, sums over a batch axis that is sharded over devices run over the whole batch.
"""

import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from emojax.metrics.moments import co_moments, pair_mask

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
      predictions: on the scale of the labels; where a pair does not count, neither value nor gradient matter.
      labels: in [0, 1]; NaN where missing.
      weights: not negative; 0 takes an item (or one of its attributes) out. Only their ratios matter.

    Returns:
      Loss per attribute; 0 with gradient 0 where `has_ccc` is false.
    """
    weights = weights.astype(jnp.float32)
    labels = labels.astype(jnp.float32)
    moments = co_moments(predictions.astype(jnp.float32), labels, weights)
    numerator, denominator = moments.ccc_terms()
    return jnp.where(has_ccc(labels, weights), 1.0 - numerator / (denominator + EPSILON), 0.0)


def has_ccc(labels: Float[Array, "B A"], weights: Float[Array, "B"] | Float[Array, "B A"]) -> Bool[Array, "A"]:
    """True for attributes with at least two labelled items of non-zero weight: CCC of fewer is not defined."""
    return pair_mask(labels, weights[:, None] if weights.ndim == 1 else weights).sum(axis=0) >= 2
