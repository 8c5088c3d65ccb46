"""SpecAugment-style masking of latent frames and features in training (Park et al. 2019; Baevski et al. 2020, A.2)."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from emojax.encoders.speech_config import MaskingConfig


def mask_states(
    key: jax.Array,
    states: Float[Array, "B T D"],
    num_frames: Int[Array, "B"],
    embedding: Float[Array, "D"],
    config: MaskingConfig,
) -> Float[Array, "B T D"]:
    """States with spans of frames replaced by `embedding` and spans of features by zero.

    Args:
      key: random key; the same key masks the same spans.
      states: projected features.
      num_frames: valid frames per row; spans lie within them.
      embedding: stands for a masked frame.
      config: how much is masked.
    """
    time_key, feature_key = jax.random.split(key)
    batch, frames, features = states.shape
    if config.time_probability > 0:
        masked = span_mask(
            time_key, num_frames, frames, config.time_probability, config.time_length, config.time_minimum
        )
        states = jnp.where(masked[..., None], embedding.astype(states.dtype), states)
    if config.feature_probability > 0:
        every = jnp.full((batch,), features)
        masked = span_mask(
            feature_key, every, features, config.feature_probability, config.feature_length, config.feature_minimum
        )
        states = jnp.where(masked[:, None, :], 0.0, states)
    return states


def span_mask(
    key: jax.Array, num_valid: Int[Array, "B"], size: int, probability: float, span: int, minimum: int
) -> Bool[Array, "B N"]:
    """True on random spans within the first `num_valid` of `size` positions of each row.

    A row gets `probability * num_valid / span` spans, rounded up or down at random, at least `minimum`, and not more
    than fit side by side. Their starts are different, chosen uniformly; spans may overlap.
    """
    round_key, start_key = jax.random.split(key)
    rounding = jax.random.uniform(round_key, num_valid.shape)
    num_spans = jnp.floor(probability * num_valid / span + rounding).astype(jnp.int32)
    num_spans = jnp.minimum(jnp.maximum(num_spans, minimum), num_valid // span)
    # The starts with the smallest random scores: a choice without replacement whose shape does not depend on data.
    scores = jax.random.uniform(start_key, (num_valid.shape[0], size))
    possible = jnp.arange(size) <= (num_valid - span)[:, None]
    ranks = jnp.argsort(jnp.argsort(jnp.where(possible, scores, jnp.inf)))
    started = jnp.cumsum((ranks < num_spans[:, None]) & possible, axis=1)
    ended = jnp.pad(started, ((0, 0), (span, 0)))[:, :size]
    return started > ended
