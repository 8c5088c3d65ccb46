"""Distances between embeddings of student and teacher: four measures, 0 for equal ones, about 1 for unrelated ones.

`mse`, `cka` and `relational` are statistics of a set: of fewer than two rows they are 0 with gradient 0. Every spread
in a denominator has a floor, far below that of a batch of different utterances, so that equal rows (a short last batch,
a constant teacher) give a bounded loss and gradient.
"""

from typing import Literal

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

EmbeddingLoss = Literal["mse", "cosine", "cka", "relational"]

PROJECTED: tuple[EmbeddingLoss, ...] = ("mse", "cosine")
"""Measures that compare coordinates: the student's embedding is first projected into the teacher's space."""

LEAST_SHARE = 0.1
"""Floor of the variance of a batch, as a share of that of the training data."""

_LEAST_VARIANCE = 1e-3
"""Least variance of a teacher's embeddings in a batch relative to their mean square."""

_LEAST_SPREAD = 1e-3
"""Least spread of a batch relative to the size of its embeddings (root mean squares)."""

_LEAST_LENGTH = 1e-2
"""Least length of an embedding relative to the batch's (root mean squares)."""

_LEAST_SIZE = 1e-2
"""Embeddings smaller than this in every coordinate are not scaled up."""

_EPSILON = 1e-8


def embedding_loss(
    student: Float[Array, "B E"],
    teacher: Float[Array, "B F"],
    weights: Float[Array, "B"],
    kind: EmbeddingLoss,
    teacher_variance: Float[Array, ""] | float = 0.0,
) -> Float[Array, ""]:
    """Compares two sets of embeddings over the global batch.

    `mse`: mean squared difference over the teacher's variance in the batch, or `LEAST_SHARE` of the one in the training
    data if that is more. `cosine`: 1 − cosine, mean over rows. `cka`: 1 − linear centred kernel alignment (Kornblith
    et al. 2019), which depends on no coordinates. `relational`: mean squared difference of pairwise distances, each
    set's scaled to mean 1 (Park et al. 2019, without the Huber bend).

    Args:
      student: E = F for `mse` and `cosine`: projected.
      teacher: any values, no gradient; rows of weight 0 have no influence.
      weights: not negative.
      kind: measure.
      teacher_variance: variance of the teacher's embeddings over the training data, sum over coordinates; 0 if unknown.

    Returns:
      float32; 0 with gradient 0 without rows, and, but for `cosine`, with a single one.
    """
    counted = weights[:, None] > 0
    student = jnp.where(counted, student.astype(jnp.float32), 0.0)
    teacher = jax.lax.stop_gradient(jnp.where(counted, teacher.astype(jnp.float32), 0.0))
    share = weights / jnp.maximum(weights.sum(), _EPSILON)
    measure = {"mse": _squared_error, "cosine": _cosine_distance, "cka": _misalignment, "relational": _distance_error}
    loss = measure[kind](student, teacher, share, jnp.asarray(teacher_variance, jnp.float32))
    return jnp.where(counted.sum() >= (1 if kind == "cosine" else 2), loss, 0.0)


def _squared_error(student: Array, teacher: Array, share: Array, teacher_variance: Array) -> Array:
    variance = (share @ jnp.square(teacher - share @ teacher)).sum()
    least = jnp.maximum(LEAST_SHARE * teacher_variance, _LEAST_VARIANCE * (share @ jnp.square(teacher)).sum())
    return (share @ jnp.square(student - teacher)).sum() / (jnp.maximum(variance, least) + _EPSILON)


def _cosine_distance(student: Array, teacher: Array, share: Array, _: Array) -> Array:
    student, teacher = _scaled(student), _scaled(teacher)
    cosine = (student * teacher).sum(axis=1) / (_length(student, share) * _length(teacher, share))
    return (share * (1.0 - cosine)).sum()


def _misalignment(student: Array, teacher: Array, share: Array, _: Array) -> Array:
    student, teacher = _scaled(student), _scaled(teacher)
    root = jnp.sqrt(share)[:, None]
    left, right = root * (student - share @ student), root * (teacher - share @ teacher)
    norms = _kernel_norm(left, student, share) * _kernel_norm(right, teacher, share)
    return 1.0 - jnp.square(left.T @ right).sum() / norms


def _distance_error(student: Array, teacher: Array, share: Array, _: Array) -> Array:
    pairs = share[:, None] * share * (1.0 - jnp.eye(len(share)))
    difference = _relative_distances(student, share, pairs) - _relative_distances(teacher, share, pairs)
    return (pairs * jnp.square(difference)).sum() / jnp.maximum(pairs.sum(), _EPSILON)


def _scaled(rows: Float[Array, "B E"]) -> Float[Array, "B E"]:
    """Coordinates of at most 1, so that no power of them overflows; for measures that a factor does not change."""
    return rows / jax.lax.stop_gradient(jnp.maximum(jnp.abs(rows).max(initial=0.0), _LEAST_SIZE))


def _length(rows: Float[Array, "B E"], share: Float[Array, "B"]) -> Float[Array, "B"]:
    squares = jnp.square(rows).sum(axis=1)
    least = jax.lax.stop_gradient(_LEAST_LENGTH**2 * (share @ squares) + _EPSILON)
    return jnp.sqrt(jnp.maximum(squares, least))


def _kernel_norm(root: Float[Array, "B E"], rows: Float[Array, "B E"], share: Float[Array, "B"]) -> Float[Array, ""]:
    """Frobenius norm of the centred kernel (`root` times its transpose)."""
    least = _LEAST_SPREAD**2 * jax.lax.stop_gradient((share @ jnp.square(rows)).sum() + 1.0)
    return jnp.sqrt(jnp.maximum(jnp.square(root.T @ root).sum(), jnp.square(least)))


def _relative_distances(
    rows: Float[Array, "B E"], share: Float[Array, "B"], pairs: Float[Array, "B B"]
) -> Float[Array, "B B"]:
    rows = _scaled(rows)
    squares = jnp.square(rows[:, None] - rows[None]).sum(axis=-1)
    distances = jnp.sqrt(squares + _EPSILON)
    mean = (pairs * distances).sum() / jnp.maximum(pairs.sum(), _EPSILON)
    least = _LEAST_SPREAD * jnp.sqrt(jax.lax.stop_gradient((share @ jnp.square(rows)).sum() + 1.0))
    return distances / jnp.maximum(mean, least)
