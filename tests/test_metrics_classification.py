"""Confusion matrix, UAR, macro F1 and accuracy against audmetric and scikit-learn."""

import audmetric
import numpy as np
import pytest
import sklearn.metrics
from hypothesis import given, settings
from hypothesis import strategies as st

from emojax.metrics import accuracy, classification_scores, confusion_matrix, macro_f1, uar


@settings(deadline=None, max_examples=60)
@given(
    pairs=st.lists(st.tuples(st.integers(0, 4), st.integers(0, 4)), min_size=1, max_size=40),
    missing=st.lists(st.integers(0, 4), max_size=5),
)
def test_measures_equal_audmetric_with_absent_categories_and_missing_labels(pairs, missing):
    predictions, labels = np.array(pairs).T
    confusion = confusion_matrix(
        np.append(predictions, missing).astype(int), np.append(labels, [-1] * len(missing)).astype(int), 5
    )
    expected = audmetric.confusion_matrix(labels.tolist(), predictions.tolist(), labels=list(range(5)))
    np.testing.assert_array_equal(confusion, expected)
    assert uar(confusion) == pytest.approx(audmetric.unweighted_average_recall(labels, predictions), abs=1e-6)
    assert macro_f1(confusion) == pytest.approx(audmetric.unweighted_average_fscore(labels, predictions), abs=1e-6)
    assert macro_f1(confusion) == pytest.approx(
        sklearn.metrics.f1_score(labels, predictions, average="macro", zero_division=0), abs=1e-6
    )
    assert accuracy(confusion) == pytest.approx(audmetric.accuracy(labels, predictions), abs=1e-6)


def test_rows_are_labels_and_columns_are_predictions():
    confusion = confusion_matrix(np.array([2, 2, 1]), np.array([0, 0, 1]), 3)
    np.testing.assert_array_equal(confusion, [[0, 0, 2], [0, 1, 0], [0, 0, 0]])


def test_absent_category_is_excluded_and_category_only_predicted_has_zero_recall():
    neither = confusion_matrix(np.array([0, 1]), np.array([0, 1]), 7)
    assert classification_scores(neither) == {"uar": 1.0, "macro_f1": 1.0, "accuracy": 1.0}
    only_predicted = confusion_matrix(np.array([0, 1, 2]), np.array([0, 1, 1]), 7)
    assert uar(only_predicted) == pytest.approx((1 + 0.5 + 0) / 3)
    assert macro_f1(only_predicted) == pytest.approx((1 + 2 / 3 + 0) / 3)


def test_one_majority_class_does_not_hide_in_the_unweighted_average():
    confusion = confusion_matrix(np.zeros(100, int), np.array([0] * 90 + [1] * 10), 2)
    assert classification_scores(confusion) == pytest.approx({"uar": 0.5, "macro_f1": 0.9 / 1.9, "accuracy": 0.9})


def test_without_labels_every_measure_is_undefined():
    confusion = confusion_matrix(np.array([0, 1]), np.array([-1, -1]), 3)
    assert np.isnan(list(classification_scores(confusion).values())).all()


def test_measures_map_over_leading_axes():
    rng = np.random.default_rng(0)
    matrices = rng.integers(0, 20, (6, 4, 4))
    for measure in (uar, macro_f1, accuracy):
        np.testing.assert_allclose(measure(matrices), [measure(matrix) for matrix in matrices])


def test_matrices_of_parts_add_up():
    rng = np.random.default_rng(0)
    predictions, labels = rng.integers(0, 4, 100), rng.integers(-1, 4, 100)
    parts = [confusion_matrix(predictions[part], labels[part], 4) for part in (slice(0, 33), slice(33, None))]
    np.testing.assert_array_equal(sum(parts), confusion_matrix(predictions, labels, 4))


def test_narrow_integers_do_not_overflow():
    confusion = confusion_matrix(np.full(300, 19, np.int8), np.full(300, 19, np.int8), 20)
    assert confusion[19, 19] == confusion.sum() == 300


@pytest.mark.parametrize(
    ("predictions", "labels", "message"), [([4], [0], "prediction .* got 4"), ([0], [-2], "label .* got -2")]
)
def test_unknown_category_raises(predictions, labels, message):
    with pytest.raises(ValueError, match=message):
        confusion_matrix(np.array(predictions), np.array(labels), 4)
