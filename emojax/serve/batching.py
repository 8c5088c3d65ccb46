"""Dynamic batching: concurrent items are computed together in another thread, from a bounded queue.

An item that arrives while a batch is computed waits for the next batch, which takes what waits, in order. Under load
batches therefore fill by themselves; a single item waits for nothing.
"""

import asyncio
import contextlib
import dataclasses
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Executor
from typing import Any, Generic, TypeVar

Item = TypeVar("Item")
Result = TypeVar("Result")


class QueueFull(Exception):
    """As many items are admitted as the queue holds."""


class QueueClosed(Exception):
    """The queue admits no further items."""


@dataclasses.dataclass(frozen=True)
class _Entry(Generic[Item, Result]):
    item: Item
    future: "asyncio.Future[Result]"


class BatchQueue(Generic[Item, Result]):
    """Computes submitted items in batches; the methods are called in one event loop."""

    def __init__(
        self,
        compute: Callable[[Sequence[Item]], Iterable[tuple[int, Result]]],
        executor: Executor,
        most_admitted: int,
        most_per_batch: int,
        delay: float = 0.0,
    ):
        """Starts without items; `run` computes.

        Args:
          compute: computes a batch, in the executor; yields the position of an item in the batch and its result, in any
            order. Results are returned when they are yielded, not at the end of the batch.
          executor: executor of `compute`.
          most_admitted: most items at a time, in any state.
          most_per_batch: most items of a batch.
          delay: longest wait (s) for items that are admitted and not submitted yet.
        """
        self._compute, self._executor = compute, executor
        self._most_admitted, self._most_per_batch, self._delay = most_admitted, most_per_batch, delay
        self._waiting: asyncio.Queue[_Entry[Item, Result]] = asyncio.Queue()
        self._closed = False
        self._idle = asyncio.Event()
        self._idle.set()
        self.admitted = 0
        self.submitted = 0

    @contextlib.contextmanager
    def admit(self) -> Iterator[None]:
        """Holds a place in the queue, from before an item exists until its result was used.

        Raises:
          QueueFull: there is no place.
          QueueClosed: `close` was called.
        """
        if self._closed:
            raise QueueClosed
        if self.admitted >= self._most_admitted:
            raise QueueFull
        self.admitted += 1
        self._idle.clear()
        try:
            yield
        finally:
            self.admitted -= 1
            if not self.admitted:
                self._idle.set()

    async def submit(self, item: Item) -> Result:
        """Computes an item, within `admit`; raises what `compute` raises for it."""
        entry = _Entry[Item, Result](item, asyncio.get_running_loop().create_future())
        self.submitted += 1
        try:
            self._waiting.put_nowait(entry)
            return await entry.future
        finally:
            self.submitted -= 1

    def close(self) -> None:
        """Admits no further items; those that are admitted can be submitted and are computed."""
        self._closed = True

    async def drain(self, seconds: float) -> bool:
        """Waits until no item is admitted; returns whether that was within `seconds`."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._idle.wait()
        return not self.admitted

    async def run(self) -> None:
        """Computes batches until it is cancelled."""
        loop = asyncio.get_running_loop()
        while True:
            batch = await self._next_batch()
            if batch:
                await loop.run_in_executor(self._executor, self._compute_batch, batch, loop)

    async def _next_batch(self) -> list[_Entry[Item, Result]]:
        """The entries that wait, at least one; without those whose caller was cancelled."""
        batch = [await self._waiting.get()]
        deadline = asyncio.get_running_loop().time() + self._delay
        while len(batch) < self._most_per_batch:
            if self._waiting.empty() and (not self._delay or self.submitted >= self.admitted):
                break  # nobody else can come
            try:
                async with asyncio.timeout_at(deadline):
                    batch.append(await self._waiting.get())
            except TimeoutError:
                break
        return [entry for entry in batch if not entry.future.done()]

    def _compute_batch(self, batch: list[_Entry[Item, Result]], loop: asyncio.AbstractEventLoop) -> None:
        """Runs in the executor. If a batch fails, its items are computed one by one: only those at fault fail."""
        left = dict(enumerate(batch))
        try:
            for number, result in self._compute([entry.item for entry in batch]):
                loop.call_soon_threadsafe(_resolve, left.pop(number).future, result, None)
        except Exception as error:
            if len(batch) == 1:
                loop.call_soon_threadsafe(_resolve, batch[0].future, None, error)
            else:
                for entry in left.values():
                    self._compute_batch([entry], loop)


def _resolve(future: "asyncio.Future[Any]", result: Any, error: Exception | None) -> None:
    if future.done():  # the caller was cancelled
        return
    if error is not None:
        future.set_exception(error)
    else:
        future.set_result(result)
