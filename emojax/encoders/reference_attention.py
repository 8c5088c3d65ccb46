"""Attention in plain operations: what the kernels are compared with, and what CPUs compute, within their cache."""

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from emojax.encoders.flash_attention import kept_weights
from emojax.encoders.mixed_precision import product

CACHED_WEIGHTS = 2**22
"""Most attention weights of short rows that a CPU computes together: 16 MiB in float32."""

SHORT = 256
"""Longest of several rows whose heads a CPU computes together; by measurement, as `CACHED_WEIGHTS`."""

_EXCLUDED = -1e30
"""Added to the logits of frames that are not valid."""

_Rows = tuple[Any, ...]
"""Arrays with a leading axis B: queries, keys, values, mask, gate (B H T) or None, numbers of the rows."""


def reference_attention(
    query: Float[Array, "B T D"],
    key: Float[Array, "B T D"],
    value: Float[Array, "B T D"],
    mask: Bool[Array, "B T"],
    seed: Int[Array, "2"],
    rows: Int[Array, "B"],
    bias: Float[Array, "H T T"] | None,
    gate: Float[Array, "H B T"] | None,
    *,
    num_heads: int,
    dropout_rate: float,
) -> Float[Array, "B T D"]:
    """Computes `emojax.encoders.attention.attend` on any device.

    On CPUs it computes parts whose weights stay in the cache: a few rows after another, or one head of all rows where
    rows are long, where they may be on several devices, and where their length is symbolic, in a program that is
    exported for any.

    Args:
      query: queries, D / H features of a head side by side.
      key: keys.
      value: values.
      mask: True on valid frames; a row without any gets the mean of all values.
      seed: two numbers for dropout.
      rows: number of each row, for its dropout.
      bias: added to the logits of each head: [h, s, t] for key frame s and query frame t.
      gate: factor of `bias` per query frame; None together with it.
      num_heads: H.
      dropout_rate: probability of dropping a weight.
    """
    all_heads = functools.partial(_all_heads, num_heads, dropout_rate)
    together = _rows_together(query.shape, num_heads)
    in_cache: Any = functools.partial(all_heads, _one_by_one)
    if together:
        in_cache = functools.partial(_few_rows_by_few, together, all_heads)
    return jax.lax.platform_dependent(
        (query, key, value, mask, None if gate is None else gate.swapaxes(0, 1), rows),
        bias,
        seed,
        cpu=in_cache,
        default=functools.partial(all_heads, lambda head: jax.vmap(jax.checkpoint(head))),
    )


def _rows_together(shape: tuple[Any, ...], num_heads: int) -> int:
    """Rows that a CPU computes together, equally many each time if that is possible; 0: heads are divided instead.

    XLA runs small products on several threads only if there are many of them in one operation; the products of longer
    rows are large enough.
    """
    rows, frames, _ = shape
    if not (isinstance(rows, int) and isinstance(frames, int)) or jax.sharding.get_abstract_mesh().size > 1:
        return 0
    if not rows or frames > (SHORT if rows > 1 else SHORT // 2):
        return 0
    most = max(CACHED_WEIGHTS // (num_heads * frames**2), 1)
    return -(-rows // -(-rows // most))


def _one_by_one(function: Callable[..., Any]) -> Callable[..., Any]:
    # A loop already keeps XLA from merging the second computation of the weights with the first.
    return functools.partial(jax.lax.map, jax.checkpoint(function, prevent_cse=False))


def _few_rows_by_few(
    together: int, all_heads: Callable[..., Any], rows: _Rows, bias: Any, seed: Any
) -> Float[Array, "B T D"]:
    compute = jax.checkpoint(lambda few: all_heads(jax.vmap, few, bias, seed))
    shape = rows[0].shape
    number = shape[0] // together * together
    looped = jax.tree.map(lambda array: array[:number].reshape(-1, together, *array.shape[1:]), rows)
    attended = jax.lax.map(compute, looped).reshape(number, *shape[1:])
    if number == shape[0]:
        return attended
    return jnp.concatenate([attended, compute(jax.tree.map(lambda array: array[number:], rows))])


def _all_heads(
    num_heads: int, dropout_rate: float, over: Callable[..., Any], rows: _Rows, bias: Any, seed: Any
) -> Float[Array, "B T D"]:
    """Attention of rows; `over` makes the function of one head one of all heads, stacked on a leading axis."""
    query, key, value, mask, gate, numbers = rows

    def by_head(states: Float[Array, "B T D"]) -> Float[Array, "H B T F"]:
        rows, frames, width = states.shape
        return states.reshape(rows, frames, num_heads, width // num_heads).transpose(2, 0, 1, 3)

    def head(operands: tuple[Any, ...]) -> Float[Array, "B T F"]:
        return _one_head(operands, mask, dropout_rate, seed, numbers)

    heads = jnp.arange(num_heads, dtype=jnp.int32)
    gate = None if gate is None else gate.swapaxes(0, 1)
    attended = over(head)((by_head(query), by_head(key), by_head(value), bias, gate, heads))
    return attended.transpose(1, 2, 0, 3).reshape(query.shape)


def _one_head(
    operands: tuple[Any, ...],
    mask: Bool[Array, "B T"],
    dropout_rate: float,
    seed: Int[Array, "2"],
    rows: Int[Array, "B"],
) -> Float[Array, "B T F"]:
    """Attention of one head: queries, keys and values (B T F), bias (T T), gate (B T), number of the head."""
    query, key, value, bias, gate, number = operands
    logits = product("btf,bsf->bts", query, key) * query.shape[-1] ** -0.5
    if bias is not None:
        logits = logits + gate[:, :, None] * bias.T
    # Rows without any valid frame have no gradient by their logits.
    logits = jnp.where(mask.any(axis=1)[:, None, None], logits, jax.lax.stop_gradient(logits))
    # As a sum, XLA computes products, mask and softmax as one kernel on CPUs. Finite: rows without any valid frame stay
    # free of NaN, and their logits are equal, since any logit is lost in rounding.
    logits = logits + jnp.where(mask, 0.0, _EXCLUDED).astype(logits.dtype)[:, None, :]
    weights = jnp.exp(logits - jax.lax.stop_gradient(logits.max(axis=-1, keepdims=True)))
    total = weights.sum(axis=-1, keepdims=True)
    if dropout_rate:
        keep = jax.vmap(lambda row: kept_weights(seed, row, number, query.shape[1], dropout_rate))(rows)
        weights = jnp.where(keep, weights / (1.0 - dropout_rate), 0.0)
    # Dividing F features instead of T weights by the total is the same and cheaper.
    attended = product("bts,bsf->btf", weights.astype(value.dtype), value)
    return (attended / total).astype(query.dtype)
