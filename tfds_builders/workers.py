"""Parallel map over worker processes: ordered results, bounded memory, no orphaned processes."""

import collections
import itertools
import multiprocessing
import multiprocessing.connection
import os
import signal
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from typing import TypeVar

from emojax.errors import CorpusError

Item = TypeVar("Item")
Result = TypeVar("Result")

_CHUNK = 16
_CHUNKS_IN_FLIGHT_PER_PROCESS = 4
"""Bounds memory if writing is slower than processing, as for long recordings."""


def worker_pool(processes: int) -> ProcessPoolExecutor:
    """Creates a pool of spawned processes; forking a process with threads can hang."""
    return ProcessPoolExecutor(
        processes, mp_context=multiprocessing.get_context("spawn"), initializer=_exit_with_parent
    )


def ordered_map(
    function: Callable[[Item], Result], items: Sequence[Item], pool: ProcessPoolExecutor | None, processes: int = 1
) -> Iterator[Result]:
    """Applies a module-level function to items, in order; in this process without a pool.

    Raises:
      CorpusError: a worker process died. Exceptions of `function` are re-raised.
    """
    if pool is None:
        yield from map(function, items)
        return
    pending: collections.deque[Future[list[Result]]] = collections.deque()
    try:
        for chunk in _chunks(items):
            pending.append(pool.submit(_apply, function, chunk))
            if len(pending) > _CHUNKS_IN_FLIGHT_PER_PROCESS * processes:
                yield from pending.popleft().result()
        while pending:
            yield from pending.popleft().result()
    except BrokenProcessPool as error:
        raise CorpusError("a worker process died (out of memory?); try --processes=1") from error
    finally:
        for future in pending:
            future.cancel()


def _chunks(items: Iterable[Item]) -> Iterator[list[Item]]:
    iterator = iter(items)
    while chunk := list(itertools.islice(iterator, _CHUNK)):
        yield chunk


def _apply(function: Callable[[Item], Result], chunk: list[Item]) -> list[Result]:
    return [function(item) for item in chunk]


def _exit_with_parent() -> None:
    """Makes a worker exit when its parent is killed, and ignore Ctrl-C, which the parent handles."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    parent = multiprocessing.parent_process()
    assert parent is not None

    def wait() -> None:
        multiprocessing.connection.wait([parent.sentinel])
        os._exit(1)

    threading.Thread(target=wait, daemon=True).start()
