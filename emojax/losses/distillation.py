"""Learning from a teacher beside, or in place of, labels: its predictions, its embedding, and when to trust it."""

from collections.abc import Mapping
from typing import Annotated, Any, Literal

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from emojax.losses.ccc import ccc_loss, has_ccc
from emojax.losses.embedding_match import LEAST_SHARE, PROJECTED, EmbeddingLoss, embedding_loss
from emojax.losses.multitask import ObjectiveConfig, multitask_loss
from emojax.metrics.moments import co_moments
from emojax.schema import Ge, Gt, Le, Lt, settings
from emojax.types import ATTRIBUTES, Batch, EmotionOutput, TeacherOutput

Condition = Literal["none", "residual", "hard", "relative", "soft"]

_LEAST_VARIANCE = 1e-4
"""Of a teacher's attributes in a batch, on a scale of [0, 1]: a spread of a hundredth of it."""

_LEAST_TRUST = 1e-6
"""Smaller weights are 0: sums of such weights lose their precision, and the utterances have no influence anyway."""

_LEAST_KNOWN = 1e-3
"""Probability that a teacher must leave to the student's categories: less of it says nothing about them."""


@settings
class DistillationConfig:
    """Loss terms towards a teacher."""

    label_weight: Annotated[float, Ge(0), Le(10**6), "Weight of the labels' loss; 0: labels are not used."] = 1.0
    attribute_weight: Annotated[float, Ge(0), Le(10**6), "Weight of the loss towards the teacher's attributes."] = 0.0
    attribute_loss: Annotated[Literal["ccc", "mse"], "Loss towards the teacher's attributes."] = "ccc"
    emotion_weight: Annotated[
        float, Ge(0), Le(10**6), "Weight of the divergence from the teacher's category probabilities."
    ] = 0.0
    temperature: Annotated[float, Ge(0.01), Le(100), "Temperature of both category distributions."] = 2.0
    embedding_weight: Annotated[float, Ge(0), Le(10**6), "Weight of the distance to the teacher's embedding."] = 0.0
    embedding_loss: Annotated[
        EmbeddingLoss,
        '"mse" or "cosine" after a learned linear projection, "cka" or "relational" without one. All but "cosine" '
        "compare sets: they need two utterances in a batch.",
    ] = "mse"
    condition: Annotated[
        Condition,
        'Which of the teacher\'s attributes are used: "none": all; "residual": those close to the label; "hard": those '
        'close to the label, and the label in place of the others; "relative": those closer to the label than the '
        'student; "soft": weighted by closeness. Formulas: emojax/losses/distillation.py.',
    ] = "none"
    quantile: Annotated[float, Gt(0), Lt(1), "Share of the training labels that the teacher counts as close to."] = 0.5
    debias: Annotated[bool, "Whether a linear bias of the teacher is removed before its residuals are measured."] = True

    @property
    def on(self) -> bool:
        """Whether anything is learned from a teacher."""
        return max(self.attribute_weight, self.emotion_weight, self.embedding_weight) > 0

    @property
    def measures_teacher(self) -> bool:
        """Whether statistics of the teacher on training data are needed: residuals, or the spread of its outputs."""
        squared_attributes = self.attribute_weight > 0 and self.attribute_loss == "mse"
        squared_embedding = self.embedding_weight > 0 and self.embedding_loss == "mse"
        return self.condition in ("residual", "hard", "soft") or squared_attributes or squared_embedding


def projection_parameters(
    config: DistillationConfig, key: jax.Array, student_size: int, teacher_size: int
) -> dict[str, dict[str, Array]]:
    """Initial parameters of the linear map from the student's embedding to the teacher's; {} where none is needed."""
    if not config.embedding_weight or config.embedding_loss not in PROJECTED:
        return {}
    kernel = jax.nn.initializers.lecun_normal()(key, (student_size, teacher_size), jnp.float32)
    return {"projection": {"kernel": kernel, "bias": jnp.zeros(teacher_size, jnp.float32)}}


