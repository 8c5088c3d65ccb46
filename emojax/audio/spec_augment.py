"""SpecAugment: random stretches of time and frequency are hidden during training (Park et al. 2019)."""

from typing import Annotated

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int, PRNGKeyArray

from emojax.schema import Ge, Le, settings


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
