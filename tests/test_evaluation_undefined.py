"""Scores that are undefined: null with the reason in files, a dash in tables, never a number; plots and gain cope."""

import dataclasses
import json
import sys

import numpy as np
import pytest

from emojax.__main__ import main
from emojax.errors import TrainingError
from emojax.evaluation import summarise, validation_metrics
from emojax.reporting import write_evaluation
from emojax.reporting.report import write_report
from tests.evaluation_examples import predictions, train_labels, write_workdir


def with_labels(**columns):
    """The usual predictions with one value for all labels of some attributes, or one category."""
    made = predictions()
    labels, emotions = made.attribute_labels.copy(), made.emotion_labels.copy()
    for number, attribute in enumerate(("activation", "valence", "dominance")):
        if attribute in columns:
            labels[:, number] = columns[attribute]
    emotions[:] = columns.get("emotion", emotions)
    return dataclasses.replace(made, attribute_labels=labels, emotion_labels=emotions)


def some(number):
    """A few of the usual utterances."""
    made = predictions()
    fields = {name: getattr(made, name)[-number:] for name in vars(made) if name not in _WHOLE}
    return dataclasses.replace(made, **fields)


_WHOLE = ("corpus", "split", "match", "num_unscored", "ratings", "emotion_votes")


def strict(summary):
    return json.loads(json.dumps(summary, allow_nan=False))


def test_agreement_with_labels_of_one_value_is_null_and_errors_are_not():
    summary = strict(summarise(with_labels(dominance=3.5, emotion=1), train_labels(), 20))
    assert summary["ccc"]["dominance"] == {"value": None, "low": None, "high": None}
    assert summary["pearson"]["dominance"]["value"] is None
    assert summary["rmse"]["dominance"]["value"] > 0
    assert summary["ccc"]["activation"]["value"] > 0.5
    assert summary["uar"]["value"] is summary["macro_f1"]["value"] is None
    assert 0 < summary["accuracy"]["value"] < 1
    assert summary["undefined"] == {
        "ccc.dominance": "every label is 3.5",
        "pearson.dominance": "every label is 3.5",
        "ccc.mean": "not all three are defined",
        "uar": "every label is 'neutral'",
        "macro_f1": "every label is 'neutral'",
    }
    for baseline in summary["baselines"].values():
        assert baseline["ccc"]["dominance"] is baseline["uar"] is None
        assert baseline["rmse"]["dominance"] > 0


def test_one_utterance_has_errors_without_interval(tmp_path):
    summary = strict(write_evaluation(tmp_path, some(1), train_labels(), 20))
    assert summary["ccc"]["valence"]["value"] is None
    assert summary["rmse"]["valence"]["value"] is not None
    assert summary["rmse"]["valence"]["low"] is None
    assert summary["undefined"]["ccc.valence"] == "only one utterance has a label"
    assert summary["undefined"]["rmse.valence.interval"] == "too few speakers or utterances to resample"
    assert (tmp_path / "test.csv").exists()
    assert not (tmp_path / "test_attributes.png").exists()
    assert (tmp_path / "test_confusion.png").exists()


@pytest.mark.parametrize("number", [2, 3])
def test_a_few_utterances_leave_files_that_are_strict_json(tmp_path, number):
    strict(write_evaluation(tmp_path, some(number), train_labels(), 20))


def test_defined_scores_have_no_reasons():
    assert summarise(predictions(), None, 20)["undefined"] == {}
    assert summarise(predictions(emotions=False), None, 20)["undefined"] == {}


def test_the_report_tells_the_reason_in_place_of_a_number(tmp_path, capsys):
    folder = write_workdir(tmp_path / "run", evaluated=False)
    write_evaluation(folder / "evaluation", with_labels(valence=2.0), train_labels(), 20)
    for style in ("table", "csv"):
        write_report([folder], None, False, style, sys.stdout, sys.stderr)
        text = " ".join(capsys.readouterr().out.split())
        assert "CCC valence" in text
        assert "every label is 2" in text
    assert "every label is 2" in (folder / "report.html").read_text()


def test_the_gain_tells_the_reason_in_place_of_a_number(tmp_path, capsys):
    folders = []
    for name in ("one", "other"):
        folders.append(str(write_workdir(tmp_path / name, evaluated=False)))
        write_evaluation(tmp_path / name / "evaluation", with_labels(valence=2.0), None, 20)
    assert main(["gain", folders[0], "--over", folders[1], "--resamples", "20"]) == 0
    text = capsys.readouterr().out
    assert "valence     undefined: every label is 2" in text
    assert " nan" not in text
    assert main(["gain", folders[0], "--over", folders[1], "--resamples", "20", "--json"]) == 0
    found = json.loads(capsys.readouterr().out, parse_constant=pytest.fail)
    assert found["ccc"]["valence"]["before"] is None
    assert found["undefined"] == {"valence": "every label is 2"}


def test_validation_leaves_undefined_scores_out_of_the_mean():
    metrics = validation_metrics(with_labels(valence=2.0), "auto")
    assert "ccc_valence" not in metrics
    assert metrics["score"] == pytest.approx((metrics["ccc_activation"] + metrics["ccc_dominance"]) / 2)
    everything = {"activation": 1.0, "valence": 2.0, "dominance": np.nan}
    assert validation_metrics(with_labels(**everything), "auto")["score"] == pytest.approx(
        validation_metrics(predictions(attributes=False), "uar")["uar"]
    )


@pytest.mark.parametrize("score", ["auto", "ccc", "uar"])
def test_a_validation_without_any_score_is_an_error(score):
    nothing = with_labels(activation=1.0, valence=2.0, dominance=np.nan, emotion=2)
    with pytest.raises(TrainingError, match=r"no score to validate by .*ccc\.valence: every label is 2"):
        validation_metrics(nothing, score)


def test_constant_predictions_have_a_reason_of_their_own():
    made = predictions()
    attributes = made.attributes.copy()
    attributes[:, 1] = 4.0
    summary = strict(summarise(dataclasses.replace(made, attributes=attributes), None, 20))
    assert summary["ccc"]["valence"]["value"] == pytest.approx(0, abs=1e-12)  # worthless, but defined
    assert summary["undefined"] == {"pearson.valence": "every prediction is 4"}
