"""Splits by speakers, and feature stores of sums of splits."""

import numpy as np
import pytest

from emojax.data import all_splits, open_corpus, open_split, read_index, with_speaker_splits
from emojax.data.corpus import read_utterances
from emojax.errors import ConfigError


@pytest.fixture
def corpus(mini_data_dir):
    return open_corpus("mini_corpus", mini_data_dir)


def test_the_two_splits_divide_the_corpus_by_speaker(corpus):
    chosen = with_speaker_splits(corpus, ("train-1", "dev-0"))
    own, others, whole = (read_index(chosen, split) for split in ("speakers", "other_speakers", all_splits(corpus)))
    assert set(own.speakers) == {"train-1", "dev-0"}
    assert not set(others.speakers) & set(own.speakers)
    assert sorted([*own.ids, *others.ids]) == sorted(whole.ids)
    assert own.content == whole.content


def test_utterances_are_those_of_the_index(corpus):
    chosen = with_speaker_splits(corpus, ("train-1", "dev-0"))
    index, source = read_index(chosen, "speakers"), open_split(chosen, "speakers")
    assert len(source) == len(index)
    positions = [len(index) - 1, 0, 3]
    read = read_utterances(source, positions, "")
    assert [utterance["id"] for utterance in read] == index.ids[positions].tolist()
    np.testing.assert_array_equal([utterance["num_samples"] for utterance in read], index.num_samples[positions])


def test_speakers_must_exist_and_leave_others(corpus):
    with pytest.raises(ConfigError, match=r"must be speakers of .*, got 'nobody'"):
        with_speaker_splits(corpus, ("nobody",))
    everybody = tuple(set(read_index(corpus, all_splits(corpus)).speakers))
    with pytest.raises(ConfigError, match="must not be all speakers"):
        with_speaker_splits(corpus, everybody)
    assert with_speaker_splits(corpus, ()) is corpus
