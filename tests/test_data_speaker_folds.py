"""Folds of speakers: a partition of the utterances, no speaker on both sides, shares close to equal."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from emojax.data.speaker_folds import label_strata, speaker_folds
from emojax.errors import ConfigError


@given(st.data())
def test_every_utterance_is_in_one_test_fold_and_no_speaker_on_both_sides(data):
    speakers = data.draw(st.lists(st.sampled_from(["", *"abcdefghij"]), min_size=2, max_size=60))
    strata = np.array(data.draw(st.lists(st.integers(0, 3), min_size=len(speakers), max_size=len(speakers))))
    names = sorted(set(speakers))
    if len(names) < 2:
        return
    num_folds = data.draw(st.integers(2, len(names)))
    folds = speaker_folds(speakers, strata, num_folds)
    assert len(folds) == num_folds
    assert all(folds)
    assert sorted(name for fold in folds for name in fold) == names
    tested = np.array([[speaker in fold for speaker in speakers] for fold in folds])
    assert (tested.sum(axis=0) == 1).all()
    for test in tested:
        assert not set(np.array(speakers)[test]) & set(np.array(speakers)[~test])
    assert speaker_folds(speakers, strata, num_folds) == folds


def test_folds_have_equal_shares_of_utterances_and_categories():
    speakers = np.repeat([f"s{number:02d}" for number in range(12)], 20)
    strata = np.repeat(np.arange(12) % 2, 20)  # half of the speakers have one category alone
    folds = speaker_folds(speakers, strata, 3)
    for fold in folds:
        chosen = np.isin(speakers, fold)
        assert chosen.sum() == 80
        assert np.bincount(strata[chosen]).tolist() == [40, 40]


def test_one_fold_per_speaker_is_in_the_order_of_their_names():
    assert speaker_folds(["b", "a", "c", "a"], np.zeros(4, int), 3) == [("a",), ("b",), ("c",)]


def test_more_folds_than_speakers_are_refused():
    with pytest.raises(ConfigError, match="must be >= 2 and <= 2, the number of speakers, got 3"):
        speaker_folds(["a", "b", "b"], np.zeros(3, int), 3)


def test_strata_are_categories_or_thirds_of_the_ratings():
    unrated = np.full((4, 3), np.nan)
    assert label_strata(unrated, np.array([2, -1, 0, 2])).tolist() == [3, 0, 1, 3]
    rated = np.array([[1.0] * 3, [np.nan] * 3, [2.0] * 3, [3.0, np.nan, 3.0]])
    assert label_strata(rated, np.full(4, -1)).tolist() == [1, 0, 2, 3]
