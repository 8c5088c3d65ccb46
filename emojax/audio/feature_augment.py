"""Augmentation of log-mel features in training: vocal tract length, speaking rate, SpecAugment."""

from typing import Annotated

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int, PRNGKeyArray

from emojax.audio.log_mel import LogMelConfig, mel_edges
from emojax.schema import Ge, Le, Lt, settings
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


@settings
class SpecAugmentConfig:
    """Masks per utterance in training (SpecAugment)."""

    num_time_masks: Annotated[int, Ge(0), Le(1000), "Stretches of time replaced by the utterance's mean; 0: off."] = 0
    max_time_width: Annotated[int, Ge(0), Le(10**6), "Longest stretch (frames)."] = 40
    max_time_fraction: Annotated[
        float, Ge(0), Le(1), "Longest stretch as a share of the utterance; the smaller limit holds."
    ] = 0.2
    num_frequency_masks: Annotated[int, Ge(0), Le(1000), "Groups of neighbouring bands replaced likewise; 0: off."] = 0
    max_frequency_width: Annotated[int, Ge(0), Le(10**6), "Widest group (bands)."] = 8


def spec_augment(
    rng: PRNGKeyArray, features: Float[Array, "B T D"], frame_mask: Bool[Array, "B T"], config: SpecAugmentConfig
) -> Float[Array, "B T D"]:
    """Replace random stretches of valid frames and random groups of bands by the utterance's mean of each band.

    The mean is what normalised features have as zero; taking it from the utterance makes the result independent of
    whether and how features are normalised. Every utterance gets its own masks. Widths are uniform from 0 to the
    limit, positions uniform among those that fit into the utterance. Padded frames are returned as they came.
    """
    batch, frames, bands = features.shape
    time_rng, frequency_rng = jax.random.split(rng)
    valid = frame_mask.sum(axis=1)
    widest = jnp.minimum(config.max_time_width, (config.max_time_fraction * valid).astype(valid.dtype))
    hidden_frames = _stretches(time_rng, config.num_time_masks, widest, valid, frames)
    hidden_bands = _stretches(
        frequency_rng,
        config.num_frequency_masks,
        jnp.full((batch,), min(config.max_frequency_width, bands)),
        jnp.full((batch,), bands),
        bands,
    )
    mask = frame_mask[..., None]
    total = jnp.where(mask, features, 0).sum(axis=1, keepdims=True)
    mean = (total / jnp.maximum(valid, 1)[:, None, None]).astype(features.dtype)
    return jnp.where((hidden_frames[:, :, None] | hidden_bands[:, None, :]) & mask, mean, features)


def _stretches(
    rng: PRNGKeyArray, count: int, widest: Int[Array, "B"], length: Int[Array, "B"], size: int
) -> Bool[Array, "B {size}"]:
    """True inside `count` random stretches of at most `widest` positions among the first `length` of `size`."""
    width_rng, start_rng = jax.random.split(rng)
    shape = (len(length), count)
    width = jax.random.randint(width_rng, shape, 0, widest[:, None] + 1)
    start = jax.random.randint(start_rng, shape, 0, length[:, None] - width + 1)
    position = jnp.arange(size)
    inside = (position >= start[..., None]) & (position < (start + width)[..., None])
    return inside.any(axis=1)
