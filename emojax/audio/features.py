"""MFCC, delta features, and feature normalisation."""

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
"""Filterbank of the MFCC, as in Kaldi."""

NUM_COEFFICIENTS = 13

_LIFTER = 22
_DELTA_WIDTH = 5


def mfcc(waveform: Float[Array, "B S"] | Int[Array, "B S"], num_samples: Int[Array, "B"]) -> Float[Array, "B T 39"]:
    """Computes 13 liftered MFCC with first and second deltas every 10 ms.

    The features of HuBERT's first clustering (Hsu et al. 2021, section IV-B) without Kaldi's pre-emphasis, dither and
    window: orthonormal DCT-II of log-mel energies, coefficient n times 1 + 11 sin(pi n / 22).

    Args:
      waveform: 16 kHz.
      num_samples: valid samples per row; deltas do not depend on padding, and padded frames are zero.
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
    """Computes delta features: the slope of the least-squares line through `width` frames around each frame.

    The first and the last *valid* frame are repeated beyond the ends, as librosa.feature.delta(mode="nearest") does
    for the unpadded utterance. Padded frames become zero.

    Args:
      features: frame-level features.
      frame_mask: valid frames, which come first in each row.
      width: odd number of frames, >= 3.

    Raises:
      ConfigError: the width is invalid.
    """
    if width < 3 or width % 2 == 0:
        raise ConfigError(f"deltas.width must be an odd integer >= 3, got {width}")
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
    """Appends first (`order` 1) and second (`order` 2) deltas; `order` 0 appends nothing.

    Raises:
      ConfigError: the order or width is invalid.
    """
    if order not in (0, 1, 2):
        raise ConfigError(f"deltas.order must be 0, 1 or 2, got {order}")
    parts = [features]
    for _ in range(order):
        parts.append(deltas(parts[-1], frame_mask, width))
    return jnp.concatenate(parts, axis=-1)


VARIANCE_FLOOR = 1e-5
"""Added to variances of log energies (about 1 or more in speech), so that silence becomes zero, not noise."""


class FeatureStatistics(NamedTuple):
    """Mergeable statistics over frames.

    Attributes:
      count: number of frames, ().
      mean: mean of each feature, (D,), or (L, D) for L layers of an encoder.
      m2: sum of squared distances from the mean, of the same shape.
    """

    count: Any
    mean: Any
    m2: Any


def normalise_utterance(features: Float[Array, "B T D"], frame_mask: Bool[Array, "B T"]) -> Float[Array, "B T D"]:
    """Normalises each utterance to zero mean and unit variance per feature; padded frames become zero."""
    mask = frame_mask[..., None]
    count = jnp.maximum(mask.sum(axis=1, keepdims=True), 1)
    mean = jnp.where(mask, features, 0).sum(axis=1, keepdims=True) / count
    centred = jnp.where(mask, features - mean, 0)
    variance = jnp.square(centred).sum(axis=1, keepdims=True) / count
    return (centred / jnp.sqrt(variance + VARIANCE_FLOOR)).astype(features.dtype)


def normalise_with(
    features: Float[Array, "B T *D"], frame_mask: Bool[Array, "B T"], mean: Float[Array, "*D"], std: Float[Array, "*D"]
) -> Float[Array, "B T *D"]:
    """Normalises with a given mean and standard deviation (> 0); padded frames become zero."""
    return jnp.where(_frames_of(features, frame_mask), (features - mean) / std, 0).astype(features.dtype)


def feature_statistics(features: Float[Array, "B T *D"], frame_mask: Bool[Array, "B T"]) -> FeatureStatistics:
    """Computes the statistics of the valid frames of a batch."""
    mask = _frames_of(features, frame_mask)
    count = mask.sum().astype(features.dtype)
    mean = jnp.where(mask, features, 0).sum(axis=(0, 1)) / jnp.maximum(count, 1)
    m2 = jnp.square(jnp.where(mask, features - mean, 0)).sum(axis=(0, 1))
    return FeatureStatistics(count, mean, m2)


def merge_statistics(first: FeatureStatistics, second: FeatureStatistics) -> FeatureStatistics:
    """Merges the statistics of two sets of frames (Chan, Golub, LeVeque 1983).

    Numerically stable in float32. Accepts JAX and NumPy arrays; counts above 2**24 frames (46 hours) need float64.
    """
    count = first.count + second.count
    share = second.count / (count + (count == 0))
    distance = second.mean - first.mean
    return FeatureStatistics(
        count, first.mean + distance * share, first.m2 + second.m2 + distance * distance * first.count * share
    )


def mean_and_std(statistics: FeatureStatistics) -> tuple[Float[Array, "*D"], Float[Array, "*D"]]:
    """Computes the arguments of `normalise_with`; constant features get a small positive standard deviation."""
    variance = jnp.asarray(statistics.m2) / jnp.maximum(statistics.count, 1)
    return jnp.asarray(statistics.mean), jnp.sqrt(variance + VARIANCE_FLOOR)


def _frames_of(features: Array, frame_mask: Array) -> Array:
    """The mask with an axis of length 1 for every axis of a frame."""
    return frame_mask.reshape(*frame_mask.shape, *[1] * (features.ndim - 2))
