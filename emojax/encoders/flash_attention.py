"""Attention as one TPU kernel: scores stay on the chip, forward and backward, with position bias and dropout.

A program of the kernel holds queries, keys and values of one utterance and as many heads as fill the 128 lanes, and
computes the scores of all keys and a block of queries. All keys at once need no running maximum (compare Dao et al.
2022), and the backward pass needs no more than the inputs. Scores have keys in rows and queries in columns, so that
what belongs to a query (sum, gate) is a row.
"""

import functools
import math
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.experimental import pallas as pl
from jax.experimental.pallas import tpu as pltpu
from jaxtyping import Array, Bool, Float, Int

from emojax.encoders.random_bits import kept, stream

_LANES = 128
_QUERIES = 256
"""Queries of a block."""

_VMEM_BYTES = 48 * 2**20
"""On-chip memory of a program on TPUs since v5 by the estimate of `fits_on_chip`; twice as much is requested."""

_SMALL_VMEM_BYTES = {"TPU v2": 0, "TPU v3": 0, "TPU v4": 15 * 2**20}
"""The same for older TPUs, by kind of device: the limit that libtpu reports for v4 is 16 MiB."""

MAX_FRAMES = 2**15
"""Longest input: frames of queries and keys share 32 bits as position of a random bit."""


class _Settings(NamedTuple):
    num_heads: int
    dropout_rate: float
    interpret: bool

    def group(self, width: int) -> int:
        """Heads of a program: the fewest that fill lanes, or all."""
        features = width // self.num_heads
        heads = math.lcm(features, _LANES) // features
        return heads if self.num_heads % heads == 0 else self.num_heads


def fits_on_chip(kind: str, frames: int, width: int, num_heads: int, biased: bool) -> bool:
    """Whether the arrays of one program fit into the on-chip memory of a TPU.

    Args:
      kind: kind of device; empty if it is no TPU.
      frames: T.
      width: features of all heads.
      num_heads: heads.
      biased: whether there is a position bias, of which a program holds (T, T) per head.
    """
    group = _Settings(num_heads, 0.0, False).group(width)
    columns = group * width // num_heads
    blocks = 8 * frames * columns * 4 + 8 * frames * min(frames, _QUERIES) * 4
    bias = 4 * group * frames * frames * 4 if biased else 0
    limit = _SMALL_VMEM_BYTES.get(kind, _VMEM_BYTES) if kind else 0
    return frames <= MAX_FRAMES and 2 * blocks + bias <= limit


