"""Metrics of degenerate sets: one row, equal rows, one speaker, one category."""

import warnings

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from emojax.metrics import (
    bootstrap_classification,
    bootstrap_regression,
    classification_scores,
    confusion_matrix,
    regression_scores,
)
from emojax.metrics.paired import bootstrap_gain


def ends(interval):
    return [interval["low"], interval["high"]]


def test_one_utterance_has_errors_but_no_interval_and_no_correlation():
    found = bootstrap_regression(np.full((1, 3), 2.0), np.full((1, 3), 3.0), None, 50)
    assert found["rmse"]["valence"]["value"] == 1
    assert np.isnan(ends(found["rmse"]["valence"])).all()
    assert np.isnan([found["ccc"]["valence"]["value"], found["pearson"]["valence"]["value"]]).all()


def test_two_utterances_have_no_interval_of_a_correlation():
    random = np.random.default_rng(0)
    found = bootstrap_regression(random.normal(size=(2, 3)), random.normal(size=(2, 3)), None, 200)
    assert abs(found["pearson"]["valence"]["value"]) == pytest.approx(1)
    assert np.isnan(ends(found["pearson"]["valence"])).all()
    assert np.isfinite(ends(found["mae"]["valence"])).all()


def test_labels_of_a_single_speaker_among_many_have_no_interval():
    random = np.random.default_rng(0)
    labels, predictions = random.normal(size=(40, 3)), random.normal(size=(40, 3))
    labels[8:, 2] = np.nan  # only the first speaker's dominance was rated
    speakers = [f"s{row // 8}" for row in range(40)]
    found = bootstrap_regression(predictions, labels, speakers, 100)
    assert np.isnan(ends(found["ccc"]["dominance"])).all()
    assert np.isnan(ends(found["mae"]["dominance"])).all()
    assert np.isfinite(ends(found["ccc"]["valence"])).all()
    gain = bootstrap_gain([predictions], [predictions + 1], labels, speakers, 50)
    assert np.isfinite(gain["dominance"]["gain"])
    assert np.isnan(ends(gain["dominance"])).all()


def test_a_single_labelled_utterance_has_no_interval_of_its_category():
    labels, predicted = np.array([-1, 2, -1]), np.zeros(3, int)
    found = bootstrap_classification(predicted, labels, 3, None, 50)
    assert found["accuracy"]["value"] == 0
    assert np.isnan(ends(found["accuracy"])).all()


@settings(deadline=None, max_examples=40)
@given(
    n=st.integers(0, 4),
    constant=st.sampled_from(["none", "labels", "predictions", "both"]),
    scale=st.sampled_from([1e-12, 1.0, 1e12]),
    num_speakers=st.integers(0, 3),
    seed=st.integers(0, 1000),
)
def test_scores_of_any_small_set_are_numbers_or_undefined_without_warnings(n, constant, scale, num_speakers, seed):
    random = np.random.default_rng(seed)
    labels, predictions = scale * random.normal(size=(n, 3)), scale * random.normal(size=(n, 3))
    if constant in ("labels", "both"):
        labels[:] = scale
    if constant in ("predictions", "both"):
        predictions[:] = scale
    speakers = [f"s{row % num_speakers}" for row in range(n)] if num_speakers else None
    emotions = random.integers(-1, 2, n)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        scores = regression_scores(predictions, labels)
        intervals = bootstrap_regression(predictions, labels, speakers, 30, seed)
        classification_scores(confusion_matrix(np.zeros(n, int), emotions, 2))
        categories = bootstrap_classification(np.zeros(n, int), emotions, 2, speakers, 30, seed)
    assert all(-1 - 1e-9 <= value <= 1 + 1e-9 for value in scores["ccc"].values() if not np.isnan(value))
    for interval in (*intervals["ccc"].values(), *categories.values()):
        low, high = ends(interval)
        assert np.isnan(low) == np.isnan(high)
        assert not np.isnan(interval["value"]) or np.isnan(low)


@pytest.mark.parametrize("constant", ["labels", "predictions"])
def test_ccc_of_a_constant_is_zero_and_pearson_undefined(constant):
    random = np.random.default_rng(0)
    values, same = random.normal(size=(20, 3)), np.full((20, 3), 0.1)
    scores = regression_scores(*((values, same) if constant == "labels" else (same, values)))
    assert scores["ccc"]["valence"] == pytest.approx(0, abs=1e-12)
    assert np.isnan(scores["pearson"]["valence"])
