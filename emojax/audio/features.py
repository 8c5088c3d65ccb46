"""Features beside log-mel, and what is done to features: MFCC, deltas, normalisation."""

from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int

from emojax.audio.log_mel import LogMelConfig, frame_mask, log_mel
from emojax.errors import ConfigError

MFCC_FILTERBANK = LogMelConfig(
    num_bands=23,
    window_ms=25.0,
    hop_ms=10.0,
    fft_size=512,
    low_hz=20.0,
    high_hz=8000.0,
    mel_scale="htk",
    mel_norm="none",
    floor=1e-8,
)
"""Bands of the coefficients, as in Kaldi."""

NUM_COEFFICIENTS = 13

_LIFTER = 22
_DELTA_WIDTH = 5


def mfcc(waveform: Float[Array, "B S"] | Int[Array, "B S"], num_samples: Int[Array, "B"]) -> Float[Array, "B T 39"]:
    """13 liftered coefficients with their slopes and slopes of slopes, every 10 ms.

    As HuBERT's first units are found from (Hsu et al. 2021, section IV-B), but for Kaldi's pre-emphasis, dither and
    window: orthonormal DCT-II of log-mel energies, coefficient n times 1 + 11 sin(pi n / 22).

    Args:
      waveform: 16 kHz.
      num_samples: valid samples per row; slopes do not see beyond them, and padded frames are zero.
    """
    energies = log_mel(waveform, MFCC_FILTERBANK)
    cepstra = energies @ _cosines(energies.dtype)
    return add_deltas(cepstra, frame_mask(num_samples, energies.shape[1], MFCC_FILTERBANK), _DELTA_WIDTH, 2)


def _cosines(dtype: np.dtype) -> Float[Array, "K 13"]:
    bands = MFCC_FILTERBANK.num_bands
    number = np.arange(NUM_COEFFICIENTS)
    cosines = np.sqrt(2 / bands) * np.cos(np.pi / bands * np.outer(np.arange(bands) + 0.5, number))
    cosines[:, 0] /= np.sqrt(2)
    return jnp.asarray(cosines * (1 + _LIFTER / 2 * np.sin(np.pi * number / _LIFTER)), dtype)


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


_VARIANCE_FLOOR = 1e-5
"""Added to variances of log energies (which are near 1 and more in speech): silence becomes zero, not noise."""


class FeatureStatistics(NamedTuple):
    """Sums over frames that can be merged in any order.

    Attributes:
      count: number of frames, ().
      mean: mean of each feature, (D,).
      m2: sum of squared distances from the mean, (D,).
    """

    count: Any
    mean: Any
    m2: Any


def normalise_utterance(features: Float[Array, "B T D"], frame_mask: Bool[Array, "B T"]) -> Float[Array, "B T D"]:
    """Subtract each utterance's mean and divide by its standard deviation; padded frames become zero."""
    mask = frame_mask[..., None]
    count = jnp.maximum(mask.sum(axis=1, keepdims=True), 1)
    mean = jnp.where(mask, features, 0).sum(axis=1, keepdims=True) / count
    centred = jnp.where(mask, features - mean, 0)
    variance = jnp.square(centred).sum(axis=1, keepdims=True) / count
    return (centred / jnp.sqrt(variance + _VARIANCE_FLOOR)).astype(features.dtype)


def normalise_with(
    features: Float[Array, "B T D"], frame_mask: Bool[Array, "B T"], mean: Float[Array, "D"], std: Float[Array, "D"]
) -> Float[Array, "B T D"]:
    """Subtract a given mean and divide by a given standard deviation (> 0); padded frames become zero."""
    return jnp.where(frame_mask[..., None], (features - mean) / std, 0).astype(features.dtype)


def feature_statistics(features: Float[Array, "B T D"], frame_mask: Bool[Array, "B T"]) -> FeatureStatistics:
    """Statistics of the valid frames of a batch."""
    mask = frame_mask[..., None]
    count = mask.sum().astype(features.dtype)
    mean = jnp.where(mask, features, 0).sum(axis=(0, 1)) / jnp.maximum(count, 1)
    m2 = jnp.square(jnp.where(mask, features - mean, 0)).sum(axis=(0, 1))
    return FeatureStatistics(count, mean, m2)


def merge_statistics(first: FeatureStatistics, second: FeatureStatistics) -> FeatureStatistics:
    """Statistics of both sets of frames together (Chan, Golub, LeVeque 1983).

    No large sums are subtracted, so float32 keeps its precision. Works on JAX and on NumPy arrays; merge NumPy
    float64 for counts above 2**24 frames (46 hours).
    """
    count = first.count + second.count
    share = second.count / (count + (count == 0))
    distance = second.mean - first.mean
    return FeatureStatistics(
        count, first.mean + distance * share, first.m2 + second.m2 + distance * distance * first.count * share
    )


def mean_and_std(statistics: FeatureStatistics) -> tuple[Float[Array, "D"], Float[Array, "D"]]:
    """What `normalise_with` takes; a feature that never varied gets a small positive standard deviation."""
    variance = jnp.asarray(statistics.m2) / jnp.maximum(statistics.count, 1)
    return jnp.asarray(statistics.mean), jnp.sqrt(variance + _VARIANCE_FLOOR)
