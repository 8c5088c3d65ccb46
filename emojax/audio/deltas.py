"""Slopes of features over time, appended to the features."""

import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from emojax.errors import ConfigError


def deltas(features: Float[Array, "B T D"], frame_mask: Bool[Array, "B T"], width: int) -> Float[Array, "B T D"]:
    """Slope per frame of the least-squares line through `width` frames around each frame.

    The first and the last *valid* frame are repeated beyond the ends, as librosa.feature.delta(mode="nearest") does
    on the unpadded utterance. Padded frames become zero.

    Args:
      features: any frame-level features.
      frame_mask: valid frames, which come first in each row.
      width: odd number of frames, >= 3.

    Raises:
      ConfigError: a width that is not allowed.
    """
    if width < 3 or width % 2 == 0:
        raise ConfigError(f"deltas.width: {width} is not allowed; allowed: an odd integer >= 3")
    reach = width // 2
    mask = frame_mask[..., None]
    last = jnp.maximum(frame_mask.sum(axis=1) - 1, 0)
    held = jnp.where(mask, features, jnp.take_along_axis(features, last[:, None, None], axis=1))
    padded = jnp.pad(held, ((0, 0), (reach, reach), (0, 0)), mode="edge")
    frames = features.shape[1]
    slopes = sum(
        step * (padded[:, reach + step : reach + step + frames] - padded[:, reach - step : reach - step + frames])
        for step in range(1, reach + 1)
    )
    scale = 2 * sum(step * step for step in range(1, reach + 1))
    return jnp.where(mask, slopes / scale, 0).astype(features.dtype)


def add_deltas(
    features: Float[Array, "B T D"], frame_mask: Bool[Array, "B T"], width: int, order: int
) -> Float[Array, "B T D_out"]:
    """Append slopes (`order` 1), and slopes of slopes (`order` 2); `order` 0 appends nothing.

    Raises:
      ConfigError: an order or width that is not allowed.
    """
    if order not in (0, 1, 2):
        raise ConfigError(f"deltas.order: {order} is not allowed; allowed: 0, 1, 2")
    parts = [features]
    for _ in range(order):
        parts.append(deltas(parts[-1], frame_mask, width))
    return jnp.concatenate(parts, axis=-1)
