"""Augmentation of log-mel features in training: vocal tract length, speaking rate, SpecAugment."""

from typing import Annotated

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int, PRNGKeyArray

from emojax.audio.log_mel import LogMelConfig
from emojax.audio.mel_scale import mel_edges
from emojax.schema import Ge, Le, Lt, settings
from emojax.types import SAMPLE_RATE

_BOUNDARY_HZ = 4800.0
"""Upper limit of the linear scaling; covers the formants (Jaitly & Hinton 2013)."""


@settings
class VTLPConfig:
    """Vocal tract length perturbation (VTLP) in training."""

    max_warp: Annotated[
        float, Ge(0), Lt(0.5), "Frequencies are scaled by a factor drawn from 1 - max_warp to 1 + max_warp; 0: off."
    ] = 0.0


@settings
class TimeStretchConfig:
    """Time stretching in training."""

    max_stretch: Annotated[
        float, Ge(0), Lt(0.5), "Durations are scaled by a factor drawn from 1 - max_stretch to 1 + max_stretch; 0: off."
    ] = 0.0


def perturb_vocal_tract(
    rng: PRNGKeyArray, features: Float[Array, "B T K"], log_mel_config: LogMelConfig, config: VTLPConfig
) -> Float[Array, "B T K"]:
    """Applies vocal tract length perturbation with a random factor per utterance.

    Jaitly & Hinton 2013, "Vocal tract length perturbation (VTLP) improves speech recognition", move the centres of
    the mel filters; here the log energies are interpolated at the moved centres, which needs no second transform.
    Frames are processed independently, so that padding does not affect valid frames, and zero frames stay zero.

    Args:
      rng: PRNG key.
      features: log-mel energies.
      log_mel_config: config that the features were computed with.
      config: range of the factor.
    """
    factor = _factors(rng, features.shape[0], config.max_warp, features.dtype)
    return jnp.einsum("btk,bjk->btj", features, warp_matrix(factor, log_mel_config), precision="highest")


def stretch_time(
    rng: PRNGKeyArray, features: Float[Array, "B T D"], frame_mask: Bool[Array, "B T"], config: TimeStretchConfig
) -> tuple[Float[Array, "B T D"], Bool[Array, "B T"]]:
    """Changes the duration of each utterance by a random factor, by linear interpolation between frames.

    The number of frames T does not change: a slowed utterance that no longer fits is truncated.

    Returns:
      Features, zero on padded frames, and their frame mask.
    """
    frames = features.shape[1]
    factor = _factors(rng, features.shape[0], config.max_stretch, features.dtype)
    valid = frame_mask.sum(axis=1)
    last = jnp.maximum(valid - 1, 0)
    # The first frame is unchanged; interpolation passes the last valid frame by less than one step.
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
    """Computes interpolation weights (to, from) that warp the bands by Jaitly & Hinton's piecewise linear map.

    The source frequency of a band is its centre times 1 / factor below the boundary, so a factor above 1 moves
    formants up; between the boundary and half the sample rate the map is linear and keeps the latter fixed.
    Source frequencies outside the filterbank are clipped to its first or last band.
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
    """SpecAugment: time and frequency masks per utterance in training."""

    num_time_masks: Annotated[int, Ge(0), Le(1000), "Time masks, filled with the utterance's mean; 0: off."] = 0
    max_time_width: Annotated[int, Ge(0), Le(10**6), "Maximal width of a time mask (frames)."] = 40
    max_time_fraction: Annotated[
        float, Ge(0), Le(1), "Maximal width of a time mask as a fraction of the utterance; the smaller limit applies."
    ] = 0.2
    num_frequency_masks: Annotated[int, Ge(0), Le(1000), "Frequency masks, filled likewise; 0: off."] = 0
    max_frequency_width: Annotated[int, Ge(0), Le(10**6), "Maximal width of a frequency mask (bands)."] = 8


def spec_augment(
    rng: PRNGKeyArray, features: Float[Array, "B T D"], frame_mask: Bool[Array, "B T"], config: SpecAugmentConfig
) -> Float[Array, "B T D"]:
    """Fills random time and frequency masks with the utterance's mean of each band (Park et al. 2019).

    The mean corresponds to zero in normalised features; computing it from the utterance makes the result independent
    of normalisation. Masks differ between utterances. Widths are uniform from 0 to the limit, positions uniform among
    those inside the utterance. Padded frames are unchanged.
    """
    batch, frames, bands = features.shape
    time_rng, frequency_rng = jax.random.split(rng)
    valid = frame_mask.sum(axis=1)
    widest = jnp.minimum(config.max_time_width, (config.max_time_fraction * valid).astype(valid.dtype))
    masked_frames = _random_masks(time_rng, config.num_time_masks, widest, valid, frames)
    masked_bands = _random_masks(
        frequency_rng,
        config.num_frequency_masks,
        jnp.full((batch,), min(config.max_frequency_width, bands)),
        jnp.full((batch,), bands),
        bands,
    )
    mask = frame_mask[..., None]
    total = jnp.where(mask, features, 0).sum(axis=1, keepdims=True)
    mean = (total / jnp.maximum(valid, 1)[:, None, None]).astype(features.dtype)
    return jnp.where((masked_frames[:, :, None] | masked_bands[:, None, :]) & mask, mean, features)


def _random_masks(
    rng: PRNGKeyArray, count: int, widest: Int[Array, "B"], length: Int[Array, "B"], size: int
) -> Bool[Array, "B {size}"]:
    """Draws `count` masks of at most `widest` positions among the first `length` of `size`; True where masked."""
    width_rng, start_rng = jax.random.split(rng)
    shape = (len(length), count)
    width = jax.random.randint(width_rng, shape, 0, widest[:, None] + 1)
    start = jax.random.randint(start_rng, shape, 0, length[:, None] - width + 1)
    position = jnp.arange(size)
    inside = (position >= start[..., None]) & (position < (start + width)[..., None])
    return inside.any(axis=1)
