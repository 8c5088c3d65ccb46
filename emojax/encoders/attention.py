"""Self-attention of encoders, with WavLM's gated relative position bias; on TPU and GPU as one kernel."""

import math
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jax.ad_checkpoint import checkpoint_name
from jaxtyping import Array, Bool, Float, Int

from emojax.encoders.cudnn_attention import FRAME_MULTIPLE, cudnn_attention, fits_cudnn
from emojax.encoders.flash_attention import fits_on_chip, flash_attention
from emojax.encoders.mixed_precision import Linear
from emojax.encoders.random_bits import seeds
from emojax.encoders.reference_attention import reference_attention
from emojax.encoders.speech_config import SpeechEncoderConfig
from emojax.encoders.transformer_config import TransformerConfig
from emojax.parallel import BATCH_AXES, cuda_capability, tpu_kind


class SelfAttention(nn.Module):
    """Scaled dot-product attention (Vaswani et al. 2017), with WavLM's gated position bias if one is given."""

    config: TransformerConfig
    dtype: Any
    train: bool

    @nn.compact
    def __call__(
        self, states: Float[Array, "B T D"], mask: Bool[Array, "B T"], position_bias: Float[Array, "H T T"] | None
    ) -> Float[Array, "B T D"]:
        """Computes attended values after the output projection."""
        config = self.config

        def project(name: str, use_bias: bool = True) -> Float[Array, "B T D"]:
            projected = Linear(config.hidden_size, self.dtype, use_bias, name=name)(states).astype(self.dtype)
            return checkpoint_name(projected, name)

        query, key, value = project("query"), project("key", config.key_bias), project("value")
        gate = None
        if position_bias is not None:
            gate = RelativePositionGate(config, self.dtype, name="gate")(states)
        rate = config.attention_dropout if self.train else 0.0
        dropout_key = self.make_rng("dropout") if rate else None
        attended = attend(query, key, value, mask, config.num_heads, position_bias, gate, rate, dropout_key)
        return Linear(config.hidden_size, self.dtype, name="output")(attended)


def attend(
    query: Float[Array, "B T D"],
    key: Float[Array, "B T D"],
    value: Float[Array, "B T D"],
    mask: Bool[Array, "B T"],
    num_heads: int,
    position_bias: Float[Array, "H T T"] | None = None,
    gate: Float[Array, "H B T"] | None = None,
    dropout_rate: float = 0.0,
    dropout_key: jax.Array | None = None,
) -> Float[Array, "B T D"]:
    """Computes softmax-weighted sums of the values of valid frames, in at least float32.

    Weights are not stored for the backward pass but computed again, so memory grows with T, not with T squared. On TPU
    one kernel computes them on the chip (`emojax.encoders.flash_attention`), and on NVIDIA GPUs another without dropout
    in bfloat16 and float16 (`emojax.encoders.cudnn_attention`); elsewhere plain operations do
    (`emojax.encoders.reference_attention`). Results, dropout included, are equal to float rounding.

    Args:
      query: queries, D / H features of a head side by side.
      key: keys.
      value: values.
      mask: True on valid frames, which come first; a row without any gets the mean of all values.
      num_heads: H.
      position_bias: added to the logits of each head: [h, s, t] for key frame s and query frame t.
      gate: factor of `position_bias` per query frame; None together with it.
      dropout_rate: probability of dropping a weight.
      dropout_key: random key; None where the rate is 0.
    """
    rows = jnp.arange(query.shape[0], dtype=jnp.int32)
    seed = jnp.zeros(2, jnp.int32) if dropout_key is None else seeds(dropout_key)
    kernel = _kernel(query, num_heads, dropout_rate, position_bias is not None)
    if kernel is not None:
        position = () if position_bias is None else (position_bias, gate)
        heads = jnp.arange(num_heads, dtype=jnp.int32)
        return kernel(query, key, value, mask.sum(axis=1), seed, rows, heads, *position)
    attended = reference_attention(
        query, key, value, mask, seed, rows, position_bias, gate, num_heads=num_heads, dropout_rate=dropout_rate
    )
    return checkpoint_name(attended, "attended")


