"""Distillation of hidden states: linear heads predict layers of a teacher's encoder from the student's last one.

Chang, Yang and Lee 2022 (DistilHuBERT), equation 1: per frame, the mean absolute difference over features, minus the
logarithm of the sigmoid of the cosine similarity, with the weight 1 that they found best. Here the mean over layers and
frames is taken, not the sum, so that the weight of the term depends on neither number.
"""

from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from emojax.types import FrameStates

_LEAST_LENGTH = 1e-4
"""Floor of the length of a frame, in features of unit scale."""


def hidden_state_loss(
    student: FrameStates, teacher: FrameStates, row_weights: Float[Array, "B"], heads: Mapping[str, Array]
) -> Float[Array, ""]:
    """Compares predicted and actual hidden states over the global batch.

    Args:
      student: last hidden states (B, T, 1, D).
      teacher: hidden states of L layers (B, T', L, E), no gradient; T and T' may differ by frames at the end.
      row_weights: weights of the utterances; those of weight 0 have no influence.
      heads: `kernel` (L, D, E) and `bias` (L, E).

    Returns:
      float32; 0 with gradient 0 without a valid frame.
    """
    frames = min(student.values.shape[1], teacher.values.shape[1])
    weights = student.weights[:, :frames] * teacher.weights[:, :frames] * row_weights[:, None]
    weights = jax.lax.stop_gradient(weights)
    counted = (weights > 0)[..., None]
    inputs = jnp.where(counted, student.values[:, :frames, 0].astype(jnp.float32), 0.0)
    targets = jnp.where(counted[..., None], teacher.values[:, :frames].astype(jnp.float32), 0.0)
    targets = jax.lax.stop_gradient(targets)
    predicted = jnp.einsum("btd,lde->btle", inputs, heads["kernel"]) + heads["bias"]
    difference = jnp.abs(predicted - targets).mean(axis=-1)
    cosine = (predicted * targets).sum(axis=-1) / (_length(predicted) * _length(targets))
    of_frames = (difference - jax.nn.log_sigmoid(cosine)).mean(axis=-1)
    total = weights.sum()
    return (weights * of_frames).sum() / jnp.where(total > 0, total, 1.0)


def hidden_state_heads(
    key: jax.Array, num_layers: int, student_size: int, teacher_size: int
) -> dict[str, dict[str, Any]]:
    """Initial parameters of the heads, under the name `hidden_states`.

    Args:
      key: random key.
      num_layers: L, layers of the teacher.
      student_size: D.
      teacher_size: E.
    """
    initialise = jax.nn.initializers.lecun_normal(in_axis=1, out_axis=2, batch_axis=0)
    kernel = initialise(key, (num_layers, student_size, teacher_size), jnp.float32)
    return {"hidden_states": {"kernel": kernel, "bias": jnp.zeros((num_layers, teacher_size), jnp.float32)}}


def _length(rows: Array) -> Array:
    return jnp.sqrt(jnp.maximum(jnp.square(rows).sum(axis=-1), _LEAST_LENGTH**2))
