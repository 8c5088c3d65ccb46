"""Features to zero mean and unit variance, by their own or by a corpus's statistics."""

from typing import Any, NamedTuple

import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

_VARIANCE_FLOOR = 1e-5
"""Added to variances of log energies (which are near 1 and more in speech): silence becomes zero, not noise."""


class FeatureStatistics(NamedTuple):
    """Sums over frames that can be merged in any order.

    Attributes:
      count: number of frames, ().
      mean: mean of each feature, (D,).
      m2: sum of squared distances from the mean, (D,).
    """

    count: Any
    mean: Any
    m2: Any


def normalise_utterance(features: Float[Array, "B T D"], frame_mask: Bool[Array, "B T"]) -> Float[Array, "B T D"]:
    """Subtract each utterance's mean and divide by its standard deviation; padded frames become zero."""
    mask = frame_mask[..., None]
    count = jnp.maximum(mask.sum(axis=1, keepdims=True), 1)
    mean = jnp.where(mask, features, 0).sum(axis=1, keepdims=True) / count
    centred = jnp.where(mask, features - mean, 0)
    variance = jnp.square(centred).sum(axis=1, keepdims=True) / count
    return (centred / jnp.sqrt(variance + _VARIANCE_FLOOR)).astype(features.dtype)


def normalise_with(
    features: Float[Array, "B T D"], frame_mask: Bool[Array, "B T"], mean: Float[Array, "D"], std: Float[Array, "D"]
) -> Float[Array, "B T D"]:
    """Subtract a given mean and divide by a given standard deviation (> 0); padded frames become zero."""
    return jnp.where(frame_mask[..., None], (features - mean) / std, 0).astype(features.dtype)


def feature_statistics(features: Float[Array, "B T D"], frame_mask: Bool[Array, "B T"]) -> FeatureStatistics:
    """Statistics of the valid frames of a batch."""
    mask = frame_mask[..., None]
    count = mask.sum().astype(features.dtype)
    mean = jnp.where(mask, features, 0).sum(axis=(0, 1)) / jnp.maximum(count, 1)
    m2 = jnp.square(jnp.where(mask, features - mean, 0)).sum(axis=(0, 1))
    return FeatureStatistics(count, mean, m2)


def merge_statistics(first: FeatureStatistics, second: FeatureStatistics) -> FeatureStatistics:
    """Statistics of both sets of frames together (Chan, Golub, LeVeque 1983).

    No large sums are subtracted, so float32 keeps its precision. Works on JAX and on NumPy arrays; merge NumPy
    float64 for counts above 2**24 frames (46 hours).
    """
    count = first.count + second.count
    share = second.count / (count + (count == 0))
    distance = second.mean - first.mean
    return FeatureStatistics(
        count, first.mean + distance * share, first.m2 + second.m2 + distance * distance * first.count * share
    )


def mean_and_std(statistics: FeatureStatistics) -> tuple[Float[Array, "D"], Float[Array, "D"]]:
    """What `normalise_with` takes; a feature that never varied gets a small positive standard deviation."""
    variance = jnp.asarray(statistics.m2) / jnp.maximum(statistics.count, 1)
    return jnp.asarray(statistics.mean), jnp.sqrt(variance + _VARIANCE_FLOOR)