def _kernel(query: Float[Array, "B T D"], num_heads: int, dropout_rate: float, biased: bool) -> Any:
    """The kernel for the devices, on each one's rows and heads; None where there is none for these shapes."""
    batch, frames, width = query.shape
    if not isinstance(frames, int):  # symbolic, in a program that is exported for any length
        return None
    local: Any

    def on_tpu(query, key, value, num_frames, seed, rows, heads, bias=None, gate=None):
        numbers = jnp.concatenate([seed, rows, heads])
        attended = flash_attention(
            query, key, value, num_frames, bias, gate, numbers, num_heads=heads.shape[0], dropout_rate=dropout_rate
        )
        return checkpoint_name(attended, "attended")

    def on_gpu(query, key, value, num_frames, seed, rows, heads, bias=None, gate=None):
        return cudnn_attention(query, key, value, num_frames, bias, gate, num_heads=heads.shape[0])

    if fits_on_chip(tpu_kind(), frames, width, num_heads, biased):
        local = on_tpu
    elif fits_cudnn(cuda_capability(), query.dtype, width // num_heads, dropout_rate):
        local = on_gpu
    else:
        return None
    mesh = jax.sharding.get_abstract_mesh()
    if mesh.size <= 1:
        return local
    shards, parts = (math.prod(mesh.shape[axis] for axis in axes) for axes in (BATCH_AXES, ("tensor",)))
    if batch % shards or num_heads % parts:
        return None
    of_states, of_rows, of_heads = jax.P(BATCH_AXES, None, "tensor"), jax.P(BATCH_AXES), jax.P("tensor")
    position = (of_heads, jax.P("tensor", BATCH_AXES)) if biased else ()
    specs = (of_states, of_states, of_states, of_rows, jax.P(), of_rows, of_heads, *position)
    return jax.shard_map(local, in_specs=specs, out_specs=of_states, check_vma=False)


def frame_multiple(config: TransformerConfig, dtype: Any, train: bool) -> int:
    """Number that T should be a multiple of, so that no layer pads its queries, keys and values for a kernel.

    Args:
      config: sizes of the layers.
      dtype: type of queries, keys and values.
      train: whether dropout is on.
    """
    rate = config.attention_dropout if train else 0.0
    on_gpu = fits_cudnn(cuda_capability(), jnp.dtype(dtype), config.hidden_size // config.num_heads, rate)
    return FRAME_MULTIPLE if on_gpu else 1


_GATES = 2
_FEATURES_PER_GATE = 4


class RelativePosition(nn.Module):
    """A learned bias per head and bucket of distances, shared by all layers."""

    config: SpeechEncoderConfig

    @nn.compact
    def __call__(self, num_frames: int) -> Float[Array, "H T T"]:
        """Computes the bias [h, s, t] of key frame s and query frame t, before gating."""
        config = self.config
        shape = (config.num_buckets, config.num_heads)
        table = self.param("embedding", nn.initializers.normal(0.02), shape)
        distances = np.arange(1 - num_frames, num_frames)
        per_distance = table[position_buckets(distances, config.num_buckets, config.max_distance)].T
        # Column t holds the distances -t ... T - 1 - t: a window that moves one to the left from column to column.
        offsets = np.arange(num_frames)[:, None] - np.arange(num_frames)[None, :] + num_frames - 1
        return per_distance[:, offsets]


class RelativePositionGate(nn.Module):
    """Gate of the position bias, computed from the hidden state of the query frame."""

    config: TransformerConfig
    dtype: Any

    @nn.compact
    def __call__(self, states: Float[Array, "B T D"]) -> Float[Array, "H B T"]:
        """Computes factors of the position bias, in at least float32."""
        config = self.config
        batch, frames, _ = states.shape
        constant = self.param("constant", nn.initializers.ones, (1, config.num_heads, 1, 1))
        per_head = states.reshape(batch, frames, config.num_heads, -1).transpose(2, 0, 1, 3)
        projected = Linear(_GATES * _FEATURES_PER_GATE, self.dtype, name="dense")(per_head)
        gates = jax.nn.sigmoid(projected.reshape(*projected.shape[:-1], _GATES, _FEATURES_PER_GATE).sum(axis=-1))
        return gates[..., 0] * (gates[..., 1] * constant.reshape(-1, 1, 1) - 1.0) + 2.0


def position_buckets(distances: Int[np.ndarray, "N"], num_buckets: int, max_distance: int) -> Int[np.ndarray, "N"]:
    """Assigns each distance from query to key, in frames, to a bucket.

    Half of the buckets are for keys after the query. Of each half, the first half are single distances, the rest grow
    logarithmically up to `max_distance`, from where on all share the last one (Raffel et al. 2020, section 2.1).
    """
    per_side = num_buckets // 2
    exact = per_side // 2
    size = np.abs(distances)
    # float32 like the published implementation, so that distances on an edge fall on the same side of it.
    ratio = np.log(np.maximum(size, 1).astype(np.float32) / np.float32(exact))
    ratio = ratio / np.float32(math.log(max_distance / exact)) * np.float32(per_side - exact)
    logarithmic = np.minimum(exact + np.trunc(ratio).astype(np.int64), per_side - 1)
    return np.where(size < exact, size, logarithmic) + np.where(distances > 0, per_side, 0)
