"""CCC, Pearson's correlation, RMSE and MAE against audmetric, on random and degenerate inputs."""

import warnings

import audmetric
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from emojax.metrics import by_attribute, ccc, mae, pearson, regression_scores, rmse
from emojax.types import ATTRIBUTES

REFERENCES = {
    "ccc": (ccc, audmetric.concordance_cc),
    "pearson": (pearson, audmetric.pearson_cc),
    "rmse": (rmse, lambda truth, prediction: np.sqrt(audmetric.mean_squared_error(truth, prediction))),
    "mae": (mae, audmetric.mean_absolute_error),
}


def reference(name: str, predictions: np.ndarray, labels: np.ndarray) -> list[float]:
    """The measure by audmetric, per column, over the rows whose label is known."""
    values = []
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)
        for column in range(labels.shape[1]):
            known = ~np.isnan(labels[:, column])
            values.append(REFERENCES[name][1](labels[known, column], predictions[known, column]))
    return values


@pytest.mark.parametrize("name", REFERENCES)
@settings(deadline=None, max_examples=25)
@given(seed=st.integers(0, 2**31), num_items=st.integers(2, 300), missing=st.floats(0, 0.6))
def test_measures_equal_audmetric_on_random_inputs(name, seed, num_items, missing):
    rng = np.random.default_rng(seed)
    labels = rng.uniform(1, 7, (num_items, 3))
    predictions = rng.normal() * labels + rng.normal(size=(num_items, 3)) + rng.normal(size=3)
    labels[rng.random((num_items, 3)) < missing] = np.nan
    np.testing.assert_allclose(
        REFERENCES[name][0](predictions, labels), reference(name, predictions, labels), rtol=0, atol=1e-6
    )


DEGENERATE = {
    "constant prediction": ([0.5, 0.5, 0.5], [0.25, 0.5, 1.0]),
    "constant label": ([0.25, 0.5, 1.0], [0.5, 0.5, 0.5]),
    "two different constants": ([0.25, 0.25, 0.25], [0.5, 0.5, 0.5]),
    "one constant on both sides": ([0.5, 0.5, 0.5], [0.5, 0.5, 0.5]),
    "one item": ([0.25], [0.5]),
    "one labelled item": ([0.25, 0.5], [0.5, np.nan]),
    "no labelled item": ([0.25, 0.5], [np.nan, np.nan]),
    "NaN prediction": ([0.25, np.nan, 0.5], [0.25, 0.5, 0.75]),
    "perfect": ([0.25, 0.5, 1.0], [0.25, 0.5, 1.0]),
    "reversed": ([1.0, 0.5, 0.0], [0.0, 0.5, 1.0]),
}


@pytest.mark.parametrize("name", REFERENCES)
@pytest.mark.parametrize("case", DEGENERATE)
def test_measures_equal_audmetric_on_degenerate_inputs(name, case):
    predictions, labels = (np.array(values)[:, None] for values in DEGENERATE[case])
    np.testing.assert_allclose(
        REFERENCES[name][0](predictions, labels), reference(name, predictions, labels), atol=1e-12
    )


def test_ccc_of_a_constant_prediction_is_zero_and_of_one_shared_constant_is_undefined():
    labels = np.array([[0.1, 0.1], [0.7, 0.1], [0.4, 0.1]])
    np.testing.assert_array_equal(ccc(np.full((3, 2), 0.1), labels), [0.0, np.nan])


def test_pearson_of_rounding_noise_is_undefined_where_audmetric_reports_a_number():
    """0.1 has no exact mean: the peers' standard deviation of thrice 0.1 is 1e-17, not 0."""
    labels = np.array([[0.25], [0.5], [0.75]])
    assert np.isnan(pearson(np.full((3, 1), 0.1), labels)).all()


def test_item_of_weight_zero_is_ignored_even_if_nan():
    rng = np.random.default_rng(0)
    predictions, labels = rng.normal(size=(20, 3)), rng.normal(size=(20, 3))
    weights = np.ones(21)
    weights[-1] = 0
    padded = np.vstack([predictions, np.full((1, 3), np.nan)]), np.vstack([labels, np.full((1, 3), 1e30)])
    for measure, _ in REFERENCES.values():
        np.testing.assert_array_equal(measure(*padded, weights), measure(predictions, labels))


