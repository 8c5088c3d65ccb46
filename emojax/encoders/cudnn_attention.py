"""Attention on NVIDIA GPUs by cuDNN's fused kernel (Dao et al. 2022): scores stay on the chip, forward and backward.

It has no dropout on attention weights whose mask changes from step to step, and computes in bfloat16 or float16 only.
Where it does not apply, `emojax.encoders.attention` computes the reference: `fits_cudnn` is the whole rule.
"""

from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

_IMPLEMENTATION: Any = "cudnn"

_MAX_FEATURES = 128
"""Most features of a head on all GPUs with the kernel; those since Hopper take 256."""

_CAPABILITY = 8.0
"""Compute capability of the first GPUs with the kernel (Ampere)."""

FRAME_MULTIPLE = 2
"""Number that T is padded to a multiple of: with a bias the backward kernel takes even lengths only."""

FORWARD = "dot_product_attention_fwd_wrapper"
"""Name of JAX's primitive for the forward kernel; its results are all that the backward kernel needs beside inputs."""


def fits_cudnn(capability: float, dtype: Any, features: int, dropout_rate: float) -> bool:
    """Whether cuDNN computes attention, without an error and without a difference beyond rounding in `dtype`.

    Args:
      capability: compute capability of the GPU; 0 for other devices.
      dtype: of queries, keys and values.
      features: F, features of a head.
      dropout_rate: probability of dropping a weight.
    """
    narrow = dtype in (jnp.bfloat16, jnp.float16)
    return capability >= _CAPABILITY and narrow and features % 8 == 0 and features <= _MAX_FEATURES and not dropout_rate


def saves_forward(primitive: Any, *_: Any, **__: Any) -> bool:
    """Policy of `jax.checkpoint`: keep the results of the forward kernel, so that it does not run a second time."""
    return bool(primitive.name == FORWARD)


def cudnn_attention(
    query: Float[Array, "B T D"],
    key: Float[Array, "B T D"],
    value: Float[Array, "B T D"],
    num_frames: Int[Array, "B"],
    bias: Float[Array, "H T T"] | None,
    gate: Float[Array, "H B T"] | None,
    *,
    num_heads: int,
) -> Float[Array, "B T D"]:
    """Computes `emojax.encoders.attention.attend` of the heads and rows of one device, without dropout.

    A row without a valid frame gets a weighted mean of all values, in place of the reference's mean: finite, and as
    meaningless. A position bias is multiplied with its gate before the kernel, in memory: (B, H, T, T) in the type of
    the queries, once for each pass, not kept from forward to backward.

    Args:
      query: queries, the features of a head side by side.
      key: keys.
      value: values.
      num_frames: valid frames of each row, which come first.
      bias: added to the logits of each head: [h, s, t] for key s and query t.
      gate: factor of `bias` per query; None together with it.
      num_heads: H.
    """
    batch, frames, width = query.shape
    # The kernel's result for a row without keys is undefined.
    lengths = jnp.where(num_frames > 0, num_frames, frames).astype(jnp.int32)
    extra = -frames % FRAME_MULTIPLE

    def heads(states: Float[Array, "B T D"]) -> Float[Array, "B T2 H F"]:
        return jnp.pad(states, ((0, 0), (0, extra), (0, 0))).reshape(batch, frames + extra, num_heads, -1)

    def attended(query: Any, key: Any, value: Any, bias: Any, gate: Any) -> Float[Array, "B T2 H F"]:
        logits = None if bias is None else _position(bias, gate, extra, query.dtype)
        return jax.nn.dot_product_attention(
            query, key, value, logits, key_value_seq_lengths=lengths, implementation=_IMPLEMENTATION
        )

    kernel = attended if bias is None else jax.checkpoint(attended, policy=saves_forward)
    result = kernel(heads(query), heads(key), heads(value), bias, gate)
    return result[:, :frames].reshape(batch, frames, width)


def _position(
    bias: Float[Array, "H T T"], gate: Float[Array, "H B T"], extra: int, dtype: Any
) -> Float[Array, "B H T2 T2"]:
    """Gated bias of queries and keys."""
    gated = gate.swapaxes(0, 1)[..., None] * bias.swapaxes(1, 2)
    return jnp.pad(gated.astype(dtype), ((0, 0), (0, 0), (0, extra), (0, extra)))
