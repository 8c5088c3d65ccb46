"""Additive noise at an exact signal-to-noise ratio."""

import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from emojax.audio.speech_activity import active_power, speech_activity

_LEAST_POWER = 1e-20
"""Below it there is nothing to scale: silent speech or silent noise leaves the clip as it is."""


def add_noise(
    waveform: Float[Array, "B S"],
    num_samples: Int[Array, "B"],
    noise: Float[Array, "B S"],
    snr_db: Float[Array, "B"],
) -> Float[Array, "B S"]:
    """Adds noise so that speech is `snr_db` above it over the samples where there is speech.

    Both powers are taken over the same samples, those of `speech_activity`: pauses do not make speech look quieter
    than it is. Padding stays zero.

    Args:
      waveform: 16 kHz, full scale 1.0.
      num_samples: valid samples per row.
      noise: as long as the waveforms, any level.
      snr_db: ratio per row, in dB; infinity adds nothing.
    """
    active = speech_activity(waveform, num_samples)
    speech, disturbance = active_power(waveform, active), active_power(noise, active)
    usable = (speech > _LEAST_POWER) & (disturbance > _LEAST_POWER)
    wanted = jnp.sqrt(speech / jnp.where(usable, disturbance, 1.0) * 10.0 ** (-snr_db / 10.0))
    scale = jnp.where(usable, wanted, 0.0)
    valid = jnp.arange(waveform.shape[1]) < num_samples[:, None]
    return jnp.where(valid, waveform + scale[:, None] * noise, 0.0)
