"""CSV files of predictions: exact, named, whole."""

import csv
import resource

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from emojax.errors import EmojaxError
from emojax.evaluation import Predictions
from tests.evaluation_examples import corpus, predictions

TEXT = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\n\r\0"), max_size=8)


@settings(deadline=None, max_examples=20)
@given(data=st.data())
def test_a_csv_file_gives_back_exactly_what_was_written(data, tmp_path_factory):
    n, num_categories = data.draw(st.integers(1, 5)), data.draw(st.sampled_from([0, 3]))
    number = st.floats(allow_infinity=False, allow_nan=False)
    label = st.floats(allow_infinity=False)
    info = corpus()
    attributes = np.array(data.draw(st.lists(st.tuples(number, number, number), min_size=n, max_size=n)))
    attributes[:, 1] = np.nan
    written = Predictions(
        corpus=info,
        split="test",
        ids=data.draw(st.lists(TEXT, min_size=n, max_size=n, unique=True)),
        speakers=data.draw(st.lists(TEXT, min_size=n, max_size=n)),
        attributes=attributes,
        attribute_labels=data.draw(st.lists(st.tuples(label, label, label), min_size=n, max_size=n)),
        emotion_probabilities=np.array(
            data.draw(
                st.lists(st.lists(number, min_size=num_categories, max_size=num_categories), min_size=n, max_size=n)
            )
        ),
        emotion_labels=data.draw(st.lists(st.integers(-1, 2), min_size=n, max_size=n)),
    )
    path = tmp_path_factory.mktemp("csv") / "test.csv"
    written.write_csv(path)
    read = Predictions.read_csv(path, info, "test")
    assert (read.ids, read.speakers) == (written.ids, written.speakers)
    for name in ("attributes", "attribute_labels", "emotion_probabilities", "emotion_labels"):
        np.testing.assert_array_equal(getattr(read, name), getattr(written, name))


def test_columns_are_named_and_found_by_name(tmp_path):
    path = tmp_path / "test.csv"
    written = predictions()
    written.write_csv(path)
    with path.open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert list(rows[0]) == [
        *("id", "speaker"),
        *("label_activation", "predicted_activation", "label_valence", "predicted_valence"),
        *("label_dominance", "predicted_dominance", "label_emotion", "predicted_emotion"),
        *("probability_anger", "probability_neutral", "probability_sadness"),
    ]
    assert rows[0]["label_emotion"] == ""
    assert rows[1]["label_valence"] == ""
    assert float(rows[2]["predicted_dominance"]) == written.attributes[2, 2]
    assert rows[3]["predicted_emotion"] == written.corpus.categories[written.emotion_probabilities[3].argmax()]
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, list(reversed(rows[0])))
        writer.writeheader()
        writer.writerows(rows)
    np.testing.assert_array_equal(Predictions.read_csv(path, corpus(), "test").attributes, written.attributes)


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("label_valence", "label_valenz", "label_valen"),
        ("clip2,s2,", "clip2,s2,abc", "row 3, column label_activation: 'abc"),
        (",anger,", ",angst,", "must be one of anger, neutral, sadness, got 'angst'"),
    ],
)
def test_a_damaged_csv_file_is_refused_naming_the_place(tmp_path, old, new, message):
    path = tmp_path / "test.csv"
    predictions().write_csv(path)
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new))
    with pytest.raises(EmojaxError, match=r"test\.csv") as error:
        Predictions.read_csv(path, corpus(), "test")
    assert message in str(error.value)


def test_a_full_disk_leaves_the_old_file_whole_and_names_it(tmp_path):
    path = tmp_path / "test.csv"
    predictions(n=2).write_csv(path)
    before = path.read_bytes()
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (2000, hard))
    try:
        with pytest.raises(EmojaxError, match=r"test\.csv: cannot be written"):
            predictions(n=500).write_csv(path)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize(
    ("field", "row", "value", "message"),
    [
        ("attributes", 2, np.nan, "prediction of an attribute of 'clip2' is not finite"),
        ("emotion_probabilities", 3, np.inf, "probability of a category of 'clip3' is not finite"),
        ("emotion_labels", 4, 3, "emotion label of 'clip4' must be -1 to 2, got 3"),
        ("ids", 5, "clip1", "ids must be unique, got 'clip1' twice"),
        ("speakers", 6, "a\rb", r"must have no line break, got 'a\\rb'"),
    ],
)
def test_values_that_would_spoil_scores_are_refused(field, row, value, message):
    fields = dict(vars(predictions()))
    fields[field] = fields[field].copy()
    fields[field][row] = value
    with pytest.raises(EmojaxError, match=message):
        Predictions(**fields)


def test_whoever_reads_while_it_is_rewritten_reads_the_old_file_to_its_end(tmp_path):
    path = tmp_path / "test.csv"
    predictions(n=500).write_csv(path)
    before = path.read_text()
    with path.open() as reader:
        start = reader.read(10)
        predictions(n=2).write_csv(path)
        assert start + reader.read() == before
