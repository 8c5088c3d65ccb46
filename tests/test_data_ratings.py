"""Histograms of ratings: stored by builders, read from a table, in batches; older corpora are read as before."""

import csv
import dataclasses

import numpy as np
import pytest

from emojax.content import FEATURES, OPTIONAL_FEATURES
from emojax.data import (
    BatchInputs,
    BatchStream,
    DataConfig,
    has_rating_counts,
    has_rating_std,
    open_corpus,
    read_index,
    with_rating_table,
)
from emojax.data.loading import concatenate_batches, mask_labels
from emojax.data.ratings import std_of_counts, table_columns
from emojax.errors import ConfigError, CorpusError
from emojax.parallel import MeshConfig, make_mesh
from tests import built_corpus
from tests.rated_corpus import BINS, ratings_of
from tfds_builders.utterance import count_ratings

RATINGS = BatchInputs(audio=False, ratings=True)


def batches(corpus, split, one_device, inputs=RATINGS):
    config = DataConfig(batch_size=4, bucket_seconds=(2.5,))
    mesh = make_mesh(MeshConfig(data=1, fsdp=1))
    index = read_index(corpus, split)
    return index, list(BatchStream(corpus, split, index, config, mesh, training=False, inputs=inputs))


def test_batches_have_the_counts_and_deviations_of_the_raters(rated_data_dir, one_device):
    corpus = open_corpus("rated_corpus", rated_data_dir)
    assert corpus.rating_bins == BINS
    assert set(corpus.content["train"]) == {*FEATURES, *OPTIONAL_FEATURES}
    assert has_rating_counts(corpus, "train")
    assert has_rating_std(corpus, "train")
    index, found = batches(corpus, "train", one_device)
    seen = 0
    for batch in found:
        for row, position in enumerate(np.asarray(batch.index)):
            if position < 0:
                assert not batch.rating_counts[row].any()
                assert np.isnan(batch.attributes_std[row]).all()
                continue
            ratings = ratings_of("train", int(index.ids[position].rpartition("_")[2]))
            wanted = [np.bincount(column.astype(int), minlength=BINS + 1)[1:] for column in ratings.T]
            np.testing.assert_array_equal(batch.rating_counts[row], wanted)
            if len(ratings):
                np.testing.assert_allclose(batch.attributes_std[row], ratings.std(axis=0, ddof=1) / 6, rtol=1e-5)
            else:
                assert np.isnan(batch.attributes_std[row]).all()
            seen += 1
    assert seen == 24


def test_batches_without_ratings_asked_for_have_none(rated_data_dir, one_device):
    _, found = batches(open_corpus("rated_corpus", rated_data_dir), "dev", one_device, BatchInputs(audio=False))
    assert found[0].rating_counts is None
    assert found[0].attributes_std is None


def test_a_corpus_without_histograms_is_read_as_before(tmp_path, one_device):
    corpus = built_corpus.build(tmp_path)
    assert corpus.rating_bins == 0
    assert set(corpus.content["train"]) == set(FEATURES)
    assert not has_rating_counts(corpus, "train")
    assert not has_rating_std(corpus, "train")
    _, found = batches(corpus, "dev", one_device)
    assert found[0].rating_counts.shape == (4, 3, 0)
    assert np.isnan(found[0].attributes_std).all()


def write_table(path, rows, scale=(1.0, 7.0)):
    columns = table_columns(scale)
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["id", *columns])
        writer.writerows(rows)
    return str(path)


def test_a_table_replaces_the_histograms_of_a_corpus(tmp_path, one_device):
    corpus = built_corpus.build(tmp_path)
    counts = [0, 1, 2, 0, 0, 0, 0] + [""] * 7 + [0, 0, 0, 0, 0, 0, 4]
    corpus = with_rating_table(corpus, write_table(tmp_path / "table.csv", [["dev_001", *counts]]))
    assert has_rating_counts(corpus, "dev")
    assert not has_rating_counts(corpus, "test")
    index, found = batches(corpus, "dev", one_device)
    rows = np.concatenate([batch.rating_counts[np.asarray(batch.index) >= 0] for batch in found])
    stds = np.concatenate([batch.attributes_std[np.asarray(batch.index) >= 0] for batch in found])
    named = index.ids.tolist().index("dev_001")
    np.testing.assert_array_equal(rows[named, 0], [0, 1, 2, 0, 0, 0, 0])
    assert not np.delete(rows, named, axis=0).any()
    np.testing.assert_allclose(stds[named], [np.std([2, 3, 3]) / 6, np.nan, 0.0], rtol=1e-6)


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([["a", *[1] * 21], ["a", *[1] * 21]], "id 'a' occurs twice"),
        ([["a", *[1] * 20, "-1"]], "column dominance_7: must be a whole number from 0 to 10000, got '-1'"),
        ([["a", *[1] * 20, "1.5"]], "got '1.5'"),
        ([["a", *[1] * 20, "99999999"]], "got '99999999'"),
    ],
)
def test_a_damaged_table_is_an_error_that_names_the_place(tmp_path, rows, message):
    corpus = built_corpus.build(tmp_path)
    with pytest.raises(CorpusError, match=message):
        with_rating_table(corpus, write_table(tmp_path / "table.csv", rows))


def test_a_table_of_another_scale_or_for_a_scale_without_whole_numbers_is_an_error(tmp_path):
    corpus = built_corpus.build(tmp_path)
    path = write_table(tmp_path / "table.csv", [["a", *[1] * 15]], (1.0, 5.0))
    with pytest.raises(CorpusError, match="must have a column 'activation_6'"):
        with_rating_table(corpus, path)
    with pytest.raises(CorpusError, match=r"absent\.csv: cannot be read"):
        with_rating_table(corpus, str(tmp_path / "absent.csv"))
    fine = dataclasses.replace(corpus, info=dataclasses.replace(corpus.info, scale=(0.0, 0.5)))
    with pytest.raises(ConfigError, match=r"config.corpus.ratings must be '' for built_corpus"):
        with_rating_table(fine, path)


def test_unlabelled_rows_have_no_ratings(rated_data_dir, one_device):
    _, found = batches(open_corpus("rated_corpus", rated_data_dir), "dev", one_device)
    first = found[0].replace(
        **{name: np.asarray(getattr(found[0], name)) for name in ("rating_counts", "attributes_std")}
    )
    masked = mask_labels(first)
    assert not masked.rating_counts.any()
    assert np.isnan(masked.attributes_std).all()
    both = concatenate_batches(first, masked.replace(rating_counts=np.zeros((4, 3, 5), np.float32)))
    assert both.rating_counts.shape == (8, 3, BINS)
    np.testing.assert_array_equal(both.rating_counts[:4], first.rating_counts)
    assert not both.rating_counts[4:].any()
    assert np.isnan(both.attributes_std[4:]).all()


def test_ratings_between_the_values_of_the_scale_give_no_histogram():
    ratings = np.array([[1.0, 2.0, np.nan], [3.0, 2.5, 7.0]])
    counts = count_ratings(ratings, (1, 7))
    np.testing.assert_array_equal(counts.sum(axis=1), [2, 0, 1])


def test_the_deviation_of_counts_is_that_of_the_ratings():
    counts = np.array([[[1, 0, 3, 1, 0], [0, 0, 0, 0, 1], [0, 0, 0, 0, 0]]], np.float32)
    expected = [np.std([0, 0.5, 0.5, 0.5, 0.75]), np.nan, np.nan]
    np.testing.assert_allclose(std_of_counts(counts)[0], expected, rtol=1e-6)
