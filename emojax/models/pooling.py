"""Pooling of frames into one vector per utterance, over valid frames only: at once, or chunk by chunk of a stream.

A pooling kind is a `Pooling` with an entry in `POOLINGS`; the config takes its names from there.
"""

import abc
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any, Literal

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from emojax.models.layers import Dense

LEAST_VARIANCE = 1e-5
"""Floor of a difference of squares, which rounding can make negative; the published models' own value."""

VARIANCE_FLOOR = 1e-10
"""Added below the root, whose gradient at 0 is infinite; far below any variance of features of unit scale."""

RunningPool = dict[str, Array]
"""State of pooling over the frames of a stream so far, by name; each (B,) or (B, D), float32."""


class Pooling(nn.Module, abc.ABC):
    """Interface of a pooling kind.

    Attributes:
      dtype: dtype of the factors of products, if any.
    """

    dtype: Any = jnp.float32

    @abc.abstractmethod
    def __call__(self, frames: Float[Array, "B T D"], frame_mask: Bool[Array, "B T"]) -> Float[Array, "B P"]:
        """Pools all frames of each utterance.

        Args:
          frames: any values; those of padded frames have no influence.
          frame_mask: True on valid frames; a row without any gives finite values, and no gradient.
        """

    @abc.abstractmethod
    def start(self, batch: int, size: int) -> RunningPool:
        """State before the first frame of a stream, for B = `batch` streams of frames of D = `size` features."""

    @abc.abstractmethod
    def update(self, state: RunningPool, frames: Float[Array, "B T D"]) -> RunningPool:
        """State after T further frames, all of them valid."""

    @abc.abstractmethod
    def finish(self, state: RunningPool) -> Float[Array, "B P"]:
        """Pooled vector of all frames so far, at least one; equals `__call__` of them."""


class LastPooling(Pooling):
    """The last valid frame (Mitra et al. 2022)."""

    def __call__(self, frames: Float[Array, "B T D"], frame_mask: Bool[Array, "B T"]) -> Float[Array, "B D"]:
        """Pools; a row without valid frames gives zeros."""
        positions = jnp.arange(frames.shape[1])
        last = jnp.max(jnp.where(frame_mask, positions, -1), axis=1)
        frame = jnp.take_along_axis(frames, jnp.maximum(last, 0)[:, None, None], axis=1)[:, 0]
        return jnp.where((last >= 0)[:, None], frame, 0)

    def start(self, batch: int, size: int) -> RunningPool:
        """Zeros."""
        return {"last": jnp.zeros((batch, size), jnp.float32)}

    def update(self, state: RunningPool, frames: Float[Array, "B T D"]) -> RunningPool:
        """Replaces the frame."""
        return {"last": frames[:, -1].astype(jnp.float32)}

    def finish(self, state: RunningPool) -> Float[Array, "B D"]:
        """The last frame."""
        return state["last"]


class FirstPooling(Pooling):
    """The first frame, as classifiers of text take the first token (Devlin et al. 2019)."""

    def __call__(self, frames: Float[Array, "B T D"], frame_mask: Bool[Array, "B T"]) -> Float[Array, "B D"]:
        """Pools; a row without valid frames gives zeros."""
        return jnp.where(frame_mask[:, :1], frames[:, 0], 0)

    def start(self, batch: int, size: int) -> RunningPool:
        """Zeros, and no frame so far."""
        return {"first": jnp.zeros((batch, size), jnp.float32), "started": jnp.zeros(batch, jnp.float32)}

    def update(self, state: RunningPool, frames: Float[Array, "B T D"]) -> RunningPool:
        """Keeps the frame, if there is one already."""
        first = jnp.where(state["started"][:, None] > 0, state["first"], frames[:, 0].astype(jnp.float32))
        return {"first": first, "started": jnp.ones_like(state["started"])}

    def finish(self, state: RunningPool) -> Float[Array, "B D"]:
        """The first frame."""
        return state["first"]


