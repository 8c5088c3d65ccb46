"""Where a clip speaks: by the energy of its frames."""

import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

FRAME_SAMPLES = 320
"""20 ms."""

RANGE_DB = 35.0
"""Frames this far below the loudest one of the clip are taken to be pauses."""


def speech_activity(waveform: Float[Array, "B S"], num_samples: Int[Array, "B"]) -> Bool[Array, "B S"]:
    """Marks the samples of frames of 20 ms whose energy is within 35 dB of the clip's loudest frame.

    A simple stand-in for the active speech level of ITU-T P.56, good for clips recorded without much noise. The last
    frame may be shorter; its energy is per valid sample. A silent clip has no active sample.

    Args:
      waveform: 16 kHz, any scale.
      num_samples: valid samples per row; what follows is never active.
    """
    samples = waveform.shape[1]
    frames = -(-samples // FRAME_SAMPLES)
    valid = jnp.arange(samples) < num_samples[:, None]
    squares = jnp.where(valid, jnp.square(waveform), 0.0)
    padding = ((0, 0), (0, frames * FRAME_SAMPLES - samples))
    by_frame = jnp.pad(squares, padding).reshape(-1, frames, FRAME_SAMPLES)
    counts = jnp.pad(valid, padding).reshape(-1, frames, FRAME_SAMPLES).sum(axis=2)
    energy = by_frame.sum(axis=2) / jnp.maximum(counts, 1)
    loudest = energy.max(axis=1, keepdims=True)
    active = (energy >= loudest * 10 ** (-RANGE_DB / 10)) & (energy > 0)
    return jnp.repeat(active, FRAME_SAMPLES, axis=1)[:, :samples] & valid


def active_power(waveform: Float[Array, "B S"], active: Bool[Array, "B S"]) -> Float[Array, "B"]:
    """Mean square over active samples; 0 without any."""
    return jnp.where(active, jnp.square(waveform), 0.0).sum(axis=1) / jnp.maximum(active.sum(axis=1), 1)
