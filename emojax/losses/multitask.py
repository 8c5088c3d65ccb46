"""The supervised loss: cross-entropy of categories, and the weighted sum of all terms on labels."""

from collections.abc import Mapping
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Num

from emojax.losses.attributes import attribute_term
from emojax.losses.config import (
    DistillationConfig,
    LossSettings,
    ObjectiveConfig,
    Scalars,
    WeightedTerm,
    weighted_sum,
)
from emojax.types import NUM_ATTRIBUTES, Batch, EmotionOutput


def emotion_term(output: EmotionOutput, batch: Batch, settings: LossSettings) -> tuple[Float[Array, ""], Scalars]:
    """Weighted mean of −Σ_c target_c · log p_c over labelled rows; 0 without categories.

    The weight of a row is its batch weight times the class weight of its target (the mean over the distribution of
    votes). With learned weighting the loss L becomes exp(−s) L + s: see `LossSettings.log_variance`.

    Returns:
      The loss, and scalars: `loss/emotion` (the cross-entropy; 0 without labels), `labels/emotion` (number of labels),
      with learned weighting `weight/emotion` = exp(−s).
    """
    entropy, num_labels, defined = _cross_entropy(output, batch, settings)
    loss, scalars = entropy, {"loss/emotion": entropy, "labels/emotion": num_labels}
    if settings.log_variance is not None:
        log_variance = settings.log_variance[-1]
        loss = jnp.exp(-log_variance) * entropy + log_variance * defined
        scalars["weight/emotion"] = jnp.exp(-log_variance)
    return loss, scalars


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


def class_weights(counts: Num[np.ndarray, "C"], mode: Literal["none", "inverse_frequency"]) -> Float[Array, "C"]:
    """Weight of each category in the cross-entropy, float32.

    Args:
      counts: training items per category.
      mode: "none": 1 for every category. "inverse_frequency": total / (present categories · count), so that the mean
        weight of a training item is 1; 0 for a category without any item.
    """
    if mode == "none":
        return jnp.ones(counts.shape, jnp.float32)
    counts = counts.astype(np.float64)
    share = counts.sum() / max(np.count_nonzero(counts), 1)
    return jnp.asarray(np.divide(share, counts, out=np.zeros_like(counts), where=counts > 0), jnp.float32)


def _cross_entropy(output: EmotionOutput, batch: Batch, settings: LossSettings) -> tuple[Array, Array, Array]:
    """Cross-entropy, number of labelled rows, and whether any of them has weight."""
    num_categories, smoothing = output.emotion_logits.shape[1], settings.objective.label_smoothing
    if num_categories == 0:
        return jnp.zeros((), jnp.float32), jnp.zeros((), jnp.float32), jnp.zeros((), bool)
    target, labelled = _target(batch, settings.objective.emotion_target, num_categories)
    logits = jnp.where(labelled[:, None], output.emotion_logits.astype(jnp.float32), 0.0)
    row_weights = jnp.where(labelled, batch.weight.astype(jnp.float32) * (target @ settings.class_weights), 0.0)
    smoothed = (1.0 - smoothing) * target + smoothing / num_categories
    losses = -(smoothed * jax.nn.log_softmax(logits)).sum(axis=1)
    total = row_weights.sum()
    loss = (row_weights * losses).sum() / jnp.where(total > 0, total, 1.0)
    return loss, labelled.sum().astype(jnp.float32), total > 0


def _target(batch: Batch, kind: str, num_categories: int) -> tuple[Array, Array]:
    """Target distribution (B, C), zero where there is none, and which rows have one."""
    if kind == "votes":
        votes = batch.emotion_votes.astype(jnp.float32)
        # Votes for categories outside the corpus's C are not in the row: the others are scaled to sum to 1.
        total = votes.sum(axis=1)
        labelled = (batch.weight != 0) & (total > 0)
        return jnp.where(labelled[:, None], votes / jnp.where(labelled, total, 1.0)[:, None], 0.0), labelled
    labelled = (batch.weight != 0) & (batch.emotion >= 0)
    # An index beyond C makes the loss NaN, which stops training, where clamping would train the wrong category.
    one_hot = jnp.eye(num_categories, dtype=jnp.float32)
    target = jnp.take(one_hot, jnp.where(labelled, batch.emotion, 0), axis=0, mode="fill", fill_value=jnp.nan)
    return jnp.where(labelled[:, None], target, 0.0), labelled
