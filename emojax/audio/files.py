"""Reads audio files and arrays as checked mono waveforms at 16 kHz."""

import contextlib
import io
import os
from collections.abc import Generator, Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float, Float32

from emojax.audio.decoding import BLOCK_VALUES, TooLong, Unreadable, decoded_blocks, file_size
from emojax.audio.pieces import BinaryFile, Readable
from emojax.errors import AudioError, AudioFormatError, AudioLengthError, reason
from emojax.types import SAMPLE_RATE

MAX_SECONDS = 4 * 3600.0
"""Maximal duration of an item (s); its waveform takes 0.9 GB."""

MAX_STREAMED_SECONDS = 7 * 24 * 3600.0
"""Maximal duration of a file that is read in blocks (s)."""

MAX_MAGNITUDE = 1000.0
"""Largest sample magnitude, 60 dB above full scale; squares of larger samples may not be finite."""

MIN_RATE, MAX_RATE = 100, 10_000_000
"""Range of sample rates (Hz); resampling needs 16000 / rate times the memory."""

_LARGEST_STEP = 1 << 24
"""Samples (64 MB) by which the buffer of a long waveform grows."""

MAX_CHANNELS = 16
"""Maximal number of channels; a longer axis of a two-dimensional array is time."""

_FULL_SCALE = {"uint8": 2.0**7, "int8": 2.0**7, "int16": 2.0**15, "int32": 2.0**31}


def mono_16khz(
    blocks: Iterable[tuple[int | float, Float[np.ndarray, "_ _"]]], name: str, most_seconds: float = MAX_SECONDS
) -> Iterator[Float32[np.ndarray, "S"]]:
    """Checks, averages channels and resamples block by block.

    Args:
      blocks: sample rate (Hz) and floating-point samples (n, channels) of full scale 1.0; a change of the rate starts
        a new recording.
      name: name in error messages.
      most_seconds: maximal duration (s).

    Yields:
      Blocks of any length, 0 included.

    Raises:
      AudioError: an invalid rate or sample, no samples, or more than `most_seconds`.
    """
    resampler: Any = None
    current, position, seconds, samples = 0.0, 0, 0.0, 0
    for rate, block in blocks:
        if rate != current:
            check_rate(rate, name)
            rest = _flush(resampler)
            samples += len(rest)
            yield rest
            current, resampler = rate, stream_resampler(rate)
        check_samples(block, name, position)
        position, seconds = position + len(block), seconds + len(block) / rate
        if seconds > most_seconds:
            raise too_long(name, most=most_seconds)
        values = block.astype(np.float32, copy=False)
        mono = _averaged(values)
        mono = mono if resampler is None else resampler.resample_chunk(np.ascontiguousarray(mono))
        samples += len(mono)
        yield mono
    if position == 0:
        raise AudioError(f"{name}: has no samples")
    rest = _flush(resampler)
    if samples + len(rest) == 0:
        raise AudioError(f"{name}: {position} samples at {current:g} Hz are shorter than one at {SAMPLE_RATE} Hz")
    yield rest


def check_samples(samples: Float[np.ndarray, "..."], name: str, first: int = 0) -> None:
    """Checks that samples are finite and not larger than `MAX_MAGNITUDE`.

    Args:
      samples: floating point, time first; before any cast to a narrower type.
      name: name in error messages.
      first: index of the first sample.

    Raises:
      AudioError: naming the first invalid sample.
    """
    if samples.size == 0 or max(-samples.min(), samples.max()) <= MAX_MAGNITUDE:  # False for NaN
        return
    with np.errstate(invalid="ignore"):
        index = tuple(np.argwhere(~(np.abs(samples) <= MAX_MAGNITUDE))[0])
    raise AudioError(
        f"{name}: sample {first + index[0]} must be finite and at most {MAX_MAGNITUDE:g} (full scale 1.0; pass "
        f"integers as int16 or int32), got {samples[index]:g}"
    )


def check_rate(rate: int | float, name: str) -> None:
    """Checks a sample rate.

    Raises:
      AudioError: the rate is not between `MIN_RATE` and `MAX_RATE`.
    """
    if not MIN_RATE <= rate <= MAX_RATE:  # rejects NaN too
        shown = rate if not rate > 10 * MAX_RATE else f"over {10 * MAX_RATE:,}"
        raise AudioError(f"{name}: sample rate must be {MIN_RATE} to {MAX_RATE:,} Hz, got {shown}")


