"""Choice of bucket lengths with minimal padding."""

import itertools

import hypothesis
import hypothesis.strategies as st
import numpy as np

from emojax.data.plan import STEP, BatchPlan, choose_buckets


def padding(lengths, buckets):
    places = np.searchsorted(buckets, lengths)
    return int((np.asarray(buckets)[places] - lengths).sum())


@hypothesis.settings(deadline=None, max_examples=30)
@hypothesis.given(lengths=st.lists(st.integers(1, 9 * STEP), min_size=1, max_size=30), count=st.integers(1, 3))
def test_choose_buckets_minimises_padding(lengths, count):
    lengths = np.array(lengths)
    found = choose_buckets(lengths, count, longest=9 * STEP)
    assert 1 <= len(found) <= count
    assert list(found) == sorted(set(found))
    assert all(bucket % STEP == 0 for bucket in found)
    last = -(-int(lengths.max()) // STEP)
    assert found[-1] == last * STEP
    others = itertools.combinations(range(1, last), min(count, last) - 1)
    best = min(padding(lengths, [STEP * step for step in (*other, last)]) for other in others)
    assert padding(lengths, found) == best


def test_choose_buckets_ignores_lengths_beyond_the_longest():
    lengths = np.array([8 * STEP] * 5 + [400 * STEP])
    assert choose_buckets(lengths, 2, longest=10 * STEP) == (8 * STEP, 10 * STEP)


def test_plan_computes_the_share_of_padding():
    lengths = np.array([100, 50, 200, 150, 60])
    plan = BatchPlan(lengths, (100, 200), 2, seed=0, shuffle=False)
    # 100 + 50 and 60 left over to the longer bucket with 200, 150: rows 2 x 100, 4 x 200 of which one is only filler
    assert plan.padding() == 1 - 560 / (2 * 100 + 4 * 200)


def test_cropped_utterances_have_no_padding():
    assert BatchPlan(np.array([500, 500]), (100,), 2, seed=0, shuffle=True).padding() == 0
