"""WavLM's gated relative position bias (Chen et al. 2022, section III-B)."""

import math
from typing import Any

import flax.linen as nn
import jax
import numpy as np
from jaxtyping import Array, Float, Int

from emojax.encoders.mixed_precision import Linear
from emojax.encoders.speech_config import SpeechEncoderConfig

_GATES = 2
_FEATURES_PER_GATE = 4


class RelativePosition(nn.Module):
    """A learned bias per head and bucket of distances, shared by all layers."""

    config: SpeechEncoderConfig

    @nn.compact
    def __call__(self, num_frames: int) -> Float[Array, "H T T"]:
        """Bias of each pair of query and key frame, before it is gated."""
        config = self.config
        shape = (config.num_buckets, config.num_heads)
        table = self.param("embedding", nn.initializers.normal(0.02), shape)
        distances = np.arange(1 - num_frames, num_frames)
        per_distance = table[position_buckets(distances, config.num_buckets, config.max_distance)].T
        # Row t holds the distances -t ... T - 1 - t: a window that moves one to the left from row to row.
        offsets = np.arange(num_frames)[None, :] - np.arange(num_frames)[:, None] + num_frames - 1
        return per_distance[:, offsets]


class RelativePositionGate(nn.Module):
    """How much the position bias counts, from the state of the query frame."""

    config: SpeechEncoderConfig
    dtype: Any

    @nn.compact
    def __call__(self, states: Float[Array, "B T D"]) -> Float[Array, "H B T"]:
        """Factors of the position bias, in at least float32."""
        config = self.config
        batch, frames, _ = states.shape
        constant = self.param("constant", nn.initializers.ones, (1, config.num_heads, 1, 1))
        per_head = states.reshape(batch, frames, config.num_heads, -1).transpose(2, 0, 1, 3)
        projected = Linear(_GATES * _FEATURES_PER_GATE, self.dtype, name="dense")(per_head)
        gates = jax.nn.sigmoid(projected.reshape(*projected.shape[:-1], _GATES, _FEATURES_PER_GATE).sum(axis=-1))
        return gates[..., 0] * (gates[..., 1] * constant.reshape(-1, 1, 1) - 1.0) + 2.0


def position_buckets(distances: Int[np.ndarray, "N"], num_buckets: int, max_distance: int) -> Int[np.ndarray, "N"]:
    """Bucket of each distance from query to key, in frames.

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
