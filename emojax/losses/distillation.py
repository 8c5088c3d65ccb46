"""Distillation: terms towards a teacher's predictions and embedding, beside or in place of labels.

The teacher's attributes count with a trust w per utterance and attribute, a function of the teacher's residual r,
|teacher − label| in units of the threshold τ (a quantile of its residuals on the training data):

- `none`: w = 1 (Mitra et al. 2022: plain distillation).
- `residual`: w = 1 where r ≤ 1, else 0: predictions of low quality are not used. This is how a citing paper sums up
  Srinivasan et al. 2021; their own estimate of quality is not public.
- `hard`: the student follows the teacher where r ≤ 1 and the label elsewhere: the labels' loss towards targets
  t·1[r ≤ 1] + y·1[r > 1] (the rule of conditional teacher-student learning, Meng et al. 2019, applied to regression),
  weighted by label_weight + attribute_weight.
- `relative`: w = 1 where the teacher is closer to the label than the student is at present, else 0.
- `soft`: w = exp(−r), ours.

Utterances without a label have no residual of that kind: `none` and `relative` follow the teacher, `soft`, `residual`
and `hard` use the spread of several teachers, in units of the same quantile, as r.
"""

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Num

from emojax.losses.config import Condition, DistillationConfig, ObjectiveConfig
from emojax.losses.embedding_match import LEAST_SHARE, PROJECTED, embedding_loss
from emojax.losses.hidden_states import hidden_state_loss
from emojax.losses.multitask import (
    LABEL_TERMS,
    LossSettings,
    Scalars,
    WeightedTerm,
    ccc_loss,
    has_ccc,
    mix_losses,
    multitask_loss,
    weighted_mean,
    weighted_sum,
)
from emojax.losses.multitask import class_weights as make_class_weights
from emojax.metrics.moments import co_moments
from emojax.types import ATTRIBUTES, Batch, EmotionOutput, TeacherOutput

_LEAST_VARIANCE = 1e-4
"""Of a teacher's attributes in a batch, on a scale of [0, 1]: a spread of a hundredth of it."""

_LEAST_TRUST = 1e-6
"""Smaller weights are 0: sums of such weights lose their precision, and the utterances have no influence anyway."""

_LEAST_PROBABILITY = 1e-3
"""Least probability that a teacher gives to the student's categories together, for its distribution to be used."""


def label_term(output: EmotionOutput, batch: Batch, settings: LossSettings) -> tuple[Float[Array, ""], Scalars]:
    """The supervised loss; with `hard`, towards the teacher's attributes where its residual is small."""
    if settings.distillation.condition == "hard":
        teacher = _teacher(batch)
        followed = jnp.where(_trust(output, batch, "hard") > 0, teacher.attributes, batch.attributes)
        batch = batch.replace(attributes=jnp.where(jnp.isnan(followed), batch.attributes, followed))  # type: ignore[attr-defined]
    return weighted_sum(LABEL_TERMS, output, batch, settings)


def teacher_attribute_term(
    output: EmotionOutput, batch: Batch, settings: LossSettings
) -> tuple[Float[Array, ""], Scalars]:
    """Loss towards the teacher's attributes, weighted by trust, mean over attributes by `objective.attribute_weights`.

    1 − CCC, or the squared error over the teacher's variance (in the batch, or a tenth of the one in the training data
    where that is more), or a mix. 0 with gradient 0 where fewer than two utterances count.

    Returns:
      The loss, and scalars: `teacher/<attribute>`, the losses, and `trust/<attribute>`, mean w.
    """
    teacher, config = _teacher(batch), settings.distillation
    trust = _trust(output, batch, config.condition)
    weights = batch.weight[:, None] * trust
    defined = has_ccc(teacher.attributes, weights)
    losses = {
        "ccc": ccc_loss(output.attributes, teacher.attributes, weights),
        "mse": jnp.where(defined, _relative_squared_error(output, teacher, weights), 0.0),
    }
    chosen = mix_losses(config.attribute_loss, config.mse_share, losses)
    rows, scalars = batch.weight != 0, {}
    for column, name in enumerate(ATTRIBUTES):
        scalars[f"teacher/{name}"] = chosen[column]
        scalars[f"trust/{name}"] = jnp.where(rows, trust[:, column], 0.0).sum() / jnp.maximum(rows.sum(), 1)
    return weighted_mean(chosen, settings.objective.attribute_weights, defined), scalars


