"""Gradients of a loss over the whole batch from micro-batches, exactly: no mean of micro-batch losses.

CCC is a statistic of the whole batch. Summing gradients of CCC losses over parts would train on another loss; the
field's baselines do. Here all parts are run forward first, without keeping anything for a backward pass; the loss and
its gradient by the model's outputs are those of the whole batch; then each part is run again, forward and backward,
with its share of that gradient. That costs one more forward pass and keeps the activations of one part at a time.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from emojax.types import Batch, EmotionOutput

Forward = Callable[[Any, Batch, jax.Array], EmotionOutput]
"""From parameters, (part of) a batch and a random key to outputs."""

OutputLoss = Callable[[EmotionOutput, Batch, Any], tuple[jax.Array, dict[str, jax.Array]]]
"""From outputs and labels of the global batch and the objective's parameters to the loss and scalars to log."""


def loss_gradients(
    forward: Forward, loss: OutputLoss, params: Any, objective: Any, batch: Batch, key: jax.Array, parts: int
) -> tuple[dict[str, Any], dict[str, jax.Array]]:
    """Gradients of the loss over the global batch.

    Args:
      forward: the model.
      loss: the objective.
      params: trainable parameters of the model.
      objective: parameters of the objective.
      batch: the global batch; its rows are a multiple of `parts`.
      key: for dropout and augmentation.
      parts: micro-batches; 1 runs everything at once.

    Returns:
      Gradients as `{"model": ..., "objective": ...}`, and the loss's scalars.
    """
    if parts == 1:

        def whole(trained: dict[str, Any]) -> tuple[jax.Array, dict[str, jax.Array]]:
            return loss(forward(trained["model"], batch, key), batch, trained["objective"])

        return jax.grad(whole, has_aux=True)({"model": params, "objective": objective})

    split = jax.tree.map(lambda rows: _to_parts(rows, parts), batch)
    keys = jax.random.split(key, parts)
    outputs = jax.lax.map(lambda part: forward(params, *part), (split, keys))
    joined = jax.tree.map(_from_parts, outputs)
    (by_output, by_objective), metrics = jax.grad(loss, argnums=(0, 2), has_aux=True)(joined, batch, objective)
    cotangents = jax.tree.map(lambda rows: _to_parts(rows, parts), by_output)

    def add_part(total: Any, part: Any) -> tuple[Any, None]:
        rows, key_of_part, cotangent = part
        _, pull_back = jax.vjp(lambda params: forward(params, rows, key_of_part), params)
        (gradient,) = pull_back(cotangent)
        return jax.tree.map(jnp.add, total, gradient), None

    zeros = jax.tree.map(jnp.zeros_like, params)
    total, _ = jax.lax.scan(add_part, zeros, (split, keys, cotangents))
    return {"model": total, "objective": by_objective}, metrics


def in_parts(function: Callable[[Any, Batch], Any], constants: Any, batch: Batch, parts: int) -> Any:
    """`function(constants, batch)`, whose rows do not depend on each other, in so many micro-batches."""
    if parts == 1:
        return function(constants, batch)
    split = jax.tree.map(lambda rows: _to_parts(rows, parts), batch)
    return jax.tree.map(_from_parts, jax.lax.map(lambda part: function(constants, part), split))


def _to_parts(rows: jax.Array, parts: int) -> jax.Array:
    """(B, ...) to (parts, B / parts, ...): part k has the rows k, k + parts, ..., so that no row changes its device."""
    return rows.reshape(rows.shape[0] // parts, parts, *rows.shape[1:]).swapaxes(0, 1)


def _from_parts(rows: jax.Array) -> jax.Array:
    return rows.swapaxes(0, 1).reshape(rows.shape[0] * rows.shape[1], *rows.shape[2:])
