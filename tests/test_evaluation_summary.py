"""Scores of a split as JSON: right, named, and strict; and the files written with them."""

import csv
import dataclasses
import json

import audmetric
import numpy as np
import pytest
from sklearn.metrics import confusion_matrix, f1_score

from emojax.errors import EmojaxError
from emojax.evaluation import Predictions, TrainLabels, summarise
from emojax.reporting import write_evaluation
from emojax.types import ATTRIBUTES
from emojax.workdir import read_json
from tests.evaluation_examples import CATEGORIES, corpus, predictions, train_labels


def strict_json(summary):
    return json.loads(json.dumps(summary, allow_nan=False))


def read_columns(path):
    with path.open(newline="") as file:
        rows = list(csv.DictReader(file))
    return {name: [row[name] for row in rows] for name in rows[0]}


def named_ccc_of_csv(path):
    columns = read_columns(path)
    named = {}
    for attribute in ATTRIBUTES:
        pairs = zip(columns[f"label_{attribute}"], columns[f"predicted_{attribute}"], strict=True)
        labels, predicted = np.array([(float(a), float(b)) for a, b in pairs if a]).T
        named[attribute] = audmetric.concordance_cc(labels, predicted)
    return named


def test_scores_by_name_equal_those_of_the_named_csv_columns(tmp_path):
    write_evaluation(tmp_path, predictions(), None, num_resamples=20)
    summary = json.loads((tmp_path / "test.json").read_text())
    ccc = {attribute: summary["ccc"][attribute]["value"] for attribute in ATTRIBUTES}
    assert ccc == pytest.approx(named_ccc_of_csv(tmp_path / "test.csv"), abs=1e-9)
    assert ccc["activation"] > ccc["valence"] + 0.1 > ccc["dominance"] + 0.2  # else a mix-up could not show
    assert summary["ccc"]["mean"]["value"] == pytest.approx(np.mean(list(ccc.values())))


def test_swapped_columns_change_the_named_scores(tmp_path):
    right = predictions()
    swapped = dataclasses.replace(right, attributes=right.attributes[:, [1, 0, 2]])
    write_evaluation(tmp_path, swapped, None, num_resamples=20)
    summary = json.loads((tmp_path / "test.json").read_text())
    named = named_ccc_of_csv(tmp_path / "test.csv")
    assert summary["ccc"]["activation"]["value"] == pytest.approx(named["activation"])
    assert named["activation"] < 0.3


def test_category_scores_equal_those_of_scikit_learn():
    given = predictions()
    summary = summarise(given, None, num_resamples=20)
    labelled = given.emotion_labels >= 0
    labels, predicted = given.emotion_labels[labelled], given.emotion_probabilities.argmax(axis=1)[labelled]
    assert summary["confusion"] == confusion_matrix(labels, predicted).tolist()
    assert summary["macro_f1"]["value"] == pytest.approx(f1_score(labels, predicted, average="macro"))
    assert summary["uar"]["value"] == pytest.approx(audmetric.unweighted_average_recall(labels, predicted))
    assert summary["uar"]["low"] < summary["uar"]["value"] < summary["uar"]["high"]


def test_the_summary_describes_data_and_intervals():
    summary = strict_json(summarise(predictions(), None, num_resamples=20, seed=3))
    assert summary["corpus"] == "toy/default/1.0.0"
    assert (summary["split"], summary["n"], summary["speakers"]) == ("test", 60, 6)
    assert (summary["speech"], summary["attribute_source"]) == ("recorded", "rated")
    assert summary["categories"] == list(CATEGORIES)
    assert summary["labelled"] == {"activation": 60, "valence": 59, "dominance": 60, "emotion": 59}
    assert summary["interval"] == "95 % bootstrap over 6 speakers, 20 resamples"
    assert summary["bootstrap"] == {"over": "speaker", "resamples": 20, "seed": 3}


@pytest.mark.parametrize(("num_speakers", "said"), [(0, "speakers unknown"), (2, "only 2 speakers")])
def test_intervals_over_utterances_say_what_they_do_not_cover(num_speakers, said):
    summary = summarise(predictions(num_speakers=num_speakers), None, num_resamples=20)
    assert summary["interval"].startswith("95 % bootstrap over 60 utterances")
    assert said in summary["interval"]


