"""A decoded recording: its samples in a temporary file, with the measurements of one pass over it."""

import contextlib
import dataclasses
import tempfile
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import IO

import numpy as np
from jaxtyping import Float32, UInt8

from emojax.annotation.activity import FRAME_SAMPLES, energy_probabilities, frame_levels
from emojax.annotation.annotation import PEAK_SECONDS
from emojax.audio.files import read_blocks
from emojax.types import SAMPLE_RATE

MAX_SECONDS = 24 * 3600.0
"""Maximal duration of a recording (s)."""

PEAK_SAMPLES = round(PEAK_SECONDS * SAMPLE_RATE)

BLOCK_SAMPLES = 250 * FRAME_SAMPLES
"""Samples that are measured at a time (8 s): whole frames, and whole peaks."""

_BYTES = 4
"""Of a sample in the temporary file."""

Detector = Callable[[Float32[np.ndarray, "S"]], Float32[np.ndarray, "T"]]
"""Gives the probability of speech in each frame of the next block."""


@dataclasses.dataclass(frozen=True, eq=False)
class Recording:
    """A recording at 16 kHz.

    Attributes:
      num_samples: length.
      probabilities: probability of speech in each frame.
      levels: level of each frame (dB of full scale).
      peaks: greatest magnitude of every `PEAK_SAMPLES`; 255 is full scale.
    """

    num_samples: int
    probabilities: Float32[np.ndarray, "T"]
    levels: Float32[np.ndarray, "T"]
    peaks: UInt8[np.ndarray, "P"]
    _file: IO[bytes]

    @property
    def duration(self) -> float:
        """Duration (s)."""
        return self.num_samples / SAMPLE_RATE

    def samples(self, start: int, stop: int) -> Float32[np.ndarray, "S"]:
        """Reads samples from the temporary file."""
        self._file.seek(start * _BYTES)
        return np.frombuffer(self._file.read((stop - start) * _BYTES), "<f4")


@contextlib.contextmanager
def open_recording(
    path: Path, folder: Path, detector: Detector | None, advance: Callable[[float], None] = lambda seconds: None
) -> Iterator[Recording]:
    """Decodes a recording; memory does not depend on its length, apart from its measurements (1 MB per hour).

    Args:
      path: audio file.
      folder: folder of the temporary file, which takes 230 MB per hour, digital silence nothing; it has no name, so
        that it is gone with the process.
      detector: voice activity detector at its start; None: `energy_probabilities`.
      advance: is called with the seconds of each block.

    Raises:
      AudioError: the file cannot be read, is empty, or longer than `MAX_SECONDS`.
    """
    with tempfile.TemporaryFile(dir=folder) as file:
        yield measure(read_blocks(path, str(path), MAX_SECONDS), file, detector, advance)


def measure(
    parts: Iterable[Float32[np.ndarray, "_"]],
    file: IO[bytes],
    detector: Detector | None,
    advance: Callable[[float], None] = lambda seconds: None,
) -> Recording:
    """Writes a waveform to a file and measures it; see `open_recording`.

    Args:
      parts: consecutive parts of the waveform, of any length.
      file: receives the samples.
      detector: voice activity detector.
      advance: is called with the seconds of each block.
    """
    num_samples = 0
    probabilities, levels, peaks = list[np.ndarray](), list[np.ndarray](), list[np.ndarray]()
    for block in blocks_of(parts, BLOCK_SAMPLES):
        length = len(block)
        if block.any():
            file.seek(num_samples * _BYTES)
            file.write(block.astype("<f4", copy=False).data)
        num_samples += length
        padded = np.pad(block, (0, BLOCK_SAMPLES - length))
        frames, of_peaks = -(-length // FRAME_SAMPLES), -(-length // PEAK_SAMPLES)
        levels.append(frame_levels(padded)[:frames])
        magnitudes = np.abs(padded).reshape(-1, PEAK_SAMPLES).max(axis=1)[:of_peaks]
        peaks.append(np.round(255 * np.minimum(magnitudes, 1)).astype(np.uint8))
        if detector is not None:
            probabilities.append(detector(padded)[:frames])
        advance(length / SAMPLE_RATE)
    file.truncate(num_samples * _BYTES)
    file.flush()
    joined = np.concatenate(levels) if levels else np.zeros(0, np.float32)
    found = np.concatenate(probabilities) if probabilities else energy_probabilities(joined)
    return Recording(num_samples, found, joined, np.concatenate([np.zeros(0, np.uint8), *peaks]), file)


def blocks_of(parts: Iterable[Float32[np.ndarray, "_"]], size: int) -> Iterator[Float32[np.ndarray, "_"]]:
    """Divides consecutive parts of a waveform into blocks of `size` samples; the last may be shorter."""
    block, used = np.zeros(size, np.float32), 0
    for part in parts:
        start = 0
        while start < len(part):
            count = min(size - used, len(part) - start)
            block[used : used + count] = part[start : start + count]
            used, start = used + count, start + count
            if used == size:
                yield block
                used = 0
    if used:
        yield block[:used]
