"""Layer norm, and mean and variance of channels over valid frames; both compute their own gradients."""

import functools
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from emojax.encoders.mixed_precision import wide


class LayerNorm(nn.Module):
    """Layer norm over the features (Ba et al. 2016) in `dtype`; keeps its input and statistics for its gradient.

    The variance is the mean of squared deviations. A difference of squares loses digits where the mean is large.
    """

    epsilon: float
    dtype: Any

    @nn.compact
    def __call__(self, inputs: Float[Array, "*B D"]) -> Float[Array, "*B D"]:
        """Computes normalised, scaled and shifted features."""
        scale = self.param("scale", nn.initializers.ones, inputs.shape[-1:])
        bias = self.param("bias", nn.initializers.zeros, inputs.shape[-1:])
        return _normalised(inputs.astype(self.dtype), scale.astype(self.dtype), bias.astype(self.dtype), self.epsilon)


def layer_norm(epsilon: float, dtype: Any, name: str | None = None) -> LayerNorm:
    """Layer norm over the features in `wide(dtype)`."""
    return LayerNorm(epsilon, wide(dtype), name=name)


@functools.partial(jax.custom_vjp, nondiff_argnums=(3,))
def _normalised(
    inputs: Float[Array, "*B D"], scale: Float[Array, "D"], bias: Float[Array, "D"], epsilon: float
) -> Float[Array, "*B D"]:
    return _normalised_forward(inputs, scale, bias, epsilon)[0]


def _normalised_forward(inputs, scale, bias, epsilon):
    mean = inputs.mean(axis=-1, keepdims=True)
    deviations = inputs - mean
    inverse = jax.lax.rsqrt(jnp.square(deviations).mean(axis=-1, keepdims=True) + epsilon)
    # In this order XLA computes the norm as one kernel on GPUs.
    return deviations * inverse * scale + bias, (inputs, mean, inverse, scale)


def _normalised_backward(epsilon, residuals, cotangent):
    inputs, mean, inverse, scale = residuals
    unit = (inputs - mean) * inverse
    scaled = cotangent * scale
    along = (scaled * unit).mean(axis=-1, keepdims=True)
    by_input = inverse * (scaled - scaled.mean(axis=-1, keepdims=True) - unit * along)
    rows = tuple(range(inputs.ndim - 1))
    return by_input, (cotangent * unit).sum(axis=rows), cotangent.sum(axis=rows)


_normalised.defvjp(_normalised_forward, _normalised_backward)


_BLOCK = 256
"""Frames summed at a time on CPU; a block of 512 channels stays in the cache."""


@jax.custom_vjp
def masked_statistics(
    states: Float[Array, "B T C"], mask: Bool[Array, "B T"]
) -> tuple[Float[Array, "B 1 C"], Float[Array, "B 1 C"]]:
    """Computes mean and (biased) variance of each channel over the frames where `mask` is True; 0 where it never is.

    The variance is the mean of squared deviations, not a difference of squares, which would lose digits.

    XLA's CPU back end writes the masked states and their deviations to memory before it adds them up, which takes four
    times as long as the sums. There the frames are added block by block instead.
    """
    weights = _weights(states, mask)
    mean = _weighted_sum(states, weights, jnp.zeros_like(states[:, :1]), power=1)
    return mean, _weighted_sum(states, weights, mean, power=2)


def _statistics_forward(states, mask):
    mean, variance = masked_statistics(states, mask)
    return (mean, variance), (states, mask, mean)


def _statistics_backward(residuals, cotangents):
    states, mask, mean = residuals
    mean_cotangent, variance_cotangent = cotangents
    # The variance depends on the mean, too, but its derivative by the mean is zero: deviations sum to zero.
    per_frame = mean_cotangent + 2.0 * (states - mean) * variance_cotangent
    return _weights(states, mask)[..., None] * per_frame, None


masked_statistics.defvjp(_statistics_forward, _statistics_backward)


def _weights(states: Float[Array, "B T C"], mask: Bool[Array, "B T"]) -> Float[Array, "B T"]:
    return mask.astype(states.dtype) / jnp.maximum(mask.sum(axis=1, keepdims=True), 1)


def _weighted_sum(
    states: Float[Array, "B T C"], weights: Float[Array, "B T"], centre: Float[Array, "B 1 C"], power: int
) -> Float[Array, "B 1 C"]:
    """Sum over frames of weight times a power of the distance from the centre."""

    def add_up(states, weights, centre):
        return jnp.einsum("bt,btc->bc", weights, (states - centre) ** power)[:, None]

    def by_block(states, weights, centre):
        def add_block(total, start):
            block = jax.lax.dynamic_slice_in_dim(states, start, _BLOCK, axis=1)
            of_block = jax.lax.dynamic_slice_in_dim(weights, start, _BLOCK, axis=1)
            return total + add_up(block, of_block, centre), None

        rest = states.shape[1] // _BLOCK * _BLOCK
        total = add_up(states[:, rest:], weights[:, rest:], centre)
        return jax.lax.scan(add_block, total, jnp.arange(0, rest, _BLOCK))[0] if rest else total

    return jax.lax.platform_dependent(states, weights, centre, cpu=by_block, default=add_up)
