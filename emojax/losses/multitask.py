"""The supervised objective: CCC of three attributes plus cross-entropy of categories, from whatever labels exist."""

import math
from collections.abc import Mapping
from typing import Annotated, Any, Literal

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Num

from emojax.errors import ConfigError
from emojax.losses.ccc import ccc_loss, has_ccc
from emojax.schema import Ge, Le, Lt, settings
from emojax.types import ATTRIBUTES, NUM_ATTRIBUTES, Batch, EmotionOutput

_MAX_LOG_VARIANCE = 10.0


@settings
class ObjectiveConfig:
    """Losses on labels and how they are combined."""

    attribute_weights: Annotated[
        tuple[Annotated[float, Ge(0), Le(1)], Annotated[float, Ge(0), Le(1)], Annotated[float, Ge(0), Le(1)]],
        "Weights of 1 - CCC of activation, valence, dominance; they sum to 1 (the papers: 1/3 each), or are all 0 to "
        "train on categories alone. Attributes without ratings are left out and the others scaled up; one with ratings "
        "of one value must have weight 0.",
    ] = (1 / 3, 1 / 3, 1 / 3)
    emotion_weight: Annotated[
        float,
        Ge(0),
        Le(10**6),
        "Weight of the categories' cross-entropy (the papers: 0.2); 0: categories are not used.",
    ] = 0.0
    class_balance: Annotated[Literal["none", "inverse_frequency"], "Weight of each category in the cross-entropy."] = (
        "none"
    )
    label_smoothing: Annotated[float, Ge(0), Lt(1), "Share of the target spread evenly over all categories."] = 0.0
    emotion_target: Annotated[
        Literal["consensus", "votes"],
        "Target of the logits: the consensus category or the distribution of votes, if there are any.",
    ] = "consensus"
    weighting: Annotated[
        Literal["fixed", "learned"],
        '"fixed": the weights above; "learned": the weight of each task is also divided by its learned uncertainty.',
    ] = "fixed"

    def __post_init__(self):
        """Checks rules between fields."""
        _check_attribute_weights(self.attribute_weights)


def objective_parameters(config: ObjectiveConfig) -> dict[str, Float[Array, "4"]]:
    """Initial values of what the objective itself learns: `log_variance` of three attributes and the category."""
    return {"log_variance": jnp.zeros(NUM_ATTRIBUTES + 1, jnp.float32)} if config.weighting == "learned" else {}


def multitask_loss(
    output: EmotionOutput,
    batch: Batch,
    parameters: Mapping[str, Any],
    config: ObjectiveConfig,
    class_weights: Float[Array, "C"],
) -> tuple[Float[Array, ""], dict[str, Float[Array, ""]]]:
    """Σ_d w_d (1 − CCC_d) + emotion_weight · cross-entropy, over the global batch, in float32.

    Attributes that have no CCC in this batch (fewer than two labels) are left out, and the weights of the others are
    scaled up to the same sum: so the loss has one scale for a corpus with one, two or three rated attributes. A
    corpus without ratings trains on its categories alone, one without categories (C = 0) on its attributes alone.

    With learned weighting every task's loss L becomes exp(−s) L + s, s its learned log-variance (Kendall, Gal and
    Cipolla 2018, equation 7, up to the factor 1/2): tasks that cannot be done well count less. s counts within ±10.

    Args:
      output: predictions of a model.
      batch: labels; rows of weight 0, NaN ratings, -1 categories and NaN votes take no part.
      parameters: from `objective_parameters`.
      config: weights and targets.
      class_weights: see `class_weights`; (0,) without categories.

    Returns:
      The loss, and scalars by name: `loss`, `loss/ccc_<attribute>` and `loss/emotion` (unweighted; 0 where there are
      too few labels), `labels/<attribute>` and `labels/emotion` (how many labels the batch has), with learned weighting
      `weight/...` = exp(−s).
    """
    attribute_losses = ccc_loss(output.attributes, batch.attributes, batch.weight)
    weights = jnp.where(
        has_ccc(batch.attributes, batch.weight), jnp.asarray(config.attribute_weights, jnp.float32), 0.0
    )
    # Configured weights sum to 1 or 0; weights that are left and sum to 0 stay 0.
    scale = jnp.where(weights.sum() > 0, weights.sum(), 1.0)
    emotion_loss, num_emotion_labels, has_emotion = _cross_entropy(output, batch, config, class_weights)
    attribute_terms, emotion_term = attribute_losses, emotion_loss
    if config.weighting == "learned":
        variances = _log_variance(parameters)
        attribute_terms = jnp.exp(-variances[:NUM_ATTRIBUTES]) * attribute_losses + variances[:NUM_ATTRIBUTES]
        emotion_term = jnp.exp(-variances[-1]) * emotion_loss + variances[-1] * has_emotion
    loss = (weights * attribute_terms).sum() / scale + config.emotion_weight * emotion_term

    labelled = (batch.weight != 0)[:, None] & ~jnp.isnan(batch.attributes)
    num_labels = labelled.sum(axis=0).astype(jnp.float32)
    metrics = {"loss": loss, "loss/emotion": emotion_loss, "labels/emotion": num_emotion_labels}
    for column, attribute in enumerate(ATTRIBUTES):
        metrics[f"loss/ccc_{attribute}"] = attribute_losses[column]
        metrics[f"labels/{attribute}"] = num_labels[column]
        if config.weighting == "learned":
            metrics[f"weight/{attribute}"] = jnp.exp(-_log_variance(parameters)[column])
    if config.weighting == "learned":
        metrics["weight/emotion"] = jnp.exp(-_log_variance(parameters)[-1])
    return loss, metrics