class MaxPooling(Pooling):
    """The maximum of every feature."""

    def __call__(self, frames: Float[Array, "B T D"], frame_mask: Bool[Array, "B T"]) -> Float[Array, "B D"]:
        """Pools; a row without valid frames gives zeros."""
        lowest = jnp.finfo(frames.dtype).min  # finite, so that the gradient of a row without frames is 0 and not NaN
        largest = jnp.where(frame_mask[..., None], frames, lowest).max(axis=1)
        return jnp.where(frame_mask.any(axis=1)[:, None], largest, 0)

    def start(self, batch: int, size: int) -> RunningPool:
        """Minus infinity."""
        return {"max": jnp.full((batch, size), -jnp.inf, jnp.float32)}

    def update(self, state: RunningPool, frames: Float[Array, "B T D"]) -> RunningPool:
        """Maximum of both."""
        return {"max": jnp.maximum(state["max"], frames.astype(jnp.float32).max(axis=1))}

    def finish(self, state: RunningPool) -> Float[Array, "B D"]:
        """The maximum."""
        return state["max"]


class SumPooling(Pooling):
    """The sum, which grows with the length."""

    def __call__(self, frames: Float[Array, "B T D"], frame_mask: Bool[Array, "B T"]) -> Float[Array, "B D"]:
        """Pools; a row without valid frames gives zeros."""
        return jnp.where(frame_mask[..., None], frames, 0).sum(axis=1)

    def start(self, batch: int, size: int) -> RunningPool:
        """Zeros."""
        return {"sum": jnp.zeros((batch, size), jnp.float32)}

    def update(self, state: RunningPool, frames: Float[Array, "B T D"]) -> RunningPool:
        """Adds the frames."""
        return {"sum": state["sum"] + frames.astype(jnp.float32).sum(axis=1)}

    def finish(self, state: RunningPool) -> Float[Array, "B D"]:
        """The sum."""
        return state["sum"]


class StatisticsPooling(Pooling):
    """The mean and, with `deviation`, the (biased) standard deviation after it.

    Attributes:
      deviation: whether the standard deviation is appended.
    """

    deviation: bool = True

    def __call__(self, frames: Float[Array, "B T D"], frame_mask: Bool[Array, "B T"]) -> Float[Array, "B P"]:
        """Pools; the mean of a row without valid frames is zero."""
        mean = _masked_mean(frames, frame_mask)
        if not self.deviation:
            return mean
        variance = _masked_mean((frames - mean[:, None]) ** 2, frame_mask)
        return jnp.concatenate([mean, jnp.sqrt(variance + VARIANCE_FLOOR)], axis=-1)

    def start(self, batch: int, size: int) -> RunningPool:
        """Zeros: number of frames, mean, sum of squared differences from it."""
        zeros = jnp.zeros((batch, size), jnp.float32)
        state = {"weight": jnp.zeros(batch, jnp.float32), "mean": zeros}
        return {**state, "squares": zeros} if self.deviation else state

    def update(self, state: RunningPool, frames: Float[Array, "B T D"]) -> RunningPool:
        """Merges moments (Chan, Golub and LeVeque 1979)."""
        frames = frames.astype(jnp.float32)
        weight, mean = state["weight"] + frames.shape[1], frames.mean(axis=1)
        share = (frames.shape[1] / weight)[:, None]
        shift = mean - state["mean"]
        after = {"weight": weight, "mean": state["mean"] + shift * share}
        if self.deviation:
            squares = jnp.square(frames - mean[:, None]).sum(axis=1)
            after["squares"] = state["squares"] + squares + jnp.square(shift) * state["weight"][:, None] * share
        return after

    def finish(self, state: RunningPool) -> Float[Array, "B P"]:
        """Mean, and standard deviation."""
        if not self.deviation:
            return state["mean"]
        deviation = jnp.sqrt(state["squares"] / state["weight"][:, None] + VARIANCE_FLOOR)
        return jnp.concatenate([state["mean"], deviation], axis=-1)


