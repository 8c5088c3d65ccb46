"""Batch plan: every utterance once per epoch, in an order that depends on seed and batch number only."""

import itertools
import pickle

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from emojax.data.plan import FILLER, BatchPlan, ShardedPlan, extended_buckets

LENGTHS = st.lists(st.integers(1, 200_000), min_size=1, max_size=150).map(np.array)
BUCKETS = st.sets(st.integers(1, 160_000), min_size=1, max_size=5).map(lambda sizes: tuple(sorted(sizes)))


def epoch_of(plan: BatchPlan, epoch: int):
    first = epoch * plan.batches_per_epoch
    return [plan.batch(number) for number in range(first, first + plan.batches_per_epoch)]


@settings(deadline=None, max_examples=60)
@given(lengths=LENGTHS, buckets=BUCKETS, batch_size=st.integers(1, 40), seed=st.integers(0, 5), shuffle=st.booleans())
def test_plan_contains_every_utterance_once_per_epoch(lengths, buckets, batch_size, seed, shuffle):
    plan = BatchPlan(lengths, buckets, batch_size, seed, shuffle)
    for epoch in range(2):
        indices = np.concatenate([batch.indices for batch in epoch_of(plan, epoch)])
        np.testing.assert_array_equal(np.sort(indices[indices != FILLER]), np.arange(len(lengths)))


@settings(deadline=None, max_examples=60)
@given(lengths=LENGTHS, buckets=BUCKETS, batch_size=st.integers(1, 40), share=st.floats(0, 1), shuffle=st.booleans())
def test_plan_skips_short_utterances_and_keeps_the_order_of_others(lengths, buckets, batch_size, share, shuffle):
    least = int(share * lengths.max())
    plan = BatchPlan(lengths, buckets, batch_size, 0, shuffle, min_samples=least)
    indices = np.concatenate([batch.indices for batch in epoch_of(plan, 0)])
    np.testing.assert_array_equal(np.sort(indices[indices != FILLER]), np.flatnonzero(lengths >= least))
    assert plan.num_skipped == (lengths < least).sum()
    everything = BatchPlan(lengths, buckets, batch_size, 0, shuffle)
    whole = BatchPlan(lengths, buckets, batch_size, 0, shuffle, min_samples=int(lengths.min()))
    for one, other in zip(epoch_of(everything, 0), epoch_of(whole, 0), strict=True):
        np.testing.assert_array_equal(one.indices, other.indices)


@settings(deadline=None, max_examples=60)
@given(lengths=LENGTHS, buckets=BUCKETS, batch_size=st.integers(1, 40))
def test_plan_has_filler_in_one_batch_only_and_avoids_cropping(lengths, buckets, batch_size):
    batches = epoch_of(BatchPlan(lengths, buckets, batch_size, seed=0, shuffle=True), 0)
    partial = [batch for batch in batches if (batch.indices == FILLER).any()]
    assert len(partial) <= 1
    assert all(batch.num_samples == buckets[-1] for batch in partial)
    for batch in batches:
        rows = lengths[batch.indices[batch.indices != FILLER]]
        assert batch.num_samples == buckets[-1] or (rows <= batch.num_samples).all()


def test_plan_order_depends_on_seed_and_epoch():
    lengths = np.random.default_rng(0).integers(1, 100, 300)

    def order(seed, epoch):
        plan = BatchPlan(lengths, (50, 100), 8, seed, shuffle=True)
        return np.concatenate([batch.indices for batch in epoch_of(plan, epoch)])

    np.testing.assert_array_equal(order(3, 1), order(3, 1))
    assert (order(3, 1) != order(3, 0)).any()
    assert (order(3, 1) != order(4, 1)).any()


