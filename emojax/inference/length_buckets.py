"""Windows of many utterances in batches of similar length.

A few lengths and row counts are compiled (`emojax.bucketing`). Windows wait for others of their length; the number of
samples that wait is bounded, whatever the number and the lengths of the utterances.
"""

import dataclasses
import math
from collections.abc import Callable, Hashable, Iterator

import numpy as np
from jaxtyping import Float32, Int32

from emojax.bucketing import bucket_length, doubled_length, most_rows
from emojax.types import SAMPLE_RATE

_LEAST_FILLED = 0.75
"""Least share of the rows of a batch that hold windows."""

_MOST_OVERTAKING = 1024
"""Utterances that may be added after one that waits: rows in the order of the list are held back no longer."""


@dataclasses.dataclass(frozen=True)
class Window:
    """Part of an utterance that the model computes at once; the whole, if it is short.

    Attributes:
      clip: key of the utterance.
      number: number of the utterance, in the order in which they were added.
      samples: 16 kHz mono, full scale 1.0.
      text: transcript of the utterance.
    """

    clip: Hashable
    number: int
    samples: Float32[np.ndarray, "S"]
    text: str


@dataclasses.dataclass(frozen=True)
class BatchShapes:
    """Shapes of the batches of windows.

    Attributes:
      at_once: samples per batch, padding included, unless a single window is longer.
      longest: length of the longest window; None: no limit.
      fixed: whether every window is padded to `longest`.
      doubled: whether padded lengths are 1, 2, 4, 8, ... s; otherwise there are as many again between them.
      limit: most rows of a batch; None: those of `most_rows`.
    """

    at_once: int
    longest: int | None
    fixed: bool
    doubled: bool = False
    limit: int | None = None

    def padded(self, num_samples: int) -> int:
        """Length to which a window is padded."""
        if self.fixed and self.longest:
            return self.longest
        return (doubled_length if self.doubled else bucket_length)(num_samples, SAMPLE_RATE, self.longest)

    def rows(self, length: int, count: int) -> list[int]:
        """Row counts of the batches of `count` windows that are padded to `length`: `most_rows`, or 1.

        A remainder of three quarters of a batch or more is one batch, else it is computed row by row: compiling a
        program of another row count would take longer than computing hundreds of rows.
        """
        most = self.most_rows(length)
        full, left = divmod(count, most)
        return [most] * full + ([most] if left and left >= self.least_rows(length) else [1] * left)

    def least_rows(self, length: int) -> int:
        """Least number of windows of a batch of `most_rows` rows."""
        return math.ceil(_LEAST_FILLED * self.most_rows(length))

    def most_rows(self, length: int) -> int:
        """Largest row count of a padded length."""
        most = most_rows(length, self.at_once)
        return most if self.limit is None else min(most, self.limit)

    def up_to(self, num_samples: int, count: int) -> list[tuple[int, int]]:
        """Every shape (rows, length) of batches of up to `count` windows of up to `num_samples`."""
        shapes, length = [], 0
        while length < self.padded(num_samples):
            length = self.padded(length + 1)
            counts = range(1, min(count, self.most_rows(length)) + 1)
            shapes += [(rows, length) for rows in sorted({rows for each in counts for rows in self.rows(length, each)})]
        return shapes


class LengthBuckets:
    """Windows by padded length."""

    def __init__(self, shapes: BatchShapes, most_waiting: int, prepare: Callable[[list[tuple[int, int]]], None]):
        """Starts without windows.

        Args:
          shapes: shapes of batches.
          most_waiting: samples that may wait.
          prepare: receives shapes (rows, length) of batches that are certain to come.
        """
        self._shapes, self._most_waiting, self._prepare = shapes, most_waiting, prepare
        self._buckets: dict[int, list[Window]] = {}
        self.samples_waiting = 0

    def add(self, window: Window) -> Iterator[tuple[list[Window], int, int]]:
        """Adds a window; yields the batches to compute now: windows, rows and padded length."""
        length = self._shapes.padded(len(window.samples))
        bucket = self._buckets.setdefault(length, [])
        bucket.append(window)
        self.samples_waiting += len(window.samples)
        most = self._shapes.most_rows(length)
        if len(bucket) >= most:
            yield from self._take(length)
        elif len(bucket) == self._shapes.least_rows(length):
            self._prepare([(most, length)])
        while self.samples_waiting > self._most_waiting:
            yield from self._take(max(self._buckets, key=lambda each: each * len(self._buckets[each])))
        oldest = window.number - _MOST_OVERTAKING
        for length in [length for length, (first, *_) in self._buckets.items() if first.number < oldest]:
            yield from self._take(length)

    def rest(self) -> Iterator[tuple[list[Window], int, int]]:
        """Yields all windows that wait."""
        counts = {length: self._shapes.rows(length, len(windows)) for length, windows in self._buckets.items()}
        self._prepare(sorted({(rows, length) for length, each in counts.items() for rows in each}))
        for length in sorted(self._buckets):
            yield from self._take(length)

    def _take(self, length: int) -> Iterator[tuple[list[Window], int, int]]:
        windows = self._buckets.pop(length)
        self.samples_waiting -= sum(len(window.samples) for window in windows)
        start = 0
        for rows in self._shapes.rows(length, len(windows)):
            yield windows[start : start + rows], rows, length
            start += rows


def pad(windows: list[Window], rows: int, length: int) -> tuple[Float32[np.ndarray, "B S"], Int32[np.ndarray, "B"]]:
    """Pads windows to one length; returns waveforms and their lengths, 0 for rows without a window."""
    waveform, lengths = np.zeros((rows, length), np.float32), np.zeros(rows, np.int32)
    for row, window in enumerate(windows):
        lengths[row] = len(window.samples)
        waveform[row, : lengths[row]] = window.samples
    return waveform, lengths
