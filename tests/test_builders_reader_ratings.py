"""Histograms of EmoBank's readers: those that fit mean, deviation and number of readers, and no other."""

import itertools

import numpy as np
import pytest

from emojax.data.ratings import read_rating_table
from emojax.errors import CorpusError
from tfds_builders.emobank_spoken.reader_ratings import fitting_histograms, write_table
from tfds_builders.emobank_spoken.sentences import read_reader_ratings


@pytest.mark.parametrize("readers", [1, 2, 3, 5])
def test_every_multiset_of_ratings_is_among_those_that_fit_its_moments(readers):
    """NumPy's mean and standard deviation of all multisets of ratings, rounded as in the file."""
    for ratings in itertools.combinations_with_replacement(range(1, 6), readers):
        mean, std = round(float(np.mean(ratings)), 2), round(float(np.std(ratings)), 2)
        fitting = fitting_histograms(mean, std, readers)
        assert tuple(np.bincount(ratings, minlength=6)[1:].tolist()) in fitting
        for counts in fitting:
            values = np.repeat(np.arange(1, 6), counts)
            assert abs(values.mean() - mean) <= 0.005 + 1e-9
            assert abs(values.std() - std) <= 0.005 + 1e-9


def test_impossible_moments_fit_nothing_and_too_many_readers_are_an_error():
    assert fitting_histograms(3.3, 0.0, 5) == []
    with pytest.raises(CorpusError, match="must be 1 to 20, got 0"):
        fitting_histograms(3.0, 0.0, 0)


def test_the_table_has_exact_moments_and_is_read_back(tmp_path):
    known, total = write_table(tmp_path / "readers.csv")
    assert (known, total) == (28_784, 30_975)
    table = read_rating_table(tmp_path / "readers.csv", (1.0, 5.0))
    values = np.arange(1, 6)
    for id, readers, means, stds in itertools.islice(read_reader_ratings(), 0, None, 20):
        counts = table[id]
        np.testing.assert_array_equal(counts, table[f"{id}_other"])
        for histogram, mean, std in zip(counts, means, stds, strict=True):
            if histogram.any():
                assert histogram.sum() == readers
                found = (histogram * values).sum() / readers
                assert found == pytest.approx(mean, abs=0.0051)
                assert np.sqrt((histogram * (values - found) ** 2).sum() / readers) == pytest.approx(std, abs=0.0051)
