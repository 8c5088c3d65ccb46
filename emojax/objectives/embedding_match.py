"""How far a student's embeddings are from a teacher's: four measures, 0 for equal ones, about 1 for unrelated ones."""

from typing import Literal

import jax.numpy as jnp
from jaxtyping import Array, Float

EmbeddingLoss = Literal["mse", "cosine", "cka", "relational"]

PROJECTED: tuple[EmbeddingLoss, ...] = ("mse", "cosine")
"""Measures that compare coordinates, so that the student's embedding is first brought into the teacher's space."""

_EPSILON = 1e-8


def embedding_loss(
    student: Float[Array, "B E"], teacher: Float[Array, "B F"], weights: Float[Array, "B"], kind: EmbeddingLoss
) -> Float[Array, ""]:
    """Compares two sets of embeddings over the global batch.

    `mse`: mean squared difference over the teacher's variance in the batch. `cosine`: 1 − cosine, mean over rows.
    `cka`: 1 − linear centred kernel alignment (Kornblith et al. 2019), which knows no coordinates. `relational`: mean
    squared difference of pairwise distances, each set's scaled to mean 1 (Park et al. 2019, without the Huber bend).

    Args:
      student: E = F for `mse` and `cosine`: projected.
      teacher: any values; rows of weight 0 take no part.
      weights: not negative.
      kind: measure.
    """
    counted = weights[:, None] != 0
    student = jnp.where(counted, student.astype(jnp.float32), 0.0)
    teacher = jnp.where(counted, teacher.astype(jnp.float32), 0.0)
    share = weights / jnp.maximum(weights.sum(), _EPSILON)
    if kind == "cosine":
        lengths = _length(student) * _length(teacher)
        return (share * (1.0 - (student * teacher).sum(axis=1) / lengths)).sum()
    if kind == "relational":
        pairs = share[:, None] * share * (1.0 - jnp.eye(len(share)))
        difference = _relative_distances(student, pairs) - _relative_distances(teacher, pairs)
        return (pairs * jnp.square(difference)).sum() / jnp.maximum(pairs.sum(), _EPSILON)
    centred_teacher = teacher - share @ teacher
    if kind == "mse":
        variance = (share @ jnp.square(centred_teacher)).sum()
        return (share @ jnp.square(student - teacher)).sum() / (variance + _EPSILON)
    root = jnp.sqrt(share)[:, None]
    left, right = root * (student - share @ student), root * centred_teacher
    shared = jnp.square(left.T @ right).sum()
    norms = jnp.sqrt(jnp.square(left.T @ left).sum() * jnp.square(right.T @ right).sum())
    return 1.0 - shared / (norms + _EPSILON)


def _length(rows: Float[Array, "B E"]) -> Float[Array, "B"]:
    return jnp.sqrt(jnp.square(rows).sum(axis=1) + _EPSILON)


def _relative_distances(rows: Float[Array, "B E"], pairs: Float[Array, "B B"]) -> Float[Array, "B B"]:
    squares = jnp.square(rows[:, None] - rows[None]).sum(axis=-1)
    distances = jnp.sqrt(squares + _EPSILON)
    mean = (pairs * distances).sum() / jnp.maximum(pairs.sum(), _EPSILON)
    return distances / (mean + _EPSILON)
