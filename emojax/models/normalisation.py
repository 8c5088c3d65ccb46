"""Normalisation by statistics of the training corpus: variables that a pass over training data fills in.

A module that normalises holds `mean` and `std` in the variable collection `statistics`, 0 and 1 until training starts.
They are constants, not parameters: saved with the model, and equal in training, evaluation, windows and streams. Where
the collection `measured` is mutable, the same module adds the statistics of its input to it, so that what is measured
is what is normalised.
"""

from collections.abc import Mapping
from typing import Any

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from emojax.audio import FeatureStatistics, feature_statistics, normalise_with

MEASURED = "measured"
"""Variable collection of `FeatureStatistics` of one batch, by module."""

_NAME = "batch"


class CorpusNormalisation(nn.Module):
    """Normalises frames to mean 0 and variance 1 per feature over the training corpus."""

    @nn.compact
    def __call__(self, features: Float[Array, "B T *D"], mask: Bool[Array, "B T"]) -> Float[Array, "B T *D"]:
        """Normalises; padded frames become zero.

        Args:
          features: frames, of one axis or more.
          mask: True on valid frames.
        """
        shape = features.shape[2:]
        mean = self.variable("statistics", "mean", jnp.zeros, shape, jnp.float32)
        std = self.variable("statistics", "std", jnp.ones, shape, jnp.float32)
        if not self.is_initializing():
            self.sow(MEASURED, _NAME, feature_statistics(features.astype(jnp.float32), mask))
        return normalise_with(features, mask, mean.value, std.value)


def measured(collection: Mapping[str, Any]) -> FeatureStatistics:
    """Statistics of one batch, from the part of the collection `measured` of one module."""
    (of_batch,) = collection[_NAME]
    return of_batch
