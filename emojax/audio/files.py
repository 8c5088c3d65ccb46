"""Audio in: files and arrays, checked, averaged to one channel and resampled."""

import contextlib
import io
import os
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float, Float32

from emojax.audio.decoding import BLOCK_VALUES, TooLong, Unreadable, decoded_blocks, file_size
from emojax.audio.pieces import BinaryFile, Readable
from emojax.errors import AudioError, reason
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


MAX_CHANNELS = 16
"""An axis of a two-dimensional array longer than this is taken to be time."""

_FULL_SCALE = {"uint8": 2.0**7, "int8": 2.0**7, "int16": 2.0**15, "int32": 2.0**31}


def read_audio(source: str | os.PathLike[str] | Readable, name: str = "file") -> Float32[np.ndarray, "S"]:
    """Read a file as mono at 16 kHz, full scale 1.0.

    Reads what libsndfile reads: WAV of 8, 16, 24, 32 bits or float, FLAC, Ogg (Vorbis, Opus), MP3, AIFF and more,
    at any rate and with any number of channels, which are averaged; with PyAV installed also what FFmpeg reads (m4a,
    webm, aac, amr, wma). Everything that can be decoded is read, whatever headers say of the length: files written to
    a pipe, joined MP3, Ogg and FLAC files. WAV, Ogg and MP3 files that were cut short give the part that is there, a
    FLAC file that was cut short is refused. Files are decoded and resampled in blocks; memory is that of the result.

    Args:
      source: a path, or a binary file object, read from its position on.
      name: what error messages call a file object that has no `name`.

    Raises:
      AudioError: the file is missing, a directory, not audio, corrupt, empty, longer than `MAX_SECONDS`, or holds
        samples that are not finite or above `MAX_MAGNITUDE`.
    """
    is_object = hasattr(source, "read")
    if is_object:
        given = getattr(source, "name", None)
        name = given if isinstance(given, str) else name
    else:
        name = os.fspath(source)  # type: ignore[arg-type]
    try:
        with contextlib.ExitStack() as stack:
            file: Any = source if is_object else stack.enter_context(_opened(Path(name)))
            blocks = decoded_blocks(_seekable(file, name), MAX_SECONDS)
            return mono_16khz(stack.enter_context(contextlib.closing(blocks)), name)
    except AudioError:
        raise
    except TooLong as error:
        raise too_long(name, error.seconds) from error
    except Unreadable as error:
        raise AudioError(f"{name}: cannot be read as audio ({error})") from error
    except Exception as error:  # decoders raise many kinds for damaged files, file objects any
        raise AudioError(f"{name}: cannot be read as audio ({type(error).__name__}: {reason(error)})") from error


def to_mono_16khz(array: np.ndarray, rate: int | float, name: str = "waveform") -> Float32[np.ndarray, "S"]:
    """Convert samples in memory to mono at 16 kHz, full scale 1.0.

    Args:
      array: int8, int16, int32 (full scale 2**7, 2**15, 2**31), uint8 (offset binary around 128) or floating point
        (full scale 1.0, taken as is). Shape (S,), (S, channels), or (channels, S) where the first axis has at most
        `MAX_CHANNELS` entries and the second has more. Channels are averaged.
      rate: samples per second of `array` (Hz).
      name: what error messages call the array.

    Raises:
      AudioError: a type, shape or rate that is not allowed, no samples, more than `MAX_SECONDS`, or samples that are
        not finite or above `MAX_MAGNITUDE`.
    """
    if array.ndim not in (1, 2):
        raise AudioError(f"{name}: shape {array.shape} is not allowed; allowed: (samples,) or (samples, channels)")
    if array.size == 0:
        raise AudioError(f"{name}: has no samples (shape {array.shape})")
    if array.dtype.name not in _FULL_SCALE and not np.issubdtype(array.dtype, np.floating):
        raise AudioError(
            f"{name}: type {array.dtype} is not allowed; allowed: {', '.join(sorted(_FULL_SCALE))}, floating point"
        )
    check_rate(rate, name)
    samples = _time_first(array, name)
    if len(samples) / rate > MAX_SECONDS:
        raise too_long(name, len(samples) / rate)
    return mono_16khz(_blocks(samples, rate), name)


def _opened(path: Path) -> io.BufferedReader:
    try:
        return path.open("rb")
    except FileNotFoundError as error:
        raise AudioError(f"{path}: no such file") from error
    except IsADirectoryError as error:
        raise AudioError(f"{path}: is a directory; allowed: an audio file") from error


def _seekable(file: Any, name: str) -> BinaryFile:
    """The file itself, or, of a pipe or a download, its content."""
    found: Any = file
    if not (hasattr(file, "seek") and getattr(file, "seekable", lambda: True)()):
        found = io.BytesIO(file.read())
    elif isinstance(file.read(0), str):
        raise AudioError(f"{name}: is open as text; allowed: opened in binary mode")
    if file_size(found) == 0:
        begun = " from its position on; seek(0) goes back to its beginning" if found.tell() else ""
        raise AudioError(f"{name}: has no bytes{begun}")
    return found


def _time_first(samples: np.ndarray, name: str) -> np.ndarray:
    if samples.ndim == 1:
        return samples[:, None]
    first, second = samples.shape
    if second <= MAX_CHANNELS:
        return samples
    if first <= MAX_CHANNELS:
        return samples.T
    raise AudioError(f"{name}: shape {samples.shape} is not allowed; allowed: at most {MAX_CHANNELS} channels")


def _blocks(samples: np.ndarray, rate: int | float) -> Iterator[tuple[int | float, Float[np.ndarray, "_ _"]]]:
    """Blocks of (S, channels) as floating point of full scale 1.0."""
    size = max(1, BLOCK_VALUES // samples.shape[1])
    for start in range(0, len(samples), size):
        block = samples[start : start + size]
        if not np.issubdtype(block.dtype, np.floating):
            offset = 128.0 if block.dtype == np.uint8 else 0.0
            block = (block.astype(np.float64) - offset) / _FULL_SCALE[block.dtype.name]
        yield rate, block
