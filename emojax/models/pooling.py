"""Frames to one vector per utterance, over valid frames only."""

from typing import Any, Literal

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

PoolingName = Literal["last", "mean", "statistics"]
"""What `pool` does, without parameters."""

AttentivePoolingName = Literal["attentive", "attentive_statistics"]
"""What `AttentivePooling` does."""


def pool(name: PoolingName, frames: Float[Array, "B T D"], frame_mask: Bool[Array, "B T"]) -> Float[Array, "B P"]:
    """Pools by name.

    Args:
      name: `last`: the last valid frame (Mitra et al. 2022); `mean`; `statistics`: mean and standard deviation.
      frames: any.
      frame_mask: True on valid frames; a row without any gives zeros.

    Returns:
      (B, D), or (B, 2D) for `statistics`.
    """
    if name == "last":
        return pool_last(frames, frame_mask)
    if name == "mean":
        return pool_mean(frames, frame_mask)
    return pool_statistics(frames, frame_mask)


def pool_last(frames: Float[Array, "B T D"], frame_mask: Bool[Array, "B T"]) -> Float[Array, "B D"]:
    """The last valid frame: what follows it is padding."""
    positions = jnp.arange(frames.shape[1])
    last = jnp.max(jnp.where(frame_mask, positions, -1), axis=1)
    taken = jnp.take_along_axis(frames, jnp.maximum(last, 0)[:, None, None], axis=1)[:, 0]
    return jnp.where((last >= 0)[:, None], taken, 0)


def pool_mean(frames: Float[Array, "B T D"], frame_mask: Bool[Array, "B T"]) -> Float[Array, "B D"]:
    """The mean over valid frames."""
    count = jnp.maximum(frame_mask.sum(axis=1), 1)[:, None]
    return jnp.where(frame_mask[..., None], frames, 0).sum(axis=1) / count


def pool_statistics(frames: Float[Array, "B T D"], frame_mask: Bool[Array, "B T"]) -> Float[Array, "B P"]:
    """Mean and (biased) standard deviation over valid frames, one behind the other."""
    mean = pool_mean(frames, frame_mask)
    variance = pool_mean((frames - mean[:, None]) ** 2, frame_mask)
    # The root's gradient at 0 is infinite; 1e-10 is far below any variance of features of unit scale.
    return jnp.concatenate([mean, jnp.sqrt(variance + 1e-10)], axis=-1)


class AttentivePooling(nn.Module):
    """A weighted mean whose weights the model learns; with the weighted standard deviation behind it if asked for.

    Weights are softmax over valid frames of v · tanh(W x + b) (Okabe et al. 2018, attentive statistics pooling).

    Attributes:
      statistics: whether the standard deviation is appended.
      dtype: of the products.
    """

    statistics: bool
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, frames: Float[Array, "B T D"], frame_mask: Bool[Array, "B T"]) -> Float[Array, "B P"]:
        """Pools; a row without valid frames gives zeros (and the floor of the deviation)."""
        hidden = jnp.tanh(nn.Dense(frames.shape[-1], dtype=self.dtype, name="hidden")(frames))
        vector = self.param("vector", nn.initializers.lecun_normal(), (frames.shape[-1], 1))
        scores = (hidden.astype(jnp.float32) @ vector)[..., 0]
        scores = jnp.where(frame_mask, scores, jnp.finfo(jnp.float32).min)
        weights = jnp.where(frame_mask, nn.softmax(scores, axis=-1), 0.0)[..., None]
        frames = frames.astype(jnp.float32)
        mean = (weights * frames).sum(axis=1)
        if not self.statistics:
            return mean
        variance = (weights * jnp.square(frames)).sum(axis=1) - jnp.square(mean)
        return jnp.concatenate([mean, jnp.sqrt(jnp.maximum(variance, _LEAST_VARIANCE))], axis=-1)


_LEAST_VARIANCE = 1e-5
"""Of the difference of squares, which rounding can make negative; the published models' own value."""
