"""Audio files and arrays of any rate, width and channel count become mono float32 waveforms at 16 kHz."""

import os
from pathlib import Path

import numpy as np
from jaxtyping import Float32

from emojax.errors import AudioError
from emojax.types import SAMPLE_RATE

MAX_CHANNELS = 16
"""An axis of a two-dimensional array longer than this is taken to be time."""

_FULL_SCALE = {"uint8": 2.0**7, "int8": 2.0**7, "int16": 2.0**15, "int32": 2.0**31}


def read_audio(path: str | os.PathLike[str]) -> Float32[np.ndarray, "S"]:
    """Read a file as mono at 16 kHz, full scale 1.0.

    Reads what libsndfile reads: WAV of 8, 16, 24, 32 bits or float, FLAC, Ogg (Vorbis, Opus), MP3, AIFF and more,
    at any rate and with any number of channels, which are averaged. WAV, Ogg and MP3 files that were cut short give
    the part that is there, a FLAC file that was cut short is refused.

    Raises:
      AudioError: the file is missing, a directory, not audio, corrupt, empty, or holds NaN or infinity.
    """
    import soundfile

    path = Path(path)
    if not path.exists():
        raise AudioError(f"{path}: no such file")
    if path.is_dir():
        raise AudioError(f"{path}: is a directory; allowed: an audio file")
    try:
        with soundfile.SoundFile(path) as file:
            rate, samples = file.samplerate, file.read(dtype="float32", always_2d=True)
    except (soundfile.SoundFileError, RuntimeError, TypeError, OSError) as error:
        # TypeError: soundfile asks for a sample rate when the name ends in `.raw`.
        reason = str(error).removeprefix(f"Error opening {str(path)!r}: ")
        raise AudioError(f"{path}: cannot be read as audio ({' '.join(reason.split())})") from error
    return _mono_16khz(samples, rate, str(path))


def to_mono_16khz(array: np.ndarray, rate: int | float, name: str = "waveform") -> Float32[np.ndarray, "S"]:
    """Convert samples in memory to mono at 16 kHz, full scale 1.0.

    Args:
      array: int8, int16, int32 (full scale 2**7, 2**15, 2**31), uint8 (offset binary around 128) or floating point
        (full scale 1.0, taken as is). Shape (S,), (S, channels), or (channels, S) where the first axis has at most
        `MAX_CHANNELS` entries and the second has more. Channels are averaged.
      rate: samples per second of `array` (Hz).
      name: what error messages call the array.

    Raises:
      AudioError: a type, shape or rate that is not allowed, no samples, or NaN or infinity among them.
    """
    if array.ndim not in (1, 2):
        raise AudioError(f"{name}: shape {array.shape} is not allowed; allowed: (samples,) or (samples, channels)")
    if array.size == 0:
        raise AudioError(f"{name}: has no samples (shape {array.shape})")
    if np.issubdtype(array.dtype, np.floating):
        with np.errstate(over="ignore"):  # Becomes infinite, which is refused by name below.
            scaled = array.astype(np.float32)
    elif array.dtype.name in _FULL_SCALE:
        offset = 128.0 if array.dtype == np.uint8 else 0.0
        scaled = ((array.astype(np.float64) - offset) / _FULL_SCALE[array.dtype.name]).astype(np.float32)
    else:
        raise AudioError(
            f"{name}: type {array.dtype} is not allowed; allowed: {', '.join(sorted(_FULL_SCALE))}, floating point"
        )
    return _mono_16khz(_time_first(scaled, name), rate, name)


def _time_first(samples: np.ndarray, name: str) -> np.ndarray:
    if samples.ndim == 1:
        return samples[:, None]
    first, second = samples.shape
    if second <= MAX_CHANNELS:
        return samples
    if first <= MAX_CHANNELS:
        return samples.T
    raise AudioError(f"{name}: shape {samples.shape} is not allowed; allowed: at most {MAX_CHANNELS} channels")


def _mono_16khz(samples: np.ndarray, rate: int | float, name: str) -> np.ndarray:
    """Average the channels of float32 (S, channels), check and resample."""
    if not (np.isfinite(rate) and rate > 0):
        raise AudioError(f"{name}: sample rate {rate} Hz is not allowed; allowed: a number > 0")
    if samples.size == 0:
        raise AudioError(f"{name}: has no samples")
    mono = samples[:, 0] if samples.shape[1] == 1 else samples.mean(axis=1, dtype=np.float32)
    if not np.isfinite(mono).all():
        position = int(np.flatnonzero(~np.isfinite(mono))[0])
        raise AudioError(f"{name}: sample {position} is {mono[position]}; allowed: finite values")
    if rate != SAMPLE_RATE:
        import soxr

        mono = soxr.resample(mono, rate, SAMPLE_RATE, quality="HQ")
        if len(mono) == 0:
            raise AudioError(f"{name}: {len(samples)} samples at {rate} Hz are shorter than one at {SAMPLE_RATE} Hz")
    return np.ascontiguousarray(mono, dtype=np.float32)
