"""Blocks of samples of any rate and channel count become one mono float32 waveform at 16 kHz, in bounded memory."""

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

_LARGEST_STEP = 1 << 24
"""Samples (64 MB) by which a long waveform grows: what it takes beyond its own size while it is read."""


def mono_16khz(blocks: Iterable[tuple[int | float, Float[np.ndarray, "_ _"]]], name: str) -> Float32[np.ndarray, "S"]:
    """Averages channels, checks and resamples block by block: only the result is ever whole.

    Args:
      blocks: samples per second (Hz), and floating-point samples (n, channels) of full scale 1.0. Where the rate
        changes, a new recording begins.
      name: what error messages call it.

    Raises:
      AudioError: a rate that is not allowed, no samples, more than `MAX_SECONDS`, or a sample that is not allowed.
    """
    waveform = _Growing()
    resampler: Any = None
    current, position, seconds = 0.0, 0, 0.0
    for rate, block in blocks:
        if rate != current:
            check_rate(rate, name)
            waveform.append(_rest(resampler))
            current, resampler = rate, _resampler(rate)
        check_samples(block, name, position)
        position, seconds = position + len(block), seconds + len(block) / rate
        if seconds > MAX_SECONDS:
            raise too_long(name)
        single = block.astype(np.float32, copy=False)
        mono = single[:, 0] if block.shape[1] == 1 else single.mean(axis=1, dtype=np.float32)
        waveform.append(mono if resampler is None else resampler.resample_chunk(np.ascontiguousarray(mono)))
    if position == 0:
        raise AudioError(f"{name}: has no samples")
    waveform.append(_rest(resampler))
    found = waveform.finished()
    if len(found) == 0:
        raise AudioError(f"{name}: {position} samples at {current:g} Hz are shorter than one at {SAMPLE_RATE} Hz")
    return found


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
    if not MIN_RATE <= rate <= MAX_RATE:  # also what is not finite
        shown = rate if not rate > 10 * MAX_RATE else f"over {10 * MAX_RATE:,}"
        raise AudioError(f"{name}: sample rate {shown} Hz is not allowed; allowed: {MIN_RATE} to {MAX_RATE:,}")


def too_long(name: str, seconds: int | float | None = None) -> AudioError:
    """The error for an item that is longer than `MAX_SECONDS`."""
    most = MAX_SECONDS / 3600
    length = f"more than {most:g}" if seconds is None else f"{seconds / 3600:.1f}"
    return AudioError(f"{name}: has {length} hours; allowed: at most {most:g} hours in one item")


def _resampler(rate: int | float) -> Any:
    if rate == SAMPLE_RATE:
        return None
    import soxr

    return soxr.ResampleStream(rate, SAMPLE_RATE, 1, dtype="float32", quality="HQ")


def _rest(resampler: Any) -> np.ndarray:
    nothing = np.zeros(0, np.float32)
    return nothing if resampler is None else resampler.resample_chunk(nothing, last=True)


class _Growing:
    """An array that parts are appended to. It doubles while it is small, then grows by steps that remap its pages."""

    def __init__(self):
        self._samples, self._used = np.zeros(0, np.float32), 0

    def append(self, part: np.ndarray) -> None:
        used = self._used + len(part)
        if used > len(self._samples):
            self._samples.resize(used + min(used, _LARGEST_STEP), refcheck=False)
        self._samples[self._used : used] = part
        self._used = used

    def finished(self) -> np.ndarray:
        self._samples.resize(self._used, refcheck=False)
        return self._samples