def flash_attention(
    query: Float[Array, "B T D"],
    key: Float[Array, "B T D"],
    value: Float[Array, "B T D"],
    num_frames: Int[Array, "B"],
    bias: Float[Array, "H T T"] | None,
    gate: Float[Array, "H B T"] | None,
    numbers: Int[Array, "N"],
    *,
    num_heads: int,
    dropout_rate: float = 0.0,
    interpret: bool = False,
) -> Float[Array, "B T D"]:
    """Computes `emojax.encoders.attention.attend` of the heads and rows of one device.

    Args:
      query: queries, the features of a head side by side.
      key: keys.
      value: values.
      num_frames: valid frames of each row, which come first; a row without any gets the mean of all values.
      bias: added to the logits of each head: [h, s, t] for key s and query t.
      gate: factor of `bias` per query; None together with it.
      numbers: two seeds, then the B numbers of the rows and the H numbers of the heads, for dropout.
      num_heads: H.
      dropout_rate: probability of dropping a weight.
      interpret: run the kernel as JAX operations, on any platform.
    """
    settings = _Settings(num_heads, dropout_rate, interpret)
    if bias is None or gate is None:
        return _attention(settings, query, key, value, num_frames, numbers, ())
    by_group = settings.group(query.shape[-1])
    grouped = gate.reshape(num_heads // by_group, by_group, *gate.shape[1:]).swapaxes(1, 2)
    return _attention(settings, query, key, value, num_frames, numbers, (bias, grouped))


@functools.partial(jax.custom_vjp, nondiff_argnums=(0,))
def _attention(settings, query, key, value, num_frames, numbers, position):
    frames = query.shape[1]
    return _call(settings, _forward_kernel, (query, key, value), num_frames, numbers, position, (query,), frames)[0]


def _forward(settings, query, key, value, num_frames, numbers, position):
    operands = (query, key, value, num_frames, numbers, position)
    return _attention(settings, *operands), operands


def _backward(settings, operands, cotangent):
    query, key, value, num_frames, numbers, position = operands
    arrays = (query, key, value, cotangent.astype(query.dtype))
    results = _call(
        settings, _backward_kernel, arrays, num_frames, numbers, position, (query, key, value), query.shape[1]
    )
    by_position = tuple(results[3:])
    return (*results[:3], _no_gradient(num_frames), _no_gradient(numbers), by_position)


_attention.defvjp(_forward, _backward)


def _no_gradient(integers: jax.Array) -> np.ndarray:
    return np.zeros(integers.shape, jax.dtypes.float0)


def _call(settings, kernel, arrays, num_frames, numbers, position, results, frames):
    """Runs a kernel for all groups of heads and rows; bias and gate have gradients where a cotangent is given."""
    batch, _, width = arrays[0].shape
    group = settings.group(width)
    columns = group * width // settings.num_heads
    rows = pl.BlockSpec((1, frames, columns), lambda h, b: (b, 0, h))
    scalars = pl.BlockSpec(memory_space=pltpu.SMEM)
    of_bias = pl.BlockSpec((group, frames, frames), lambda h, b: (h, 0, 0))
    of_gate = pl.BlockSpec((1, 1, group, frames), lambda h, b: (h, b, 0, 0))
    placed = [of_bias, of_gate] if position else []
    backward = len(results) > 1
    extra = list(position) if backward else []
    shapes = [jax.ShapeDtypeStruct(each.shape, each.dtype) for each in (*results, *extra)]
    biased = bool(position)
    body = functools.partial(kernel, settings=settings, group=group, batch=batch, biased=biased)
    return pl.pallas_call(
        body,
        grid=(settings.num_heads // group, batch),
        in_specs=[scalars, scalars, *[rows] * len(arrays), *placed],
        out_specs=[*[rows] * len(results), *(placed if backward else [])],
        out_shape=shapes,
        interpret=settings.interpret,
        compiler_params=pltpu.CompilerParams(
            dimension_semantics=("parallel", "arbitrary"), vmem_limit_bytes=2 * _VMEM_BYTES
        ),
        cost_estimate=pl.CostEstimate(
            flops=(8 if backward else 4) * batch * frames**2 * width,  # without the scores computed again
            transcendentals=batch * settings.num_heads * frames**2,
            bytes_accessed=sum(each.size * each.dtype.itemsize for each in (*arrays, *position, *shapes)),
        ),
        name=kernel.__name__.strip("_"),
    )(num_frames.astype(jnp.int32), numbers, *arrays, *position)


def _forward_kernel(lengths, numbers, query, key, value, *rest, settings, group, batch, biased):
    bias, gate = rest[:2] if biased else (None, None)
    output = rest[-1]
    for head, columns in _heads(query, group):
        keys, values = key[0, :, columns], value[0, :, columns]
        for queries in _blocks(query.shape[1]):
            weights, _ = _weights(lengths, keys, query[0, queries, columns], bias, gate, head, queries)
            scale = _dropout_scale(settings, numbers, weights.shape, head, queries, group, batch)
            dropped = weights if scale is None else weights * scale
            output[0, queries, columns] = _dot(dropped.astype(values.dtype), values, 0, 0).astype(output.dtype)


def _backward_kernel(lengths, numbers, query, key, value, cotangent, *rest, settings, group, batch, biased):
    bias, gate = rest[:2] if biased else (None, None)
    by_query, by_key, by_value, *by_position = rest[2:] if biased else rest
    for head, columns in _heads(query, group):
        keys, values = key[0, :, columns], value[0, :, columns]
        key_sum = value_sum = jnp.zeros(keys.shape, jnp.float32)
        for queries in _blocks(query.shape[1]):
            asking, gradient = query[0, queries, columns], cotangent[0, queries, columns]
            weights, valid = _weights(lengths, keys, asking, bias, gate, head, queries)
            by_weight = _dot(values, gradient, 1, 1)
            scale = _dropout_scale(settings, numbers, weights.shape, head, queries, group, batch)
            dropped = weights
            if scale is not None:
                dropped, by_weight = weights * scale, by_weight * scale
            value_sum += _dot(dropped.astype(values.dtype), gradient, 1, 0)
            by_logit = weights * (by_weight - jnp.sum(weights * by_weight, axis=0, keepdims=True))
            by_logit = jnp.where(valid, by_logit, 0.0)
            narrow = by_logit.astype(keys.dtype)
            key_sum += _dot(narrow, asking, 1, 0)
            by_query[0, queries, columns] = (_dot(narrow, keys, 0, 0) * _factor(keys)).astype(by_query.dtype)
            if by_position:
                _add_position(by_position, by_logit, bias, gate, head, queries)
        by_key[0, :, columns] = (key_sum * _factor(keys)).astype(by_key.dtype)
        by_value[0, :, columns] = value_sum.astype(by_value.dtype)


def _add_position(by_position, by_logit, bias, gate, head, queries):
    """Gradients of the bias, summed over the rows of the batch, and of the gate."""
    by_bias, by_gate = by_position
    share = by_logit * gate[0, 0, head : head + 1, queries]
    first = pl.program_id(1) == 0
    # The block stays on the chip from row to row. Where it is new, its content is undefined.
    by_bias[head, :, queries] = jnp.where(first, share, by_bias[head, :, queries] + share)
    by_gate[0, 0, head : head + 1, queries] = jnp.sum(by_logit * bias[head, :, queries], axis=0, keepdims=True)


def _weights(lengths, keys, queries, bias, gate, head, columns):
    """Softmax over keys, (T, queries), and where the key is valid."""
    logits = _dot(keys, queries, 1, 1) * _factor(keys)
    if bias is not None:
        logits = logits + bias[head, :, columns] * gate[0, 0, head : head + 1, columns]
    valid = jax.lax.broadcasted_iota(jnp.int32, logits.shape, 0) < lengths[pl.program_id(1)]
    # A finite floor as in the reference, so that rows without a valid frame get equal weights.
    logits = jnp.where(valid, logits, jnp.finfo(jnp.float32).min)
    weights = jnp.exp(logits - jnp.max(logits, axis=0, keepdims=True))
    return weights / jnp.sum(weights, axis=0, keepdims=True), valid


def _dropout_scale(settings, numbers, shape, head, queries, group, batch):
    """0 for a dropped weight, 1 / (1 - rate) for others; None without dropout."""
    if not settings.dropout_rate:
        return None
    row, number = numbers[2 + pl.program_id(1)], numbers[2 + batch + pl.program_id(0) * group + head]
    keep = _kept((numbers[0], numbers[1]), row, number, shape, queries.start, settings.dropout_rate)
    return jnp.where(keep, 1.0 / (1.0 - settings.dropout_rate), 0.0)


def _kept(seed: Any, row: Any, head: Any, shape: tuple[int, int], first_query: int, rate: float) -> Any:
    key_frame = jax.lax.broadcasted_iota(jnp.int32, shape, 0)
    query_frame = jax.lax.broadcasted_iota(jnp.int32, shape, 1) + first_query
    return kept(stream(*seed, row, head), query_frame * (2 * MAX_FRAMES) + key_frame, rate)


def kept_weights(
    seed: Int[Array, "2"], row: Int[Array, ""], head: Int[Array, ""], frames: int, rate: float
) -> Bool[Array, "T T"]:
    """Attention weights [t, s] of query t and key s that the kernel keeps.

    Args:
      seed: from `seeds`.
      row: number of the row in the global batch.
      head: number of the head.
      frames: T.
      rate: probability of dropping a weight.
    """
    return _kept(seed, row, head, (frames, frames), 0, rate).T


def _factor(keys):
    return keys.shape[-1] ** -0.5


def _heads(query, group):
    features = query.shape[-1] // group
    return [(head, slice(head * features, (head + 1) * features)) for head in range(group)]


def _blocks(frames: int) -> list[slice]:
    return [slice(start, min(start + _QUERIES, frames)) for start in range(0, frames, _QUERIES)]


def _dot(left: Any, right: Any, left_axis: int, right_axis: int) -> Any:
    numbers = (((left_axis,), (right_axis,)), ((), ()))
    return jax.lax.dot_general(left, right, numbers, preferred_element_type=jnp.float32)
