"""What a spreadsheet would run as a formula: neutral in every CSV file, and the original text when read again."""

import csv
import dataclasses
import io

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from emojax.__main__ import main
from emojax.evaluation import Predictions
from emojax.evaluation.predictions import read_cell, write_cell
from emojax.reporting import write_evaluation
from tests.evaluation_examples import corpus, predictions, write_workdir

FORMULAS = ("=1+1", "+1", "-cmd|' /C calc'!A0", "@SUM(1)", "\t=1", " =1", "＝1")


@pytest.mark.parametrize("text", FORMULAS)
def test_a_formula_gets_an_apostrophe(text):
    assert write_cell(text) == f"'{text}"


@pytest.mark.parametrize("text", ["", "anger", "'quoted'", "s-1", "1-2", "ärger", "a=b"])
def test_other_text_stays_as_it_is(text):
    assert write_cell(text) == read_cell(text) == text


@given(text=st.text(st.sampled_from("'=+-@\t a1＝"), max_size=6) | st.text(max_size=5))
def test_reading_gives_back_the_text_and_no_cell_begins_a_formula(text):
    cell = write_cell(text)
    assert read_cell(cell) == text
    assert cell.strip()[:1] not in set("=+-@＝＋－＠")


def test_predictions_are_neutral_and_numbers_stay_numbers(tmp_path):
    info = corpus(categories=("=anger", "-neutral", "sadness"))
    ids = [f"{text}{number}" for number in range(10) for text in (*FORMULAS[:5], "clip")]
    given = dataclasses.replace(
        predictions(info=info),
        ids=ids,
        speakers=[f"-{row % 6}" for row in range(60)],
        attributes=np.full((60, 3), -2.5),
    )
    path = tmp_path / "test.csv"
    given.write_csv(path)
    with path.open(newline="") as file:
        rows = list(csv.DictReader(file))
    for row in rows:
        numbers = [value for name, value in row.items() if name.startswith(("probability_", "label_a", "predicted_a"))]
        assert all(np.isfinite(float(value)) for value in numbers if value)
        assert row["predicted_activation"] == "-2.5"
        texts = [row[name] for name in ("id", "speaker", "label_emotion", "predicted_emotion")]
        assert all(text.strip()[:1] not in tuple("=+-@") for text in texts if text)
    read = Predictions.read_csv(path, info, "test")
    assert (read.ids, read.speakers) == (given.ids, given.speakers)
    np.testing.assert_array_equal(read.emotion_labels, given.emotion_labels)


def test_a_submission_is_neutral(tmp_path):
    made = predictions(info=corpus("msp_podcast/x/1.0.0"), emotions=False, split="test3")
    made = dataclasses.replace(made, ids=["=x", *made.ids[1:]], attribute_labels=np.full((60, 3), np.nan))
    write_evaluation(tmp_path, made, None, 10)
    first = (tmp_path / "test3_submission.csv").read_text().splitlines()[1]
    assert first.startswith("'=x.wav,")


def test_report_rows_are_neutral(tmp_path, capsys):
    assert main(["report", str(write_workdir(tmp_path / "=run")), "--csv"]) == 0
    row = next(csv.DictReader(io.StringIO(capsys.readouterr().out)))
    assert row["system"] == "'=run"
    assert float(row["ccc_dominance_low"]) < 0  # still a number
