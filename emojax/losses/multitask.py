"""The supervised loss: a weighted sum of terms on labels, from whatever labels a batch has."""

from collections.abc import Mapping
from typing import Any

import jax.numpy as jnp
from jaxtyping import Array, Float

from emojax.losses.attributes import attribute_term
from emojax.losses.categories import emotion_term
from emojax.losses.config import (
    DistillationConfig,
    LossSettings,
    ObjectiveConfig,
    Scalars,
    WeightedTerm,
    weighted_sum,
)
from emojax.types import NUM_ATTRIBUTES, Batch, EmotionOutput

LABEL_TERMS: dict[str, WeightedTerm] = {
    "attributes": WeightedTerm(attribute_term, lambda settings: 1.0),
    "emotion": WeightedTerm(emotion_term, lambda settings: settings.objective.emotion_weight),
}
"""Terms of the supervised loss, by name."""


def multitask_loss(
    output: EmotionOutput,
    batch: Batch,
    parameters: Mapping[str, Any],
    config: ObjectiveConfig,
    class_weights: Float[Array, "C"],
) -> tuple[Float[Array, ""], Scalars]:
    """Σ_d w_d L_d + emotion_weight · cross-entropy, over the global batch, in float32.

    A corpus without ratings trains on its categories alone, one without categories (C = 0) on its attributes alone.

    Args:
      output: predictions of a model.
      batch: labels; rows of weight 0, NaN ratings, -1 categories and NaN votes have no influence.
      parameters: from `objective_parameters`.
      config: weights and targets.
      class_weights: see `class_weights`; (0,) without categories.

    Returns:
      The loss, and scalars by name: `loss`, and those of `attribute_term` and `emotion_term`.
    """
    return weighted_sum(
        LABEL_TERMS, output, batch, LossSettings(config, DistillationConfig(), class_weights, parameters)
    )


def objective_parameters(config: ObjectiveConfig) -> dict[str, Float[Array, "4"]]:
    """Initial values of the learned parameters: `log_variance` of three attributes and the category, or none."""
    return {"log_variance": jnp.zeros(NUM_ATTRIBUTES + 1, jnp.float32)} if config.weighting == "learned" else {}