def teacher_emotion_term(
    output: EmotionOutput, batch: Batch, settings: LossSettings
) -> tuple[Float[Array, ""], Scalars]:
    """T² · KL(teacher || student) of categories at temperature T (Hinton et al. 2015), scalar `teacher/emotion`.

    Mean over rows where the teacher gives the student's categories a probability of 0.001 or more together.
    """
    if output.emotion_logits.shape[1] == 0:
        return jnp.zeros((), jnp.float32), {"teacher/emotion": jnp.zeros((), jnp.float32)}
    teacher, temperature = _teacher(batch), settings.distillation.temperature
    # A row with a missing probability has a NaN sum, and is skipped too.
    defined = (batch.weight > 0) & (teacher.emotion_probabilities.sum(axis=1) >= _LEAST_PROBABILITY)
    probabilities = jnp.where(defined[:, None], teacher.emotion_probabilities, 1.0)
    # softmax(logits / T) of the teacher, from its probabilities; a category it does not have has probability 0.
    target = jax.nn.softmax(jnp.log(jnp.maximum(probabilities, 1e-30)) / temperature)
    logits = jnp.where(defined[:, None], output.emotion_logits.astype(jnp.float32), 0.0)
    divergence = (target * (jnp.log(jnp.maximum(target, 1e-30)) - jax.nn.log_softmax(logits / temperature))).sum(axis=1)
    weights = jnp.where(defined, batch.weight, 0.0)
    loss = temperature**2 * (weights * divergence).sum() / jnp.maximum(weights.sum(), 1e-8)
    return loss, {"teacher/emotion": loss}


def teacher_embedding_term(
    output: EmotionOutput, batch: Batch, settings: LossSettings
) -> tuple[Float[Array, ""], Scalars]:
    """Distance to the teacher's embedding, scalar `teacher/embedding`: see `embedding_loss`; 0 if its weight is 0."""
    teacher, config = _teacher(batch), settings.distillation
    if not config.embedding_weight:  # no projection is learned
        return jnp.zeros((), jnp.float32), {"teacher/embedding": jnp.zeros((), jnp.float32)}
    student = output.embedding
    if config.embedding_loss in PROJECTED:
        projection = settings.parameters["projection"]
        student = student @ projection["kernel"] + projection["bias"]
    variance = 0.0 if teacher.embedding_variance is None else teacher.embedding_variance[0]
    loss = embedding_loss(student, teacher.embedding, batch.weight, config.embedding_loss, variance)
    return loss, {"teacher/embedding": loss}


def teacher_hidden_term(
    output: EmotionOutput, batch: Batch, settings: LossSettings
) -> tuple[Float[Array, ""], Scalars]:
    """Loss of predicted hidden states, scalar `teacher/hidden_states`: see `hidden_state_loss`; 0 without weight."""
    if not settings.distillation.hidden_weight:
        return jnp.zeros((), jnp.float32), {"teacher/hidden_states": jnp.zeros((), jnp.float32)}
    student, teacher = output.hidden_states, _teacher(batch).hidden_states
    if student is None or teacher is None:
        raise ValueError("outputs of student and teacher must hold hidden_states, got None")
    loss = hidden_state_loss(student, teacher, batch.weight, settings.parameters["hidden_states"])
    return loss, {"teacher/hidden_states": loss}


def _label_weight(settings: LossSettings) -> float:
    config = settings.distillation
    return config.label_weight + config.attribute_weight if config.condition == "hard" else config.label_weight


def _attribute_weight(settings: LossSettings) -> float:
    # With `hard`, the teacher's attributes are targets of the label term.
    return 0.0 if settings.distillation.condition == "hard" else settings.distillation.attribute_weight