@pytest.mark.parametrize(
    ("arguments", "present", "absent"),
    [
        ({"attributes": False}, "uar", "ccc"),
        ({"emotions": False}, "ccc", "uar"),
        ({"emotions": False, "info": corpus(categories=())}, "rmse", "confusion"),
    ],
)
def test_a_task_without_labels_or_predictions_is_absent(arguments, present, absent):
    if arguments.get("info"):
        given = dataclasses.replace(predictions(emotions=False), corpus=arguments["info"])
    else:
        given = predictions(**arguments)
    summary = strict_json(summarise(given, train_labels(), num_resamples=20))
    assert present in summary
    assert absent not in summary
    assert present in summary["baselines"]["mean"]
    assert absent not in summary["baselines"]["random"]


def test_scores_that_are_not_defined_are_null_and_never_nan():
    labels = np.full((60, 3), 4.0)
    labels[:, 1] = np.nan
    constant = dataclasses.replace(predictions(), attributes=np.full((60, 3), 4.0), attribute_labels=labels)
    summary = strict_json(summarise(constant, train_labels(), num_resamples=20))
    assert summary["pearson"]["activation"] == {"value": None, "low": None, "high": None}
    assert summary["rmse"]["activation"]["value"] == 0
    assert summary["ccc"]["valence"]["value"] is None
    assert summary["ccc"]["mean"]["value"] is None
    assert summary["labelled"]["valence"] == 0


def test_an_unpredicted_attribute_is_null_and_leaves_the_others_as_they_are():
    whole = predictions()
    without = dataclasses.replace(whole, attributes=whole.attributes * [1, np.nan, 1])
    summary = strict_json(summarise(without, train_labels(), num_resamples=20))
    assert summary["ccc"]["valence"]["value"] is None
    assert summary["ccc"]["dominance"] == summarise(whole, None, num_resamples=20)["ccc"]["dominance"]


def test_baselines_are_what_they_are_called():
    given, train = predictions(), train_labels()
    baselines = strict_json(summarise(given, train, num_resamples=20))["baselines"]
    error = given.attribute_labels - train.attributes.mean(axis=0)
    for column, attribute in enumerate(ATTRIBUTES):
        assert baselines["mean"]["ccc"][attribute] == 0
        expected = np.sqrt(np.nanmean(error[:, column] ** 2))
        assert baselines["mean"]["rmse"][attribute] == pytest.approx(expected)
        assert abs(baselines["random"]["ccc"][attribute]) < 0.1
        assert baselines["random"]["rmse"][attribute] > expected
    assert baselines["mean"]["uar"] == pytest.approx(1 / 3)
    assert baselines["random"]["uar"] == pytest.approx(1 / 3, abs=0.05)
    majority = (given.emotion_labels == 1).sum() / (given.emotion_labels >= 0).sum()
    assert baselines["mean"]["accuracy"] == pytest.approx(majority)


def test_training_labels_without_categories_leave_their_baseline_out():
    train = TrainLabels(train_labels().attributes, np.full(200, -1))
    baselines = strict_json(summarise(predictions(), train, num_resamples=20))["baselines"]
    assert "ccc" in baselines["mean"]
    assert "uar" not in baselines["mean"]


def test_nothing_to_evaluate_is_an_error():
    none = Predictions(corpus(), "test", [], [], np.zeros((0, 3)), np.zeros((0, 3)), np.zeros((0, 3)), np.zeros(0, int))
    with pytest.raises(EmojaxError, match="split test: nothing to evaluate"):
        summarise(none, None)


def test_an_evaluation_leaves_scores_predictions_and_plots(tmp_path):
    returned = write_evaluation(tmp_path / "evaluation", predictions(), train_labels(), num_resamples=20)
    names = {path.name for path in (tmp_path / "evaluation").iterdir()}
    assert names == {"test.json", "test.csv", "test_attributes.png", "test_confusion.png"}
    assert read_json(tmp_path / "evaluation" / "test.json") == strict_json(returned)


def test_a_later_evaluation_leaves_no_plot_of_the_earlier_one(tmp_path):
    write_evaluation(tmp_path, predictions(), None, num_resamples=20)
    write_evaluation(tmp_path, predictions(emotions=False), None, num_resamples=20)
    assert not (tmp_path / "test_confusion.png").exists()
    assert (tmp_path / "test_attributes.png").exists()


def test_a_split_with_odd_characters_stays_in_its_folder(tmp_path):
    write_evaluation(tmp_path, predictions(split="../train[:10%]", emotions=False), None, num_resamples=20)
    assert {path.name for path in tmp_path.iterdir()} == {
        f"train-10{end}" for end in (".json", ".csv", "_attributes.png")
    }
