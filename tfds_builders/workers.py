"""Work spread over processes: results in the order of the items, a bounded number in flight, no orphans."""

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
"""Bounds memory when writing is slower than making, as with long recordings."""


def worker_pool(processes: int) -> ProcessPoolExecutor:
    """Fresh (spawned) processes: forking a process in which libraries run threads can hang."""
    return ProcessPoolExecutor(
        processes, mp_context=multiprocessing.get_context("spawn"), initializer=_die_with_the_parent
    )


def ordered_map(
    function: Callable[[Item], Result], items: Sequence[Item], pool: ProcessPoolExecutor | None, processes: int = 1
) -> Iterator[Result]:
    """Applies a module-level function to items, in order; in this process where there is no pool.

    Raises:
      CorpusError: a worker process died. What `function` raises is raised here.
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


def _die_with_the_parent() -> None:
    """A worker whose parent was killed would wait for work for ever; the parent alone answers Ctrl-C."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    parent = multiprocessing.parent_process()
    assert parent is not None

    def wait() -> None:
        multiprocessing.connection.wait([parent.sentinel])
        os._exit(1)

    threading.Thread(target=wait, daemon=True).start()