def _log_variance(parameters: Mapping[str, Any]) -> Float[Array, "4"]:
    # A task whose loss goes to 0 would otherwise get a weight without bound.
    return jnp.clip(parameters["log_variance"], -_MAX_LOG_VARIANCE, _MAX_LOG_VARIANCE)


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


def _cross_entropy(
    output: EmotionOutput, batch: Batch, config: ObjectiveConfig, class_weights: Array
) -> tuple[Array, Array, Array]:
    """Weighted mean of −Σ_c target_c · log p_c over labelled rows, their number, and whether any of them has weight.

    A row weighs its batch weight times the class weight of its target (the mean over the votes' distribution).
    """
    num_categories = output.emotion_logits.shape[1]
    if num_categories == 0:
        return jnp.zeros((), jnp.float32), jnp.zeros((), jnp.float32), jnp.zeros((), bool)
    target, labelled = _target(batch, config.emotion_target, num_categories)
    logits = jnp.where(labelled[:, None], output.emotion_logits.astype(jnp.float32), 0.0)
    row_weights = jnp.where(labelled, batch.weight.astype(jnp.float32) * (target @ class_weights), 0.0)
    smoothed = (1.0 - config.label_smoothing) * target + config.label_smoothing / num_categories
    losses = -(smoothed * jax.nn.log_softmax(logits)).sum(axis=1)
    total = row_weights.sum()
    loss = (row_weights * losses).sum() / jnp.where(total > 0, total, 1.0)
    return loss, labelled.sum().astype(jnp.float32), total > 0


def _target(batch: Batch, kind: str, num_categories: int) -> tuple[Array, Array]:
    """Target distribution (B, C), zero where there is none, and which rows have one."""
    if kind == "votes":
        votes = batch.emotion_votes.astype(jnp.float32)
        # Votes for categories outside the corpus's C are not in the row: what is left is scaled to sum to 1.
        total = votes.sum(axis=1)
        labelled = (batch.weight != 0) & (total > 0)
        return jnp.where(labelled[:, None], votes / jnp.where(labelled, total, 1.0)[:, None], 0.0), labelled
    labelled = (batch.weight != 0) & (batch.emotion >= 0)
    # An index beyond C makes the loss NaN, which stops training, where clamping would train the wrong category.
    one_hot = jnp.eye(num_categories, dtype=jnp.float32)
    target = jnp.take(one_hot, jnp.where(labelled, batch.emotion, 0), axis=0, mode="fill", fill_value=jnp.nan)
    return jnp.where(labelled[:, None], target, 0.0), labelled


def _check_attribute_weights(weights: tuple[float, float, float]) -> None:
    if not (math.isclose(sum(weights), 1.0, abs_tol=1e-6) or sum(weights) == 0):
        raise ConfigError(
            f"objective.attribute_weights ({', '.join(ATTRIBUTES)}) must sum to 1, or be all 0, got {weights}"
        )