def too_long(name: str, seconds: int | float | None = None, most: float = MAX_SECONDS) -> AudioLengthError:
    """Creates the error for an item that is longer than the limit, `most` (s)."""
    limit = most / 3600
    length = "more" if seconds is None else f"{seconds / 3600:.1f}"
    return AudioLengthError(f"{name}: must have at most {limit:g} hours, got {length}")


def stream_resampler(rate: int | float) -> Any:
    """Creates the resampler to 16 kHz of all audio, which takes chunks of any length; None if the rate is 16 kHz."""
    if rate == SAMPLE_RATE:
        return None
    import soxr

    return soxr.ResampleStream(rate, SAMPLE_RATE, 1, dtype="float32", quality="HQ")


def _joined(blocks: Iterable[Float32[np.ndarray, "_"]]) -> Float32[np.ndarray, "S"]:
    """Joins blocks, so that only the result is held in memory."""
    waveform = _Buffer()
    for block in blocks:
        waveform.append(block)
    return waveform.trimmed()


def _averaged(values: Float32[np.ndarray, "S channels"]) -> Float32[np.ndarray, "S"]:
    """Mean over channels; the sum of columns is ten times as fast as NumPy's mean over a short axis."""
    mono = values[:, 0]
    for channel in range(1, values.shape[1]):
        mono = mono + values[:, channel]
    return mono / np.float32(values.shape[1]) if values.shape[1] > 1 else mono


def _flush(resampler: Any) -> np.ndarray:
    empty = np.zeros(0, np.float32)
    return empty if resampler is None else resampler.resample_chunk(empty, last=True)


class _Buffer:
    """Growing array: its capacity doubles while small, then grows by fixed steps, for which the system remaps pages."""

    def __init__(self):
        self._samples, self._used = np.zeros(0, np.float32), 0

    def append(self, part: np.ndarray) -> None:
        used = self._used + len(part)
        if used > len(self._samples):
            self._samples.resize(used + min(used, _LARGEST_STEP), refcheck=False)
        self._samples[self._used : used] = part
        self._used = used

    def trimmed(self) -> np.ndarray:
        self._samples.resize(self._used, refcheck=False)
        return self._samples


def read_audio(source: str | os.PathLike[str] | Readable, name: str = "file") -> Float32[np.ndarray, "S"]:
    """Reads a file as mono at 16 kHz, full scale 1.0.

    Supports the formats of libsndfile: WAV of 8, 16, 24, 32 bits or float, FLAC, Ogg (Vorbis, Opus), MP3, AIFF and
    others, at any rate and with any number of channels, which are averaged; with PyAV installed also those of FFmpeg
    (m4a, webm, aac, amr, wma). All audio is decoded regardless of the length stated in headers, e.g. of files written
    to a pipe and concatenated MP3, Ogg and FLAC files. Truncated WAV, Ogg and MP3 files give the part that exists; a
    truncated FLAC file is an error. Files are decoded and resampled in blocks, so that only the result is in memory.

    Args:
      source: path, or binary file object, which is read from its current position.
      name: name in error messages of a file object without `name`.

    Raises:
      AudioError: the file is missing, a directory, not audio, damaged, empty, longer than `MAX_SECONDS`, or holds
        samples that are not finite or above `MAX_MAGNITUDE`.
    """
    with contextlib.closing(read_blocks(source, name, MAX_SECONDS)) as blocks:
        return _joined(blocks)