def distilled_loss(
    output: EmotionOutput,
    batch: Batch,
    parameters: Mapping[str, Any],
    objective: ObjectiveConfig,
    config: DistillationConfig,
    class_weights: Float[Array, "C"],
) -> tuple[Float[Array, ""], dict[str, Float[Array, ""]]]:
    """label_weight · L(labels) + what is learned from the teacher, over the global batch.

    The teacher's attributes count by a trust w per utterance and attribute, a function of the teacher's residual r
    there, |teacher − label| in units of the threshold τ (a quantile of its residuals on the training data):

    - `none`: w = 1 (Mitra et al. 2022: plain distillation).
    - `residual`: w = 1 where r ≤ 1, else 0: predictions of low quality are left out. This is how a citing paper sums
      up Srinivasan et al. 2021; their own estimate of quality is not public.
    - `hard`: the student follows the teacher where r ≤ 1 and the label elsewhere: one CCC towards targets
      t·1[r ≤ 1] + y·1[r > 1] (the rule of conditional teacher-student learning, Meng et al. 2019, carried over to
      regression), weighted by label_weight + attribute_weight.
    - `relative`: w = 1 where the teacher is closer to the label than the student is at present, else 0.
    - `soft`: w = exp(−r), ours.

    Utterances without a label have no residual of that kind and follow the teacher (in `soft`, `residual` and `hard`
    by how far several teachers are apart, in units of the same quantile). The teacher's attribute term is 1 − weighted
    CCC to its predictions, or their weighted squared error over their variance (in the batch, or a tenth of the one in
    the training data where that is more). Categories: T²·KL(teacher || student) at temperature T (Hinton et al. 2015),
    mean over rows where the teacher gives the student's categories a probability of 0.001 or more together.

    Terms that compare sets (attributes, embeddings but for `cosine`) are 0 with gradient 0 where fewer than two
    utterances count.

    Args:
      output: of the student.
      batch: labels, and `teacher`.
      parameters: of the objective: see `objective_parameters` and `projection_parameters`.
      objective: of the labels; its `attribute_weights` hold for the teacher's terms, too.
      config: weights and kinds.
      class_weights: of the labels' cross-entropy.

    Returns:
      The loss, and scalars by name: those of `multitask_loss`, `teacher/<attribute>`, `teacher/emotion`,
      `teacher/embedding` (unweighted losses) and `trust/<attribute>` (mean w).
    """
    teacher = batch.teacher
    if teacher is None:
        return multitask_loss(output, batch, parameters, objective, class_weights)
    trust = _trust(output, batch, teacher, config.condition)
    if config.condition == "hard":
        followed = jnp.where(trust > 0, teacher.attributes, batch.attributes)
        batch = batch.replace(attributes=jnp.where(jnp.isnan(followed), batch.attributes, followed))  # type: ignore[attr-defined]
    label_loss, metrics = multitask_loss(output, batch, parameters, objective, class_weights)
    losses, usable = _attribute_losses(output, batch, teacher, trust, config.attribute_loss)
    weights = jnp.where(usable, jnp.asarray(objective.attribute_weights, jnp.float32), 0.0)
    attribute_loss = (weights * losses).sum() / jnp.where(weights.sum() > 0, weights.sum(), 1.0)
    emotion_loss = _emotion_loss(output, batch, teacher, config.temperature)
    matched = _embedding_loss(output, batch, teacher, parameters, config)
    if config.condition == "hard":
        loss = (config.label_weight + config.attribute_weight) * label_loss
    else:
        loss = config.label_weight * label_loss + config.attribute_weight * attribute_loss
    loss = loss + config.emotion_weight * emotion_loss + config.embedding_weight * matched
    metrics = {**metrics, "loss": loss, "teacher/emotion": emotion_loss, "teacher/embedding": matched}
    present = batch.weight != 0
    for column, attribute in enumerate(ATTRIBUTES):
        metrics[f"teacher/{attribute}"] = losses[column]
        metrics[f"trust/{attribute}"] = jnp.where(present, trust[:, column], 0.0).sum() / jnp.maximum(present.sum(), 1)
    return loss, metrics


def _trust(output: EmotionOutput, batch: Batch, teacher: TeacherOutput, condition: Condition) -> Float[Array, "B 3"]:
    """w per utterance and attribute, without gradient."""
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


def _attribute_losses(
    output: EmotionOutput,
    batch: Batch,
    teacher: TeacherOutput,
    trust: Float[Array, "B 3"],
    kind: Literal["ccc", "mse"],
) -> tuple[Float[Array, "3"], Array]:
    """Loss per attribute towards the teacher, and which attributes have one."""
    weights = batch.weight[:, None] * trust
    usable = has_ccc(teacher.attributes, weights)
    if kind == "ccc":
        return ccc_loss(output.attributes, teacher.attributes, weights), usable
    moments = co_moments(output.attributes, teacher.attributes, weights)
    least: Array | float = _LEAST_VARIANCE
    if teacher.attribute_variance is not None:
        least = jnp.maximum(LEAST_SHARE * teacher.attribute_variance[0], _LEAST_VARIANCE)
    total = jnp.where(moments.weight > 0, moments.weight, 1.0)
    losses = moments.squared_error / jnp.maximum(moments.variance_sum_label, least * total)
    return jnp.where(usable, losses, 0.0), usable


def _emotion_loss(output: EmotionOutput, batch: Batch, teacher: TeacherOutput, temperature: float) -> Float[Array, ""]:
    if output.emotion_logits.shape[1] == 0:
        return jnp.zeros((), jnp.float32)
    # A row with a missing probability has a NaN sum, and is left out too.
    known = (batch.weight > 0) & (teacher.emotion_probabilities.sum(axis=1) >= _LEAST_KNOWN)
    probabilities = jnp.where(known[:, None], teacher.emotion_probabilities, 1.0)
    # softmax(logits / T) of the teacher, from its probabilities; a category it does not know has probability 0.
    target = jax.nn.softmax(jnp.log(jnp.maximum(probabilities, 1e-30)) / temperature)
    logits = jnp.where(known[:, None], output.emotion_logits.astype(jnp.float32), 0.0)
    divergence = (target * (jnp.log(jnp.maximum(target, 1e-30)) - jax.nn.log_softmax(logits / temperature))).sum(axis=1)
    weights = jnp.where(known, batch.weight, 0.0)
    return temperature**2 * (weights * divergence).sum() / jnp.maximum(weights.sum(), 1e-8)


def _embedding_loss(
    output: EmotionOutput,
    batch: Batch,
    teacher: TeacherOutput,
    parameters: Mapping[str, Any],
    config: DistillationConfig,
) -> Float[Array, ""]:
    if not config.embedding_weight:
        return jnp.zeros((), jnp.float32)
    student = output.embedding
    if config.embedding_loss in PROJECTED:
        projection = parameters["projection"]
        student = student @ projection["kernel"] + projection["bias"]
    variance = 0.0 if teacher.embedding_variance is None else teacher.embedding_variance[0]
    return embedding_loss(student, teacher.embedding, batch.weight, config.embedding_loss, variance)
