"""SpecAugment: random stretches of time and frequency are hidden during training (Park et al. 2019)."""

import dataclasses

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int, PRNGKeyArray

from emojax.errors import ConfigError


@dataclasses.dataclass(frozen=True)
class SpecAugmentConfig:
    """Masks per utterance; every field is documented in configs/default.py.

    Attributes:
      num_time_masks: number of stretches of frames.
      max_time_width: longest stretch (frames).
      max_time_fraction: longest stretch as a share of the utterance, 0 to 1; the smaller limit holds.
      num_frequency_masks: number of groups of neighbouring bands.
      max_frequency_width: widest group (bands).
    """

    num_time_masks: int
    max_time_width: int
    max_time_fraction: float
    num_frequency_masks: int
    max_frequency_width: int

    def __post_init__(self):
        """Checks the values.

        Raises:
          ConfigError: naming the field and what is allowed.
        """
        for field in ("num_time_masks", "max_time_width", "num_frequency_masks", "max_frequency_width"):
            if getattr(self, field) < 0:
                raise ConfigError(
                    f"spec_augment.{field}: {getattr(self, field)} is not allowed; allowed: an integer >= 0"
                )
        if not 0 <= self.max_time_fraction <= 1:
            raise ConfigError(
                f"spec_augment.max_time_fraction: {self.max_time_fraction} is not allowed; allowed: 0 to 1"
            )


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
