"""Other voices and other speaking rates from the same log-mel features, for training on few speakers."""

from typing import Annotated

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, PRNGKeyArray

from emojax.audio.log_mel import LogMelConfig
from emojax.audio.mel_scale import mel_edges
from emojax.schema import Ge, Lt, settings
from emojax.types import SAMPLE_RATE

_BOUNDARY_HZ = 4800.0
"""Highest frequency that is scaled by the factor alone; it covers the formants (Jaitly & Hinton 2013)."""


@settings
class VTLPConfig:
    """Vocal tract length perturbation in training."""

    max_warp: Annotated[
        float, Ge(0), Lt(0.5), "Frequencies are scaled by a factor drawn from 1 - max_warp to 1 + max_warp; 0: off."
    ] = 0.0


@settings
class TimeStretchConfig:
    """Change of speaking rate in training."""

    max_stretch: Annotated[
        float, Ge(0), Lt(0.5), "Durations are scaled by a factor drawn from 1 - max_stretch to 1 + max_stretch; 0: off."
    ] = 0.0


def perturb_vocal_tract(
    rng: PRNGKeyArray, features: Float[Array, "B T K"], log_mel_config: LogMelConfig, config: VTLPConfig
) -> Float[Array, "B T K"]:
    """Shift the formants of each utterance by a random factor, as a longer or shorter vocal tract would.

    Jaitly & Hinton 2013, "Vocal tract length perturbation (VTLP) improves speech recognition", moves the centres of
    the mel filters; here the log energies are interpolated at the moved centres, which needs no second transform.
    Every frame is treated alike and by itself, so padding never reaches valid frames, and zero frames stay zero.

    Args:
      rng: key.
      features: log-mel energies, one row an utterance.
      log_mel_config: how they were computed.
      config: range of the factor.
    """
    factor = _factors(rng, features.shape[0], config.max_warp, features.dtype)
    return jnp.einsum("btk,bjk->btj", features, warp_matrix(factor, log_mel_config), precision="highest")


def stretch_time(
    rng: PRNGKeyArray, features: Float[Array, "B T D"], frame_mask: Bool[Array, "B T"], config: TimeStretchConfig
) -> tuple[Float[Array, "B T D"], Bool[Array, "B T"]]:
    """Make each utterance slower or faster by a random factor, by linear interpolation between frames.

    The number of frames T does not change: a slowed utterance that no longer fits loses its end.

    Returns:
      The features, zero on padded frames, and their frame mask.
    """
    frames = features.shape[1]
    factor = _factors(rng, features.shape[0], config.max_stretch, features.dtype)
    valid = frame_mask.sum(axis=1)
    last = jnp.maximum(valid - 1, 0)
    # The first frame stays, the last valid frame is passed by no more than one interpolation step.
    stretched = jnp.where(valid > 0, jnp.floor(last * factor).astype(valid.dtype) + 1, 0)
    mask = jnp.arange(frames) < stretched[:, None]
    position = jnp.clip(jnp.arange(frames) / factor[:, None], 0, last[:, None])
    before = jnp.floor(position).astype(jnp.int32)
    share = (position - before)[..., None].astype(features.dtype)
    after = jnp.minimum(before + 1, last[:, None])
    earlier = jnp.take_along_axis(features, before[..., None], axis=1)
    later = jnp.take_along_axis(features, after[..., None], axis=1)
    return jnp.where(mask[..., None], earlier * (1 - share) + later * share, 0), mask


def warp_matrix(factor: Float[Array, "B"], config: LogMelConfig) -> Float[Array, "B K K"]:
    """Interpolation weights (to, from) that move the band centres by Jaitly & Hinton's piecewise linear map.

    Frequencies below the boundary are multiplied by 1 / factor to find where a band reads, so a factor above 1 moves
    formants up; between the boundary and half the sample rate the map is the line that keeps the latter in place.
    Bands that would read outside the filterbank read its first or last band.
    """
    centres = mel_edges(config.num_bands, config.low_hz, config.high_hz, config.mel_scale)[1:-1]
    scale = 1 / factor[:, None]
    nyquist = SAMPLE_RATE / 2
    limit = _BOUNDARY_HZ * jnp.minimum(scale, 1)
    upper = nyquist - (nyquist - limit) / (nyquist - limit / scale) * (nyquist - centres)
    source = jnp.where(centres <= limit / scale, centres * scale, upper)
    index = jnp.interp(source, centres, jnp.arange(config.num_bands, dtype=factor.dtype))
    return jnp.maximum(1 - jnp.abs(index[..., None] - jnp.arange(config.num_bands)), 0).astype(factor.dtype)


def _factors(rng: PRNGKeyArray, count: int, spread: float, dtype: jnp.dtype) -> Array:
    return jax.random.uniform(rng, (count,), dtype, 1 - spread, 1 + spread)