def read_blocks(
    source: str | os.PathLike[str] | Readable, name: str = "file", most_seconds: float = MAX_STREAMED_SECONDS
) -> Generator[Float32[np.ndarray, "_"], None, None]:
    """Reads what `read_audio` returns in blocks of any length, so that a file of any length needs little memory.

    Args:
      source: path, or binary file object, which is read from its current position.
      name: name in error messages of a file object without `name`.
      most_seconds: maximal duration (s).

    Raises:
      AudioError: as `read_audio`; blocks before a damaged part have then been returned.
    """
    is_object = hasattr(source, "read")
    if is_object:
        given = getattr(source, "name", None)
        name = given if isinstance(given, str) else name
    else:
        name = os.fspath(source)  # type: ignore[arg-type]
    try:
        with contextlib.ExitStack() as stack:
            file: Any = source if is_object else stack.enter_context(_open(Path(name)))
            blocks = stack.enter_context(contextlib.closing(decoded_blocks(_seekable(file, name), most_seconds)))
            yield from mono_16khz(blocks, name, most_seconds)
    except AudioError:
        raise
    except TooLong as error:
        raise too_long(name, error.seconds, most_seconds) from error
    except Unreadable as error:
        raise AudioFormatError(f"{name}: cannot be read as audio ({error})") from error
    except Exception as error:  # decoders and file objects raise various exceptions
        raise AudioFormatError(f"{name}: cannot be read as audio ({type(error).__name__}: {reason(error)})") from error


def to_mono_16khz(array: np.ndarray, rate: int | float, name: str = "waveform") -> Float32[np.ndarray, "S"]:
    """Converts samples to mono at 16 kHz, full scale 1.0.

    Args:
      array: int8, int16, int32 (full scale 2**7, 2**15, 2**31), uint8 (offset binary around 128) or floating point
        (full scale 1.0). Shape (S,), (S, channels), or (channels, S) if the first axis has at most `MAX_CHANNELS`
        entries and the second has more. Channels are averaged.
      rate: sample rate of `array` (Hz).
      name: name in error messages.

    Raises:
      AudioError: an invalid dtype, shape or rate, no samples, more than `MAX_SECONDS`, or samples that are not finite
        or above `MAX_MAGNITUDE`.
    """
    if array.ndim not in (1, 2):
        raise AudioError(f"{name}: shape must be (samples,) or (samples, channels), got {array.shape}")
    if array.size == 0:
        raise AudioError(f"{name}: has no samples (shape {array.shape})")
    if array.dtype.name not in _FULL_SCALE and not np.issubdtype(array.dtype, np.floating):
        raise AudioError(f"{name}: dtype must be {', '.join(sorted(_FULL_SCALE))} or floating point, got {array.dtype}")
    check_rate(rate, name)
    samples = _time_first(array, name)
    if len(samples) / rate > MAX_SECONDS:
        raise too_long(name, len(samples) / rate)
    return _joined(mono_16khz(_blocks(samples, rate), name))


def _open(path: Path) -> io.BufferedReader:
    try:
        return path.open("rb")
    except FileNotFoundError as error:
        link = f" (a link to {path.readlink()})" if path.is_symlink() else ""
        raise AudioError(f"{path}: no such file{link}") from error
    except IsADirectoryError as error:
        raise AudioError(f"{path}: must be an audio file, got a directory") from error


def _seekable(file: Any, name: str) -> BinaryFile:
    """Returns the file, or its content in memory if it is not seekable (a pipe or download)."""
    found: Any = file
    if not (hasattr(file, "seek") and getattr(file, "seekable", lambda: True)()):
        found = io.BytesIO(file.read())
    elif isinstance(file.read(0), str):
        raise AudioError(f"{name}: must be opened in binary mode, got text mode")
    if file_size(found) == 0:
        hint = " after its current position; seek(0) returns to its start" if found.tell() else ""
        raise AudioError(f"{name}: has no bytes{hint}")
    return found


def _time_first(samples: np.ndarray, name: str) -> np.ndarray:
    if samples.ndim == 1:
        return samples[:, None]
    first, second = samples.shape
    if second <= MAX_CHANNELS:
        return samples
    if first <= MAX_CHANNELS:
        return samples.T
    raise AudioError(f"{name}: must have at most {MAX_CHANNELS} channels, got shape {samples.shape}")


def _blocks(samples: np.ndarray, rate: int | float) -> Iterator[tuple[int | float, Float[np.ndarray, "_ _"]]]:
    """Divides samples (S, channels) into floating-point blocks of full scale 1.0."""
    size = max(1, BLOCK_VALUES // samples.shape[1])
    for start in range(0, len(samples), size):
        block = samples[start : start + size]
        if not np.issubdtype(block.dtype, np.floating):
            offset = 128.0 if block.dtype == np.uint8 else 0.0
            block = (block.astype(np.float64) - offset) / _FULL_SCALE[block.dtype.name]
        yield rate, block
