"""Blocks of samples of any rate and channel count become one mono float32 waveform at 16 kHz, in bounded memory."""

import math
from collections.abc import Iterable
from typing import Any

import numpy as np
from jaxtyping import Float, Float32

from emojax.errors import AudioError
from emojax.types import SAMPLE_RATE

MAX_SECONDS = 4 * 3600.0
"""The longest item: as a waveform it takes 0.9 GB."""

MAX_MAGNITUDE = 1000.0
"""60 dB above full scale. What is larger is no waveform of full scale 1.0, and squares of it need not be finite."""

MIN_RATE, MAX_RATE = 100, 10_000_000
"""Samples per second (Hz) that are taken; the resampler needs 16000 / rate times the memory."""


def mono_16khz(blocks: Iterable[tuple[int | float, Float[np.ndarray, "_ _"]]], name: str) -> Float32[np.ndarray, "S"]:
    """Averages channels, checks and resamples block by block: only the result is ever whole.

    Args:
      blocks: samples per second (Hz), and floating-point samples (n, channels) of full scale 1.0. Where the rate
        changes, a new recording begins.
      name: what error messages call it.

    Raises:
      AudioError: a rate that is not allowed, no samples, more than `MAX_SECONDS`, or a sample that is not allowed.
    """
    parts: list[np.ndarray] = []
    resampler: Any = None
    current, position, seconds = 0.0, 0, 0.0
    for rate, block in blocks:
        if rate != current:
            check_rate(rate, name)
            parts += _rest(resampler)
            current, resampler = rate, _resampler(rate)
        check_samples(block, name, position)
        position, seconds = position + len(block), seconds + len(block) / rate
        if seconds > MAX_SECONDS:
            raise too_long(name)
        single = block.astype(np.float32, copy=False)
        mono = single[:, 0] if block.shape[1] == 1 else single.mean(axis=1, dtype=np.float32)
        parts.append(mono if resampler is None else resampler.resample_chunk(np.ascontiguousarray(mono)))
    if position == 0:
        raise AudioError(f"{name}: has no samples")
    parts += _rest(resampler)
    waveform = _joined(parts)
    if len(waveform) == 0:
        raise AudioError(f"{name}: {position} samples at {current:g} Hz are shorter than one at {SAMPLE_RATE} Hz")
    return waveform


def check_samples(samples: Float[np.ndarray, "..."], name: str, first: int = 0) -> None:
    """Refuses what no computation could be trusted with.

    Args:
      samples: floating point, time first; before any cast to a narrower type.
      name: what error messages call it.
      first: number of the first sample.

    Raises:
      AudioError: a sample is NaN, infinite, or larger than `MAX_MAGNITUDE`; the message says which.
    """
    if samples.size == 0 or max(-samples.min(), samples.max()) <= MAX_MAGNITUDE:  # False for NaN
        return
    with np.errstate(invalid="ignore"):
        index = tuple(np.argwhere(~(np.abs(samples) <= MAX_MAGNITUDE))[0])
    raise AudioError(
        f"{name}: sample {first + index[0]} is {samples[index]:g}; allowed: finite values up to {MAX_MAGNITUDE:g} "
        "(full scale is 1.0; integers of another full scale as int16 or int32)"
    )


def check_rate(rate: int | float, name: str) -> None:
    """Refuses a sample rate.

    Raises:
      AudioError: it is no number from `MIN_RATE` to `MAX_RATE`.
    """
    if not (math.isfinite(rate) and MIN_RATE <= rate <= MAX_RATE):
        raise AudioError(f"{name}: sample rate {rate} Hz is not allowed; allowed: {MIN_RATE} to {MAX_RATE:,}")


def too_long(name: str, seconds: int | float | None = None) -> AudioError:
    """The error for an item that is longer than `MAX_SECONDS`."""
    length = "more" if seconds is None else f"{seconds / 3600:.1f} hours"
    return AudioError(f"{name}: has {length}; allowed: at most {MAX_SECONDS / 3600:g} hours in one item, cut it")


def _resampler(rate: int | float) -> Any:
    if rate == SAMPLE_RATE:
        return None
    import soxr

    return soxr.ResampleStream(rate, SAMPLE_RATE, 1, dtype="float32", quality="HQ")


def _rest(resampler: Any) -> list[np.ndarray]:
    return [] if resampler is None else [resampler.resample_chunk(np.zeros(0, np.float32), last=True)]


def _joined(parts: list[np.ndarray]) -> np.ndarray:
    """One array; parts are given up as they are copied, so that the sound is not twice in memory."""
    waveform, position = np.empty(sum(map(len, parts)), np.float32), 0
    parts.reverse()
    while parts:
        part = parts.pop()
        waveform[position : position + len(part)] = part
        position += len(part)
    return waveform
