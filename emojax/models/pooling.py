"""Frames to one vector per utterance, over valid frames only."""

from typing import Any, Literal

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from emojax.models.matmul import Dense

PoolingName = Literal["last", "mean", "max", "sum", "statistics"]
"""What `pool` does, without parameters."""

AttentivePoolingName = Literal["attentive", "attentive_statistics"]
"""What `AttentivePooling` does."""


def pool(name: PoolingName, frames: Float[Array, "B T D"], frame_mask: Bool[Array, "B T"]) -> Float[Array, "B P"]:
    """Pools by name.

    Args:
      name: `last`: the last valid frame (Mitra et al. 2022); `mean`; `max`; `sum`, which grows with the length;
        `statistics`: mean and standard deviation.
      frames: any.
      frame_mask: True on valid frames; a row without any gives zeros.

    Returns:
      (B, D), or (B, 2D) for `statistics`.
    """
    if name == "last":
        return pool_last(frames, frame_mask)
    if name == "mean":
        return pool_mean(frames, frame_mask)
    if name == "max":
        return pool_max(frames, frame_mask)
    if name == "sum":
        return jnp.where(frame_mask[..., None], frames, 0).sum(axis=1)
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


def pool_max(frames: Float[Array, "B T D"], frame_mask: Bool[Array, "B T"]) -> Float[Array, "B D"]:
    """The maximum of every feature over valid frames."""
    lowest = jnp.finfo(frames.dtype).min  # finite, so that the gradient of a row without frames is 0 and not NaN
    largest = jnp.where(frame_mask[..., None], frames, lowest).max(axis=1)
    return jnp.where(frame_mask.any(axis=1)[:, None], largest, 0)


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

    def __call__(self, frames: Float[Array, "B T D"], frame_mask: Bool[Array, "B T"]) -> Float[Array, "B P"]:
        """Pools; a row without valid frames gives zeros (and the floor of the deviation)."""
        scores = jnp.where(frame_mask, self.scores(frames), jnp.finfo(jnp.float32).min)
        weights = jnp.where(frame_mask, nn.softmax(scores, axis=-1), 0.0)[..., None]
        frames = frames.astype(jnp.float32)
        mean = (weights * frames).sum(axis=1)
        if not self.statistics:
            return mean
        return _with_deviation(mean, (weights * jnp.square(frames)).sum(axis=1))

    @nn.compact
    def scores(self, frames: Float[Array, "B T D"]) -> Float[Array, "B T"]:
        """Logarithms of the weights, up to their sum."""
        hidden = jnp.tanh(Dense(frames.shape[-1], dtype=self.dtype, name="hidden")(frames))
        vector = self.param("vector", nn.initializers.lecun_normal(), (frames.shape[-1], 1))
        return (hidden.astype(jnp.float32) @ vector)[..., 0]


def _with_deviation(mean: Array, square: Array) -> Float[Array, "B P"]:
    variance = square - jnp.square(mean)
    return jnp.concatenate([mean, jnp.sqrt(jnp.maximum(variance, _LEAST_VARIANCE))], axis=-1)


RunningPool = dict[str, Array]
"""What pooling knows of the frames of a stream so far, by name; each (B,) or (B, D)."""


def start_pool(name: PoolingName | AttentivePoolingName, batch: int, size: int) -> RunningPool:
    """Before the first frame."""
    zeros, rows = jnp.zeros((batch, size), jnp.float32), jnp.zeros(batch, jnp.float32)
    if name == "last":
        return {"last": zeros}
    if name == "max":
        return {"max": jnp.full((batch, size), -jnp.inf, jnp.float32)}
    if name == "sum":
        return {"sum": zeros}
    state = {"weight": rows, "mean": zeros}
    if name == "statistics":
        state["squares"] = zeros
    if name == "attentive_statistics":
        state["square"] = zeros
    if name in ("attentive", "attentive_statistics"):
        state["largest"] = jnp.full(batch, -jnp.inf, jnp.float32)
    return state


def update_pool(
    name: PoolingName | AttentivePoolingName,
    state: RunningPool,
    frames: Float[Array, "B T D"],
    scores: Float[Array, "B T"] | None,
) -> RunningPool:
    """Adds frames, all of them valid; `scores` are those of `AttentivePooling`."""
    frames = frames.astype(jnp.float32)
    if name == "last":
        return {"last": frames[:, -1]}
    if name == "max":
        return {"max": jnp.maximum(state["max"], frames.max(axis=1))}
    if name == "sum":
        return {"sum": state["sum"] + frames.sum(axis=1)}
    if scores is None:
        weight = state["weight"] + frames.shape[1]
        mean = frames.mean(axis=1)
        share = (frames.shape[1] / weight)[:, None]
        shift = mean - state["mean"]
        after = {"weight": weight, "mean": state["mean"] + shift * share}
        if name == "statistics":  # merged as in Chan, Golub and LeVeque 1979
            squares = jnp.square(frames - mean[:, None]).sum(axis=1)
            after["squares"] = state["squares"] + squares + jnp.square(shift) * state["weight"][:, None] * share
        return after
    largest = jnp.maximum(state["largest"], scores.max(axis=1))
    kept, weights = state["weight"] * jnp.exp(state["largest"] - largest), jnp.exp(scores - largest[:, None])
    weight = kept + weights.sum(axis=1)
    old, new = (kept / weight)[:, None], (weights / weight[:, None])[..., None]
    after = {"largest": largest, "weight": weight, "mean": old * state["mean"] + (new * frames).sum(axis=1)}
    if name == "attentive_statistics":
        after["square"] = old * state["square"] + (new * jnp.square(frames)).sum(axis=1)
    return after


def finish_pool(name: PoolingName | AttentivePoolingName, state: RunningPool) -> Float[Array, "B P"]:
    """What pooling gives for all frames so far, of which there is at least one."""
    if name in ("last", "max", "sum"):
        return state[name]
    if name == "statistics":
        deviation = jnp.sqrt(state["squares"] / state["weight"][:, None] + 1e-10)
        return jnp.concatenate([state["mean"], deviation], axis=-1)
    if name == "attentive_statistics":
        return _with_deviation(state["mean"], state["square"])
    return state["mean"]


_LEAST_VARIANCE = 1e-5
"""Of the difference of squares, which rounding can make negative; the published models' own value."""
