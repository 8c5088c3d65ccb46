"""Where the time of training steps goes, and traces of some of them for TensorBoard or XProf."""

import threading
import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any, Self

import jax

from emojax.workdir import check_inside

PROFILE = "profile"
"""Folder of a workdir with the traces."""

_UNTRACED = 5
"""Steps before the traced ones: the first compile, the next fill what is read ahead."""


class StepTimer:
    """Mean seconds of a step, of waiting for its batch, and of the devices' work on it; a context manager.

    A step whose input takes longer than the devices is bound by its input: then `input_wait` makes up most of `step`.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        """Starts; `clock` gives seconds."""
        self._clock = clock
        self._watcher = ThreadPoolExecutor(1, "emojax-step-timer")
        self._lock = threading.Lock()  # steps end in the watcher's thread
        self._ready = 0.0  # when the devices finished the last step
        self._begin()

    def __enter__(self) -> Self:
        """Returns itself."""
        return self

    def __exit__(self, *exception: object) -> None:
        """Stops watching."""
        self._watcher.shutdown(wait=False, cancel_futures=True)

    def dispatched(self, result: Any, waited: float) -> "Future[None]":
        """Records that a step was dispatched to the devices now.

        Args:
          result: arrays that the step computes.
          waited: seconds spent waiting for its batch.

        Returns:
          A future that is done when the step is done and counted.
        """
        with self._lock:
            self._waited += waited
        return self._watcher.submit(self._finish, result, self._clock())

    def means(self) -> dict[str, float]:
        """`seconds/step`, `seconds/input_wait`, `seconds/device` since the last call; {} if no step was done."""
        with self._lock:
            steps, elapsed = self._steps, self._clock() - self._start
            found = {"step": elapsed, "input_wait": self._waited, "device": self._device}
            self._begin()
        return {f"seconds/{name}": value / steps for name, value in found.items()} if steps else {}

    def exclude(self, seconds: float) -> None:
        """Excludes time that belongs to no step, e.g. that of an evaluation."""
        self._start += seconds

    def _begin(self) -> None:
        self._start, self._steps, self._waited, self._device = self._clock(), 0, 0.0, 0.0

    def _finish(self, result: Any, dispatched: float) -> None:
        jax.block_until_ready(result)
        with self._lock:
            now = self._clock()
            self._device += now - max(dispatched, self._ready)
            self._ready, self._steps = now, self._steps + 1


class Tracer:
    """Traces steps of a run into `WORKDIR/profile`; a context manager."""

    def __init__(self, workdir: Path, first: int, steps: int):
        """Traces `steps` steps (0: none) after the first few of those that begin at step `first`."""
        self._folder = workdir / PROFILE
        if steps:
            check_inside(workdir, self._folder)
        self._from, self._to = first + _UNTRACED, first + _UNTRACED + steps
        self._tracing = False

    def __enter__(self) -> Self:
        """Returns itself."""
        return self

    def __exit__(self, *exception: object) -> None:
        """Ends a trace that is under way."""
        if self._tracing:
            jax.profiler.stop_trace()

    def at(self, done: int, state: Any) -> None:
        """Starts or stops the trace at its first or last step; waits for `state`, so that whole steps are traced."""
        if self._from < self._to and done in (self._from, self._to) and self._tracing is (done == self._to):
            jax.block_until_ready(state)
            if self._tracing:
                jax.profiler.stop_trace()
            else:
                jax.profiler.start_trace(self._folder)
            self._tracing = not self._tracing
