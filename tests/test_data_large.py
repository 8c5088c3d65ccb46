"""Tables that are memory-mapped, and files that are closed: what keeps memory independent of the size of a corpus."""

import pickle

import numpy as np
import pytest

from emojax.data import index, open_split, read_index
from emojax.data.columns import Column, ColumnsWriter, Texts, open_columns
from emojax.data.plan import BatchPlan
from emojax.data.readers import RecordFiles
from tests import built_corpus


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    return built_corpus.build(tmp_path_factory.mktemp("built"))


def written(path, pieces):
    with ColumnsWriter(path.parent) as writer:
        for piece in pieces:
            for name, values in piece.items():
                writer.append(name, values)
        writer.write(path, {"key": "value"})
    return open_columns(path)


def test_columns_are_those_that_were_appended(tmp_path):
    random = np.random.default_rng(0)
    pieces = [
        {
            "bytes": random.integers(0, 256, 7 * size, np.uint8),
            "lengths": random.integers(0, 2**40, size),
            "labels": random.normal(size=(size, 3)).astype(np.float32),
            "numbers": random.integers(0, 9, size, np.int32),
        }
        for size in (5, 0, 3)
    ]
    columns, metadata = written(tmp_path / "table", pieces)
    assert metadata == {"key": "value"}
    for name, column in columns.items():
        assert isinstance(column, Column)
        np.testing.assert_array_equal(column, np.concatenate([piece[name] for piece in pieces]))


def test_columns_are_pickled_as_a_position_in_their_file(tmp_path):
    columns, _ = written(tmp_path / "table", [{"other": np.arange(999), "lengths": np.arange(100_000) + 7}])
    for column in (columns["lengths"], columns["lengths"][300:90_000]):
        content = pickle.dumps(column)
        assert len(content) < 1000
        np.testing.assert_array_equal(pickle.loads(content), column)
    np.testing.assert_array_equal(pickle.loads(pickle.dumps(columns["lengths"][::7])), columns["lengths"][::7])
    plan = BatchPlan(columns["lengths"], (50_000,), 8, 0, True, block_utterances=1000)
    content = pickle.dumps(plan)
    assert len(content) < 8000
    np.testing.assert_array_equal(pickle.loads(content).batch(5000).indices, plan.batch(5000).indices)


def test_texts_are_indexed_as_an_array_of_them_is():
    words = ["", "ä", "three", "x"]
    ends = np.cumsum([len(word.encode()) for word in words])
    characters = np.frombuffer("".join(words).encode(), np.uint8)
    for rows in (range(4), np.array([3, 1, 1, 0, 2], np.int32)):
        texts, expected = Texts(characters, ends, rows), np.array(words)[np.asarray(rows)]
        for key in (slice(1, 3), slice(None, None, 2), [2, 0, -1], np.arange(len(rows)) > 1, []):
            np.testing.assert_array_equal(np.asarray(texts[key]), expected[key])
        np.testing.assert_array_equal(np.asarray(texts[1:][1:]), expected[2:])
        np.testing.assert_array_equal(texts[1:][np.array([1, 0])], expected[1:][[1, 0]])
        assert texts[2] == expected[2]
        assert texts.tolist() == list(texts) == expected.tolist()
        assert "ä" in texts
        assert "y" not in texts
        np.testing.assert_array_equal(np.isin(texts, ["ä"]), expected == "ä")
        for wrong in (2, [0, 2], [-3], [True, False, True]):  # of a part that has two rows
            with pytest.raises(IndexError):
                texts[1:3][wrong]
    with pytest.raises(IndexError):
        Texts(characters, ends, np.array([4]))[0]


def test_index_of_a_large_split_is_mapped_and_equal(built, monkeypatch):
    small = read_index(built, "train")
    monkeypatch.setattr(index, "COMPARED_UTTERANCES", 4)
    monkeypatch.setattr(index, "SAMPLED_UTTERANCES", 5)
    for large in (read_index(built, "train"), read_index(built, "train[25%:75%]")):
        assert isinstance(large.num_samples, Column)
        rows = np.isin(small.ids, large.ids)
        for column in ("ids", "speakers", "genders", "num_samples", "attributes", "emotion"):
            np.testing.assert_array_equal(getattr(large, column), np.asarray(getattr(small, column))[rows])
        assert large.content == small.content
        attributes, emotion = large.sampled_labels()
        assert len(attributes) == len(emotion) <= 5


def test_labels_that_are_all_missing_are_one_row(tmp_path):
    row = {"speaker": "", "gender": "", "num_samples": 5, "attributes": [np.nan] * 3, "emotion": -1}
    rows = [row | {"id": str(number)} for number in range(6)]
    rows[5] = rows[5] | {"attributes": [1.0, 2.0, 3.0]}
    for last in (5, 6):
        with index.IndexWriter(tmp_path) as writer:
            for start in range(0, last, 2):
                writer.add(rows[start : min(start + 2, last)])
            writer.finish()
            writer.write(tmp_path / "table", {})
        stored, _ = open_columns(tmp_path / "table")
        assert len(stored["emotion"]) == 1
        assert len(stored["attributes"]) == (1 if last == 5 else 6)
        columns = index._table(stored, last)
        np.testing.assert_array_equal(columns["attributes"], [each["attributes"] for each in rows[:last]])
        np.testing.assert_array_equal(columns["emotion"], [-1] * last)


def test_files_are_closed_and_opened_again(built):
    split = "train[25%:75%]+dev+test"
    whole = open_split(built, split)
    few = RecordFiles(whole.dataset_info.splits[split].file_instructions, max_open=1)
    assert len(few) == len(whole) == 15
    for positions in ([14, 0, 7, 1], list(range(15)), []):
        expected = [bytes(whole[position]["id"]) for position in positions]
        for files in (few, pickle.loads(pickle.dumps(few))):
            found = files.__getitems__(positions)
            assert [id in record for id, record in zip(expected, found, strict=True)] == [True] * len(positions)
            assert len(files._open) <= 1
    with pytest.raises(IndexError, match=r"positions must be >= 0 and < 15, got -1 to 0"):
        few.__getitems__([0, -1])
