"""The supervised loss over the global batch: CCC or squared error of attributes, cross-entropy of categories.

A term is a function `(output, batch, settings) -> (loss, scalars)` with an entry in `LABEL_TERMS`, or in
`TEACHER_TERMS` of `distillation.py`. CCC is a statistic of a set: the mean of the CCCs of parts of a batch is a
different loss. Terms are functions of global arrays; inside `jax.jit`, sums over a batch axis that is sharded over
devices run over the whole batch.
"""

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Num

from emojax.losses.confidence import label_weights
from emojax.losses.config import AttributeLoss, DistillationConfig, ObjectiveConfig
from emojax.losses.rating_distribution import rating_losses
from emojax.metrics.moments import co_moments, pair_mask
from emojax.types import ATTRIBUTES, NUM_ATTRIBUTES, Batch, EmotionOutput


@dataclasses.dataclass(frozen=True)
class LossSettings:
    """Inputs of a term besides outputs and batch.

    Attributes:
      objective: losses on labels.
      distillation: losses towards a teacher.
      class_weights: weight of each category in the cross-entropy, float32; (0,) without categories.
      parameters: learned parameters of the loss: see `objective_parameters` and `projection_parameters`.
    """

    objective: ObjectiveConfig
    distillation: DistillationConfig
    class_weights: Float[Array, "C"]
    parameters: Mapping[str, Any]

    @property
    def log_variance(self) -> Float[Array, "4"] | None:
        """Learned log-variances of three attributes and the category, within ±10; None with fixed weighting.

        Every task's loss L becomes exp(−s) L + s, s its log-variance (Kendall, Gal and Cipolla 2018, equation 7, up to
        the factor 1/2). Without the limits, a task whose loss goes to 0 would get a weight without bound.
        """
        if self.objective.weighting == "fixed":
            return None
        return jnp.clip(self.parameters["log_variance"], -_MAX_LOG_VARIANCE, _MAX_LOG_VARIANCE)


_MAX_LOG_VARIANCE = 10.0

Scalars = dict[str, Float[Array, ""]]
"""float32 scalars to log, by name."""

Term = Callable[[EmotionOutput, Batch, LossSettings], tuple[Float[Array, ""], Scalars]]
"""A term of the loss: a pure function of the outputs for a global batch and of the batch's labels.

Returns the unweighted loss, float32, and scalars to log. Rows of weight 0 and missing labels have no influence, and
value and gradient are finite without any label.
"""


class WeightedTerm(NamedTuple):
    """A term and its weight in the sum, a number from the config."""

    term: Term
    weight: Callable[[LossSettings], float]


def weighted_sum(
    terms: Mapping[str, WeightedTerm], output: EmotionOutput, batch: Batch, settings: LossSettings
) -> tuple[Float[Array, ""], Scalars]:
    """Σ_k weight_k · term_k, float32, which is also the scalar `loss` beside those of the terms."""
    total: Any = 0.0
    scalars: Scalars = {}
    for term, weight in terms.values():
        loss, own = term(output, batch, settings)
        total = total + weight(settings) * loss
        scalars |= own
    return total, {**scalars, "loss": total}


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

    Labels are weighted by `objective.confidence` (`emojax.losses.confidence`).

    Attributes without a loss in this batch (fewer than two labels, or for the squared error alone none) are skipped,
    and the weights of the others are scaled up to the same sum: so the loss has one scale for a corpus with one, two or
    three rated attributes. With learned weighting, L_d becomes exp(−s_d) L_d + s_d: see `LossSettings.log_variance`.

    Returns:
      The loss, and scalars: `loss/ccc_<attribute>` and `loss/mse_<attribute>` of the losses that are used (0 where
      skipped), `labels/<attribute>` (number of labels), with learned weighting `weight/<attribute>` = exp(−s_d).
    """
    objective, log_variance = settings.objective, settings.log_variance
    names = ("ccc", "mse") if objective.attribute_loss == "mix" else (objective.attribute_loss,)
    weights = label_weights(batch, objective)
    parts = {name: ATTRIBUTE_LOSSES[name](output.attributes, batch.attributes, weights) for name in names}
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


def rating_term(output: EmotionOutput, batch: Batch, settings: LossSettings) -> tuple[Float[Array, ""], Scalars]:
    """Σ_d w_d R_d, R the loss between predicted distributions and the raters' choices (`rating_losses`).

    Attributes without a target in this batch are skipped, as in `attribute_term`. Learned weighting does not apply.

    Returns:
      The loss, and scalars: `loss/ratings_<attribute>`, and `labels/ratings_<attribute>`, number of labels with a
      target; 0 and no scalars without `objective.rating_weight`.
    """
    objective = settings.objective
    if not objective.rating_weight:
        return jnp.zeros((), jnp.float32), {}
    if output.rating_logits is None:
        raise ValueError("outputs must have rating_logits (model.rating_bins) for objective.rating_weight, got None")
    losses, labelled = rating_losses(output.rating_logits, batch, objective)
    num_labels = labelled.sum(axis=0).astype(jnp.float32)
    scalars = {f"loss/ratings_{name}": losses[column] for column, name in enumerate(ATTRIBUTES)}
    scalars |= {f"labels/ratings_{name}": num_labels[column] for column, name in enumerate(ATTRIBUTES)}
    return weighted_mean(losses, objective.attribute_weights, num_labels > 0), scalars


LABEL_TERMS: dict[str, WeightedTerm] = {
    "attributes": WeightedTerm(attribute_term, lambda settings: 1.0),
    "ratings": WeightedTerm(rating_term, lambda settings: settings.objective.rating_weight),
    "emotion": WeightedTerm(emotion_term, lambda settings: settings.objective.emotion_weight),
}
"""Terms of the supervised loss, by name."""

_NO_TEACHER = DistillationConfig()


def multitask_loss(
    output: EmotionOutput,
    batch: Batch,
    parameters: Mapping[str, Any],
    config: ObjectiveConfig,
    class_weights: Float[Array, "C"],
) -> tuple[Float[Array, ""], Scalars]:
    """Σ_d w_d (L_d + rating_weight · R_d) + emotion_weight · cross-entropy, over the global batch, in float32.

    A corpus without ratings trains on its categories alone, one without categories (C = 0) on its attributes alone.

    Args:
      output: predictions of a model.
      batch: labels; rows of weight 0, NaN ratings, -1 categories and NaN votes have no influence.
      parameters: from `objective_parameters`.
      config: weights and targets.
      class_weights: see `class_weights`; (0,) without categories.

    Returns:
      The loss, and scalars by name: `loss`, and those of `attribute_term`, `rating_term` and `emotion_term`.
    """
    return weighted_sum(LABEL_TERMS, output, batch, LossSettings(config, _NO_TEACHER, class_weights, parameters))


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
