"""Predictions of many utterances: means of those of their windows, which are computed in batches of similar length."""

import collections
import dataclasses
from collections.abc import Hashable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import numpy as np
from jaxtyping import Float, Float32

from emojax.evaluation.windows import averaged_output
from emojax.inference.length_buckets import LengthBuckets, Window, pad
from emojax.types import SAMPLE_RATE

if TYPE_CHECKING:
    from emojax.inference.predictor import Prediction, Predictor

WAITING_SECONDS = 1200
"""Audio that waits for a full batch (s), 77 MB; a single window may be longer."""

Outputs = tuple[Float[np.ndarray, "B _"], ...]
"""Arrays of `Predictor.window_outputs`."""


@dataclasses.dataclass
class _Sums:
    """Sums over the windows of one utterance, weighted by their lengths."""

    added: int = 0
    computed: int = 0
    expected: int | None = None
    weight: int = 0
    arrays: list[np.ndarray] | None = None

    def add(self, weight: int, arrays: list[Float[np.ndarray, "..."]]) -> None:
        if self.arrays is None:
            self.arrays = [np.zeros(values.shape) for values in arrays]
        for total, values in zip(self.arrays, arrays, strict=True):
            total += weight * values
        self.weight += weight
        self.computed += 1

    @property
    def complete(self) -> bool:
        return self.computed == self.expected


class BatchedPredictions:
    """Predicts utterances whose windows are added in any order; each is returned when its last window is computed."""

    def __init__(self, predictor: "Predictor", most_waiting: int = WAITING_SECONDS * SAMPLE_RATE, at_once: int = 1):
        """Starts without utterances.

        Args:
          predictor: model.
          most_waiting: samples that may wait for a full batch.
          at_once: batches that are computed at the same time, each in a thread; 1: in this thread.
        """
        self._predictor, self._at_once = predictor, at_once
        self._threads: ThreadPoolExecutor | None = None
        self._computed: collections.deque[tuple[list[Window], Future[Outputs]]] = collections.deque()
        self._buckets = LengthBuckets(predictor.shapes, most_waiting, predictor.prepare)
        self._sums: dict[Hashable, _Sums] = {}
        self._numbers: dict[Hashable, int] = {}
        self._next_number = 0
        self.seconds_computed = 0.0

    @property
    def samples_waiting(self) -> int:
        """Samples that wait for a full batch."""
        return self._buckets.samples_waiting

    def add(self, clip: Hashable, samples: Float32[np.ndarray, "S"], text: str) -> Iterator[tuple[Any, "Prediction"]]:
        """Adds a window; yields key and prediction of the utterances that are then complete."""
        if clip not in self._sums:
            self._sums[clip] = _Sums()
            self._numbers[clip] = self._next_number
            self._next_number += 1
        self._sums[clip].added += 1
        for batch in self._buckets.add(Window(clip, self._numbers[clip], samples, text)):
            yield from self._compute(*batch)

    def end(self, clip: Hashable) -> Iterator[tuple[Any, "Prediction"]]:
        """Declares that all windows of an utterance were added."""
        self._sums[clip].expected = self._sums[clip].added
        if self._sums[clip].complete:
            yield self._result(clip)

    def drop(self, clip: Hashable) -> None:
        """Forgets an utterance that could not be read to its end."""
        self._sums.pop(clip, None)
        self._numbers.pop(clip, None)

    def rest(self) -> Iterator[tuple[Any, "Prediction"]]:
        """Computes what waits."""
        batches = list(self._buckets.rest())
        for batch in batches:
            yield from self._compute(*batch, alone=len(batches) == 1)
        while self._computed:
            yield from self._oldest()

    def _compute(
        self, windows: list[Window], rows: int, length: int, alone: bool = False
    ) -> Iterator[tuple[Any, "Prediction"]]:
        """Computes a batch, or lets a thread compute it; yields what is complete."""
        windows = [window for window in windows if window.clip in self._sums]
        if not windows:
            return
        if self._at_once == 1 or alone:
            yield from self._results(windows, self._outputs(windows, rows, length))
            return
        if self._threads is None:
            self._threads = ThreadPoolExecutor(self._at_once, "emojax-batches")
        self._computed.append((windows, self._threads.submit(self._outputs, windows, rows, length)))
        # One more than there are threads, which never wait for this one.
        while len(self._computed) > self._at_once + 1 or (self._computed and self._computed[0][1].done()):
            yield from self._oldest()

    def _outputs(self, windows: list[Window], rows: int, length: int) -> Outputs:
        waveform, lengths = pad(windows, rows, length)
        return self._predictor.window_outputs(waveform, lengths, [window.text for window in windows])

    def _oldest(self) -> Iterator[tuple[Any, "Prediction"]]:
        windows, outputs = self._computed.popleft()
        yield from self._results(windows, outputs.result())

    def _results(self, windows: list[Window], arrays: Outputs) -> Iterator[tuple[Any, "Prediction"]]:
        for row, window in enumerate(windows):
            if window.clip not in self._sums:  # dropped meanwhile
                continue
            sums = self._sums[window.clip]
            sums.add(len(window.samples), [values[row] for values in arrays])
            self.seconds_computed += len(window.samples) / SAMPLE_RATE
            if sums.complete:
                yield self._result(window.clip)

    def _result(self, clip: Hashable) -> tuple[Any, "Prediction"]:
        sums = self._sums[clip]
        assert sums.arrays is not None
        means = [total[None] / sums.weight for total in sums.arrays]
        self.drop(clip)
        return clip, self._predictor.named(averaged_output(means), 0)
