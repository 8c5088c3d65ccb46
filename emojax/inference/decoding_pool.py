"""Decoding of files in worker processes, read ahead by a bounded number of samples."""

import collections
import dataclasses
import itertools
import multiprocessing
import threading
from collections.abc import Iterable, Iterator
from multiprocessing.connection import wait
from typing import Self

from emojax.inference.decoding_worker import Task, Worker
from emojax.inference.reading import Event, Reading, Samples, read_clips
from emojax.inference.sources import Clip
from emojax.parallel import jax_started, usable_cores
from emojax.types import SAMPLE_RATE

MOST_WORKERS = 8
"""Worker processes by default, if there are as many cores: decoding is hundreds of times as fast as real time."""

LEAST_FILES = 32
"""Files for which worker processes are started by default; their start takes seconds."""

_READ_AHEAD = 600 * SAMPLE_RATE
"""Samples that are decoded and not yet taken (38 MB), in addition to one window per worker."""

_SEGMENTS_AT_ONCE = 256
"""Segments of a file that are read in one pass."""


def default_workers(num_files: int) -> int:
    """Number of worker processes for a number of files; 0: decode in this process."""
    return 0 if num_files < LEAST_FILES else min(usable_cores(), MOST_WORKERS)


def tasks_of(clips: Iterable[tuple[int, Clip]]) -> Iterator[Task]:
    """Groups adjacent clips of the same file, which are read in one pass."""
    for _, group in itertools.groupby(clips, key=lambda clip: clip[1].path):
        while task := list(itertools.islice(group, _SEGMENTS_AT_ONCE)):
            yield task


class DecodingPool:
    """Worker processes that decode files; a context manager.

    If a process ends while it decodes a file (a damaged file can end a decoder), the clips of this file fail, and the
    process is replaced.
    """

    def __init__(self, workers: int):
        """Starts the processes: by fork, which takes no time, if JAX has not started; else they import what they need.

        Args:
          workers: number of processes; 0: decode in this process.
        """
        self._workers: list[Worker] = []
        for _ in range(workers):
            self._workers.append(self._new_worker())

    def _new_worker(self) -> Worker:
        if not jax_started() and "fork" in multiprocessing.get_all_start_methods():
            import soundfile  # noqa: F401  # once for all processes
            import soxr  # noqa: F401

            return Worker(multiprocessing.get_context("fork"), [worker.connection for worker in self._workers])
        context = multiprocessing.get_context("forkserver")
        context.set_forkserver_preload([Worker.__module__])
        return Worker(context, [])

    def __enter__(self) -> Self:
        """Returns itself."""
        return self

    def __exit__(self, *exception: object) -> None:
        """Ends the processes."""
        for worker in self._workers:
            worker.stop()

    def read(self, clips: Iterable[tuple[int, Clip]], reading: Reading) -> Iterator[Event]:
        """Reads clips; see `read_clips`. Clips of several files alternate, those of one file are in order.

        Args:
          clips: clips with their numbers.
          reading: what is read of each.
        """
        if not self._workers:
            for task in tasks_of(clips):
                yield from read_clips(task, reading)
            return
        queue = _ReadAhead(_READ_AHEAD)
        thread = threading.Thread(target=self._receive, args=(tasks_of(clips), reading, queue), daemon=True)
        thread.start()
        try:
            yield from queue
        finally:
            queue.close()
            thread.join(1.0)

    def _receive(self, tasks: Iterator[Task], reading: Reading, queue: "_ReadAhead") -> None:
        """Runs the thread that gives tasks to workers and collects their events."""
        try:
            for worker in self._workers:
                worker.give(next(tasks, None), reading)
            while busy := {worker.connection: worker for worker in self._workers if worker.task}:
                for connection in wait(list(busy)):
                    worker = busy[connection]
                    try:
                        event = worker.receive()
                    except (EOFError, OSError):
                        for failure in worker.failures():
                            queue.put(failure)
                        event, worker = None, self._replaced(worker)
                    if event is not None:
                        queue.put(event)
                    else:  # the process waits for its next task, so that sending it cannot block
                        worker.give(next(tasks, None), reading)
            queue.end(None)
        except _Closed:
            pass
        except BaseException as error:  # raised again by the reader of the queue
            queue.end(error)

    def _replaced(self, worker: Worker) -> Worker:
        position = self._workers.index(worker)
        self._workers[position] = self._new_worker()
        return self._workers[position]


class _Closed(Exception):
    """The reader of the queue has stopped."""


@dataclasses.dataclass
class _ReadAhead:
    """Events between a thread and its reader; `put` waits while more than `most` samples are in the queue."""

    most: int
    samples: int = 0

    def __post_init__(self):
        self._events: collections.deque[Event] = collections.deque()
        self._changed = threading.Condition()
        self._ended, self._closed, self._error = False, False, None

    def put(self, event: Event) -> None:
        size = len(event.values) if isinstance(event, Samples) else 0
        with self._changed:
            self._changed.wait_for(lambda: self._closed or self.samples == 0 or self.samples + size <= self.most)
            if self._closed:
                raise _Closed
            self._events.append(event)
            self.samples += size
            self._changed.notify_all()

    def end(self, error: BaseException | None) -> None:
        with self._changed:
            self._ended, self._error = True, error
            self._changed.notify_all()

    def close(self) -> None:
        with self._changed:
            self._closed = True
            self._changed.notify_all()

    def __iter__(self) -> Iterator[Event]:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._events or self._ended)
                if not self._events:
                    if self._error is not None:
                        raise self._error
                    return
                event = self._events.popleft()
                self.samples -= len(event.values) if isinstance(event, Samples) else 0
                self._changed.notify_all()
            yield event
