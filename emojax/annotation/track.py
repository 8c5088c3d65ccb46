"""Sliding windows over a recording, and the smoothing of their predictions."""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Bool, Float, Int

_WIDTH = 3.0
"""Half width of the smoothing kernel in standard deviations."""


def window_starts(num_samples: int, window: int, hop: int) -> Int[np.ndarray, "N"]:
    """First sample of each whole window; a recording shorter than a window has one, of its own length."""
    return np.arange(0, max(num_samples - window, 0) + 1, hop)


def in_segments(times: Float[np.ndarray, "N"], segments: Sequence[tuple[float, float]]) -> Bool[np.ndarray, "N"]:
    """Whether a segment contains each time; segments are in the order of time and do not overlap."""
    if not segments:
        return np.zeros(len(times), bool)
    starts, ends = np.array(segments).T
    number = np.searchsorted(starts, times, side="right") - 1
    return (number >= 0) & (times < ends[np.maximum(number, 0)])


def smooth(values: Float[np.ndarray, "N"], deviation: float) -> Float[np.ndarray, "N"]:
    """Averages each value with its neighbours by a Gaussian; NaN stays NaN and has no influence.

    Args:
      values: values at equal distances.
      deviation: standard deviation of the Gaussian in these distances; 0: no smoothing.
    """
    valid = np.isfinite(values)
    if deviation <= 0 or not valid.any():
        return values
    reach = max(int(np.ceil(_WIDTH * deviation)), 1)
    kernel = np.exp(-0.5 * np.square(np.arange(-reach, reach + 1) / deviation))
    # Offset by a typical value, so that rounding does not depend on the scale.
    centre = float(np.mean(values[valid]))
    totals = _convolve(np.where(valid, values - centre, 0.0), kernel)
    weights = _convolve(valid.astype(np.float64), kernel)
    # A valid value has a weight of at least 1, that of its own.
    return np.where(valid, centre + totals / np.where(valid, weights, 1.0), np.nan)


def smooth_spread(
    means: Float[np.ndarray, "N"], spreads: Float[np.ndarray, "N"], deviation: float
) -> Float[np.ndarray, "N"]:
    """Standard deviation of the average of distributions that `smooth` gives the mean of.

    Args:
      means: mean of the distribution of each window, not smoothed.
      spreads: their standard deviations.
      deviation: see `smooth`.
    """
    if deviation <= 0:
        return spreads
    centre = np.nanmean(means) if np.isfinite(means).any() else 0.0
    shifted = means - centre
    variance = smooth(np.square(spreads) + np.square(shifted), deviation) - np.square(smooth(shifted, deviation))
    return np.sqrt(np.maximum(variance, 0))


def _convolve(values: Float[np.ndarray, "N"], kernel: Float[np.ndarray, "K"]) -> Float[np.ndarray, "N"]:
    """Convolution of the length of `values` with an odd, symmetric kernel."""
    reach = len(kernel) // 2
    return np.convolve(values, kernel)[reach : reach + len(values)]