def test_plan_gives_any_batch_directly():
    lengths = np.random.default_rng(0).integers(1, 100, 77)
    in_order = BatchPlan(lengths, (50, 100), 8, 0, shuffle=True)
    expected = [in_order.batch(number).indices for number in range(25)]
    for number in (24, 0, 11):
        np.testing.assert_array_equal(BatchPlan(lengths, (50, 100), 8, 0, True).batch(number).indices, expected[number])


def test_order_of_one_block_is_that_of_earlier_versions():
    plan = BatchPlan(np.random.default_rng(0).integers(1, 100, 20), (50, 100), 6, 3, shuffle=True)
    expected = [[8, 17, 16, 2, 13, 9], [0, 11, 1, 10, 14, 15], [18, 19, -1, -1, -1, -1], [7, 6, 4, 3, 12, 5]]
    assert [batch.indices.tolist() for batch in epoch_of(plan, 1)] == expected


@settings(deadline=None, max_examples=60)
@given(
    lengths=LENGTHS,
    batch_size=st.integers(1, 20),
    block=st.integers(1, 70),
    share=st.floats(0, 1),
    epoch=st.integers(0, 3),
)
def test_blocks_contain_every_utterance_once_and_need_the_lengths_of_one_block(
    lengths, batch_size, block, share, epoch
):
    least = int(share * lengths.max())
    plan = BatchPlan(lengths, (40_000, 90_000), batch_size, 1, True, least, block)
    batches = epoch_of(plan, epoch)
    indices = np.concatenate([batch.indices for batch in batches])
    np.testing.assert_array_equal(np.sort(indices[indices != FILLER]), np.flatnonzero(lengths >= least))
    size = -(-len(lengths) // -(-len(lengths) // block))
    for batch in batches:
        rows = batch.indices[batch.indices != FILLER]
        assert np.ptp(rows) < size
    last = batches[-1]
    again = BatchPlan(lengths, (40_000, 90_000), batch_size, 1, True, least, block).batch(last.number)
    np.testing.assert_array_equal(again.indices, last.indices)
    pickled = pickle.loads(pickle.dumps(plan)).batch(last.number)
    np.testing.assert_array_equal(pickled.indices, last.indices)


def test_blocks_are_visited_in_another_order_in_another_epoch():
    plan = BatchPlan(np.full(4000, 7), (10,), 10, 0, True, 0, block_utterances=100)
    orders = [[int(batch.indices[0]) // 100 for batch in epoch_of(plan, epoch)[::10]] for epoch in (0, 1)]
    assert sorted(orders[0]) == sorted(orders[1]) == list(range(40))
    assert orders[0] != orders[1]


@pytest.mark.parametrize(
    ("longest", "expected"), [(10, (20, 50)), (50, (20, 50)), (51, (20, 50, 100)), (399, (20, 50, 100, 200, 400))]
)
def test_extended_buckets_fit_the_longest_utterance(longest, expected):
    assert extended_buckets((20, 50), longest) == expected


@settings(deadline=None, max_examples=60)
@given(lengths=LENGTHS, batch_size=st.integers(1, 40), shard=st.integers(1, 60), share=st.floats(0, 1))
def test_batches_of_a_shard_hold_its_utterances_uncropped_and_no_others(lengths, batch_size, shard, share):
    least = int(share * lengths.max())
    bounds = (*range(0, len(lengths), shard), len(lengths))
    plan = ShardedPlan(lengths, extended_buckets((40_000, 90_000), lengths.max()), batch_size, bounds, least)
    for number, (first, end) in enumerate(itertools.pairwise(bounds)):
        batches = [plan.batch(each) for each in plan.batches_of(number)]
        indices = np.concatenate([batch.indices for batch in batches] or [np.zeros(0, int)])
        expected = first + np.flatnonzero(lengths[first:end] >= least)
        np.testing.assert_array_equal(np.sort(indices[indices != FILLER]), expected)
        for batch in batches:
            assert batch.indices.shape == (batch_size,)
            assert (lengths[batch.indices[batch.indices != FILLER]] <= batch.num_samples).all()