class AttentivePooling(Pooling):
    """Attentive statistics pooling (Okabe et al. 2018): a mean with learned weights and, with `deviation`, more.

    Weights are softmax over valid frames of v · tanh(W x + b).

    Attributes:
      deviation: whether the standard deviation under the same weights is appended.
    """

    deviation: bool = False

    def __call__(self, frames: Float[Array, "B T D"], frame_mask: Bool[Array, "B T"]) -> Float[Array, "B P"]:
        """Pools; the mean of a row without valid frames is zero."""
        scores = jnp.where(frame_mask, self.scores(frames), jnp.finfo(jnp.float32).min)
        weights = jnp.where(frame_mask, nn.softmax(scores, axis=-1), 0.0)[..., None]
        frames = frames.astype(jnp.float32)
        state = {"mean": (weights * frames).sum(axis=1)}
        if self.deviation:
            state["square"] = (weights * jnp.square(frames)).sum(axis=1)
        return self.finish(state)

    @nn.compact
    def scores(self, frames: Float[Array, "B T D"]) -> Float[Array, "B T"]:
        """Logarithms of the weights, up to a constant."""
        hidden = jnp.tanh(Dense(frames.shape[-1], dtype=self.dtype, name="hidden")(frames))
        vector = self.param("vector", nn.initializers.lecun_normal(), (frames.shape[-1], 1))
        return (hidden.astype(jnp.float32) @ vector)[..., 0]

    def start(self, batch: int, size: int) -> RunningPool:
        """Zeros, and minus infinity as the largest score."""
        zeros, rows = jnp.zeros((batch, size), jnp.float32), jnp.zeros(batch, jnp.float32)
        state = {"largest": jnp.full(batch, -jnp.inf, jnp.float32), "weight": rows, "mean": zeros}
        return {**state, "square": zeros} if self.deviation else state

    def update(self, state: RunningPool, frames: Float[Array, "B T D"]) -> RunningPool:
        """Continues the softmax, relative to the largest score so far, so that nothing overflows."""
        scores, frames = self.scores(frames), frames.astype(jnp.float32)
        largest = jnp.maximum(state["largest"], scores.max(axis=1))
        kept, weights = state["weight"] * jnp.exp(state["largest"] - largest), jnp.exp(scores - largest[:, None])
        weight = kept + weights.sum(axis=1)
        old, new = (kept / weight)[:, None], (weights / weight[:, None])[..., None]
        after = {"largest": largest, "weight": weight, "mean": old * state["mean"] + (new * frames).sum(axis=1)}
        if self.deviation:
            after["square"] = old * state["square"] + (new * jnp.square(frames)).sum(axis=1)
        return after

    def finish(self, state: RunningPool) -> Float[Array, "B P"]:
        """Weighted mean, and standard deviation."""
        if not self.deviation:
            return state["mean"]
        variance = state["square"] - jnp.square(state["mean"])
        return jnp.concatenate([state["mean"], jnp.sqrt(jnp.maximum(variance, LEAST_VARIANCE))], axis=-1)


def _masked_mean(frames: Array, frame_mask: Array) -> Array:
    count = jnp.maximum(frame_mask.sum(axis=1), 1)[:, None]
    return jnp.where(frame_mask[..., None], frames, 0).sum(axis=1) / count


POOLINGS: dict[str, Callable[..., Pooling]] = {
    "last": LastPooling,
    "mean": partial(StatisticsPooling, deviation=False),
    "max": MaxPooling,
    "sum": SumPooling,
    "first": FirstPooling,
    "statistics": StatisticsPooling,
    "attentive": AttentivePooling,
    "attentive_statistics": partial(AttentivePooling, deviation=True),
}
"""Pooling kinds: builders of a module from `dtype` and, as in any Linen module, `name`."""

if TYPE_CHECKING:
    PoolingName = str
else:
    PoolingName = Literal[tuple(POOLINGS)]


def pool(name: str, frames: Float[Array, "B T D"], frame_mask: Bool[Array, "B T"]) -> Float[Array, "B P"]:
    """Pools by a kind without parameters: see `Pooling.__call__`."""
    return POOLINGS[name]()(frames, frame_mask)
