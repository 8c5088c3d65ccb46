"""The queue of the service: batches of what waits, a bound, results to their callers, errors of items, a stop."""

import asyncio
import threading
from concurrent.futures import ThreadPoolExecutor

import hypothesis
import hypothesis.strategies as st
import pytest

from emojax.serve.batching import BatchQueue, QueueClosed, QueueFull


class Doubler:
    """Doubles numbers; waits for `gate` in each batch, keeps the batches, and fails for negative numbers."""

    def __init__(self):
        self.batches, self.gate = [], threading.Event()
        self.gate.set()

    def __call__(self, items):
        self.batches.append(list(items))
        assert self.gate.wait(10)
        for number in reversed(range(len(items))):  # any order
            if items[number] < 0:
                raise ValueError(f"negative: {items[number]}")
            yield number, 2 * items[number]


def run(scenario, most_admitted=100, most_per_batch=4, delay=0.0):
    """Runs a scenario (a coroutine function of a queue and its Doubler) beside the task that computes."""

    async def main():
        compute = Doubler()
        with ThreadPoolExecutor(1) as executor:
            queue = BatchQueue(compute, executor, most_admitted, most_per_batch, delay)
            computing = asyncio.create_task(queue.run())
            try:
                async with asyncio.timeout(20):
                    return await scenario(queue, compute)
            finally:
                compute.gate.set()
                computing.cancel()

    return asyncio.run(main())


async def double(queue, item):
    with queue.admit():
        return await queue.submit(item)


@hypothesis.settings(deadline=None, max_examples=30)
@hypothesis.given(
    items=st.lists(st.integers(-5, 1000), max_size=40), most=st.integers(1, 7), delay=st.sampled_from([0.0, 0.001])
)
def test_each_caller_gets_its_own_result_or_error(items, most, delay):
    async def scenario(queue, compute):
        results = await asyncio.gather(*(double(queue, item) for item in items), return_exceptions=True)
        assert queue.admitted == queue.submitted == 0
        return results, compute.batches

    results, batches = run(scenario, most_per_batch=most, delay=delay)
    assert len(results) == len(items)
    for item, result in zip(items, results, strict=True):
        if item < 0:
            assert isinstance(result, ValueError)
            assert str(result) == f"negative: {item}"
        else:
            assert result == 2 * item
    assert all(len(batch) <= most for batch in batches)


def test_what_arrives_during_a_batch_is_the_next_batch():
    async def scenario(queue, compute):
        compute.gate.clear()
        tasks = [asyncio.create_task(double(queue, 1))]
        while not compute.batches:
            await asyncio.sleep(0.001)
        tasks += [asyncio.create_task(double(queue, item)) for item in range(2, 8)]
        await asyncio.sleep(0.01)
        compute.gate.set()
        assert await asyncio.gather(*tasks) == [2, 4, 6, 8, 10, 12, 14]
        return compute.batches

    assert run(scenario) == [[1], [2, 3, 4, 5], [6, 7]]


def test_a_batch_waits_for_items_that_are_admitted_and_for_nothing_else():
    async def scenario(queue, compute):
        async def later(item):
            with queue.admit():
                await asyncio.sleep(0.02)
                return await queue.submit(item)

        loop = asyncio.get_running_loop()
        start = loop.time()
        assert await double(queue, 1) == 2
        assert loop.time() - start < 5  # not the delay of ten seconds
        assert await asyncio.gather(later(2), double(queue, 3)) == [4, 6]
        return compute.batches

    assert run(scenario, delay=10.0) == [[1], [3, 2]]


def test_the_queue_is_bounded_and_has_places_again():
    async def scenario(queue, compute):
        compute.gate.clear()
        tasks = [asyncio.create_task(double(queue, item)) for item in range(3)]
        await asyncio.sleep(0)
        with pytest.raises(QueueFull):
            await double(queue, 3)
        compute.gate.set()
        assert await asyncio.gather(*tasks) == [0, 2, 4]
        assert await double(queue, 5) == 10

    run(scenario, most_admitted=3)


def test_a_cancelled_caller_is_not_computed_and_frees_its_place():
    async def scenario(queue, compute):
        compute.gate.clear()
        first = asyncio.create_task(double(queue, 1))
        while not compute.batches:
            await asyncio.sleep(0.001)
        second, third = asyncio.create_task(double(queue, 2)), asyncio.create_task(double(queue, 3))
        await asyncio.sleep(0.01)
        second.cancel()
        await asyncio.sleep(0)
        assert queue.admitted == 2
        compute.gate.set()
        assert await asyncio.gather(first, third) == [2, 6]
        return compute.batches

    assert run(scenario) == [[1], [3]]


def test_a_closed_queue_answers_what_it_admitted():
    async def scenario(queue, compute):
        compute.gate.clear()
        tasks = [asyncio.create_task(double(queue, item)) for item in range(6)]
        await asyncio.sleep(0.01)
        queue.close()
        with pytest.raises(QueueClosed):
            await double(queue, 9)
        assert not await queue.drain(0.01)
        compute.gate.set()
        assert await queue.drain(10)
        assert [task.result() for task in tasks] == [0, 2, 4, 6, 8, 10]
        assert await queue.drain(0)

    run(scenario)
