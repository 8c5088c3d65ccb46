"""Speed perturbation: a clip played faster or slower, pitch and all (Ko et al. 2015)."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

HALF_WIDTH = 6
"""Samples on either side that a new sample is made from."""

_KAISER_BETA = 6.0


def change_speed(
    waveform: Float[Array, "B S"], num_samples: Int[Array, "B"], factor: Float[Array, "B"]
) -> tuple[Float[Array, "B S"], Int[Array, "B"]]:
    """Plays every row `factor` times as fast, by interpolation with a windowed sinc of 12 samples.

    The static length stays: a slowed clip that no longer fits loses its end. Played faster, frequencies that would
    pass half the sample rate are attenuated by the filter, whose cut-off moves with the factor.

    Args:
      waveform: 16 kHz; what lies beyond `num_samples` has no influence.
      num_samples: valid samples per row.
      factor: above 0; 1 changes nothing, exactly.

    Returns:
      The waveforms, zero after their end, and the new numbers of valid samples.
    """
    samples = waveform.shape[1]
    valid = jnp.arange(samples) < num_samples[:, None]
    source = jnp.pad(jnp.where(valid, waveform, 0.0), ((0, 0), (HALF_WIDTH, HALF_WIDTH)))
    changed = jnp.minimum(jnp.floor(num_samples / factor).astype(num_samples.dtype), samples)
    changed = jnp.where(num_samples > 0, jnp.maximum(changed, 1), 0)
    # Positions in two parts, so that float32 keeps the fraction exact enough over a minute of samples.
    steps = jnp.arange(samples)
    blocks, rest = steps // 4096, steps % 4096
    advance = blocks[None] * ((4096 * (factor - 1.0))[:, None]) + rest[None] * (factor - 1.0)[:, None]
    whole = jnp.floor(advance)
    fraction = advance - whole
    nearest = steps[None] + whole.astype(jnp.int32)
    cutoff = jnp.minimum(1.0, 1.0 / factor)[:, None]
    result = jnp.zeros_like(waveform)
    for tap in range(-HALF_WIDTH + 1, HALF_WIDTH + 1):
        distance = tap - fraction
        weight = cutoff * jnp.sinc(cutoff * distance) * _window(distance)
        index = jnp.clip(nearest + tap + HALF_WIDTH, 0, source.shape[1] - 1)
        result += weight * jnp.take_along_axis(source, index, axis=1)
    same = (factor == 1.0)[:, None]
    result = jnp.where(same, waveform, result)
    return jnp.where(jnp.arange(samples) < changed[:, None], result, 0.0), changed


def _window(distance: Float[Array, "B S"]) -> Float[Array, "B S"]:
    inside = jnp.maximum(1.0 - jnp.square(distance / HALF_WIDTH), 0.0)
    return (
        jax.scipy.special.i0e(_KAISER_BETA * jnp.sqrt(inside))
        * jnp.exp(_KAISER_BETA * (jnp.sqrt(inside) - 1.0))
        / jax.scipy.special.i0e(_KAISER_BETA)
    )