def test_weights_may_differ_by_attribute():
    rng = np.random.default_rng(0)
    predictions, labels = rng.normal(size=(20, 3)), rng.normal(size=(20, 3))
    weights = np.ones((20, 3))
    weights[:5, 1] = 0
    expected = ccc(predictions, labels)
    expected[1] = ccc(predictions[5:], labels[5:])[1]
    np.testing.assert_allclose(ccc(predictions, labels, weights), expected, atol=1e-12)


def test_float32_arrays_are_evaluated_in_float64():
    rng = np.random.default_rng(0)
    labels = (1e4 + rng.normal(size=(1000, 3))).astype(np.float32)
    predictions = (labels + rng.normal(size=(1000, 3))).astype(np.float32)
    expected = reference("ccc", predictions.astype(np.float64), labels.astype(np.float64))
    np.testing.assert_allclose(ccc(predictions, labels), expected, atol=1e-12)


@settings(deadline=None, max_examples=20)
@given(low=st.floats(-5, 5), width=st.floats(0.1, 10))
def test_peer_defect_label_scaling_ccc_does_not_depend_on_the_scale_both_sides_share(low, width):
    """A peer scales labels by the training minimum and maximum, so that its errors mean another thing per release."""
    rng = np.random.default_rng(0)
    labels = rng.uniform(0, 1, (100, 3))
    predictions = 0.5 * labels + 0.3 * rng.random((100, 3))
    np.testing.assert_allclose(
        ccc(low + width * predictions, low + width * labels), ccc(predictions, labels), atol=1e-9
    )
    np.testing.assert_allclose(
        rmse(low + width * predictions, low + width * labels), width * rmse(predictions, labels), rtol=1e-9
    )


def test_peer_defect_attribute_order_swapping_columns_swaps_named_results():
    """A published model card prints activation's CCC under valence."""
    rng = np.random.default_rng(0)
    labels = rng.normal(size=(200, 3))
    predictions = labels + np.array([0.1, 1.0, 3.0]) * rng.normal(size=(200, 3))
    scores = regression_scores(predictions, labels)
    assert list(scores["ccc"]) == list(ATTRIBUTES) == ["activation", "valence", "dominance"]
    for name, (_, of_one) in REFERENCES.items():
        for column, attribute in enumerate(["activation", "valence", "dominance"]):
            assert scores[name][attribute] == pytest.approx(of_one(labels[:, column], predictions[:, column]))
    swapped = regression_scores(predictions[:, [1, 0, 2]], labels[:, [1, 0, 2]])
    assert swapped["ccc"]["valence"] == pytest.approx(scores["ccc"]["activation"])
    assert swapped["ccc"]["valence"] != pytest.approx(scores["ccc"]["valence"], abs=0.1)


def test_peer_defect_row_for_column_attributes_are_columns_of_a_square_batch():
    """A peer's MSE takes `pred[:][0]`, the first item, for the first attribute."""
    predictions, labels = np.zeros((3, 3)), np.zeros((3, 3))
    labels[:, 2] = [1.0, 2.0, 3.0]
    assert by_attribute(mae(predictions, labels)) == {"activation": 0.0, "valence": 0.0, "dominance": 2.0}


def test_peer_defect_sum_of_attributes_one_bad_attribute_stays_visible():
    """Peers choose checkpoints by the sum of three CCCs, in which a lost valence hides."""
    labels = np.random.default_rng(0).normal(size=(50, 3))
    predictions = labels.copy()
    predictions[:, 1] = 0
    assert regression_scores(predictions, labels)["ccc"] == pytest.approx(
        {"activation": 1.0, "valence": 0.0, "dominance": 1.0}
    )


def test_named_results_require_three_attributes():
    with pytest.raises(Exception, match=r"3|values|shape"):
        by_attribute(np.zeros(2))