TEACHER_TERMS: dict[str, WeightedTerm] = {
    "labels": WeightedTerm(label_term, _label_weight),
    "attributes": WeightedTerm(teacher_attribute_term, _attribute_weight),
    "emotion": WeightedTerm(teacher_emotion_term, lambda settings: settings.distillation.emotion_weight),
    "embedding": WeightedTerm(teacher_embedding_term, lambda settings: settings.distillation.embedding_weight),
    "hidden_states": WeightedTerm(teacher_hidden_term, lambda settings: settings.distillation.hidden_weight),
}
"""Terms of the loss with a teacher, by name."""


def distilled_loss(
    output: EmotionOutput,
    batch: Batch,
    parameters: Mapping[str, Any],
    objective: ObjectiveConfig,
    config: DistillationConfig,
    class_weights: Float[Array, "C"],
) -> tuple[Float[Array, ""], Scalars]:
    """The training loss: of labels alone, or with terms towards a teacher where the batch has its outputs.

    Args:
      output: outputs of the student, the model being trained.
      batch: labels, and `teacher`, whose outputs get no gradient.
      parameters: learned parameters of the loss: see `objective_parameters` and `projection_parameters`.
      objective: losses on labels; its `attribute_weights` hold for the teacher's terms, too.
      config: weights and kinds.
      class_weights: weights of the categories in the cross-entropy of labels.

    Returns:
      The loss, and scalars by name: `loss`, and those of the terms.
    """
    terms = LABEL_TERMS if batch.teacher is None else TEACHER_TERMS
    return weighted_sum(terms, output, batch, LossSettings(objective, config, class_weights, parameters))


def make_loss(
    objective: ObjectiveConfig, distillation: DistillationConfig, counts: Num[np.ndarray, "C"]
) -> Callable[[EmotionOutput, Batch, Mapping[str, Any]], tuple[Float[Array, ""], Scalars]]:
    """Builds the training loss: from outputs, global batch and learned parameters to the loss and scalars to log.

    Args:
      objective: losses on labels.
      distillation: losses towards a teacher.
      counts: training items per category, for `objective.class_balance`.
    """
    weights = make_class_weights(counts, objective.class_balance)
    if not distillation.on:
        return partial(multitask_loss, config=objective, class_weights=weights)
    return partial(distilled_loss, objective=objective, config=distillation, class_weights=weights)


def projection_parameters(
    config: DistillationConfig, key: jax.Array, student_size: int, teacher_size: int
) -> dict[str, dict[str, Array]]:
    """Initial parameters of the linear map from the student's embedding to the teacher's; {} where none is needed."""
    if not config.embedding_weight or config.embedding_loss not in PROJECTED:
        return {}
    kernel = jax.nn.initializers.lecun_normal()(key, (student_size, teacher_size), jnp.float32)
    return {"projection": {"kernel": kernel, "bias": jnp.zeros(teacher_size, jnp.float32)}}


def _trust(output: EmotionOutput, batch: Batch, condition: Condition) -> Float[Array, "B 3"]:
    """w per utterance and attribute, without gradient."""
    teacher = _teacher(batch)
    if condition in ("residual", "hard"):
        return (teacher.residual <= 1.0).astype(jnp.float32)
    if condition == "soft":
        trust = jnp.exp(-teacher.residual)
        return jnp.where(trust < _LEAST_TRUST, 0.0, trust)
    if condition == "relative":
        labels = batch.attributes
        student = jax.lax.stop_gradient(output.attributes)
        closer = jnp.abs(teacher.attributes - labels) < jnp.abs(student - labels)
        return (closer | jnp.isnan(labels)).astype(jnp.float32)
    return jnp.ones_like(teacher.residual)


def _relative_squared_error(output: EmotionOutput, teacher: TeacherOutput, weights: Float[Array, "B 3"]) -> Array:
    moments = co_moments(output.attributes, teacher.attributes, weights)
    least: Array | float = _LEAST_VARIANCE
    if teacher.attribute_variance is not None:
        least = jnp.maximum(LEAST_SHARE * teacher.attribute_variance[0], _LEAST_VARIANCE)
    total = jnp.where(moments.weight > 0, moments.weight, 1.0)
    return moments.squared_error / jnp.maximum(moments.variance_sum_label, least * total)


def _teacher(batch: Batch) -> TeacherOutput:
    if batch.teacher is None:
        raise ValueError("batch.teacher must hold a teacher's outputs, got None")
    return batch.teacher
