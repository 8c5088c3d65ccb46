"""Scores of predictions against labels: CCC, errors, UAR, F1; and baselines from training labels alone."""

from typing import Any

import numpy as np
from jaxtyping import Float, Int, Num

from emojax.metrics.moments import CoMoments, co_moments
from emojax.types import ATTRIBUTES, MISSING_EMOTION


def ratio_or_nan(numerator: Any, denominator: Any, defined: Any = True) -> Any:
    """numerator / denominator in float64; NaN where the denominator is 0 or `defined` is false."""
    numerator, denominator = np.asarray(numerator, np.float64), np.asarray(denominator, np.float64)
    where = np.asarray(defined) & (denominator != 0)
    return np.divide(numerator, denominator, out=np.full(numerator.shape, np.nan), where=where)


Weights = Float[np.ndarray, "N"] | Float[np.ndarray, "N A"] | None


def ccc(
    predictions: Float[np.ndarray, "N A"], labels: Float[np.ndarray, "N A"], weights: Weights = None
) -> Float[np.ndarray, "A"]:
    """Concordance correlation coefficient (Lin 1989) per attribute, in [-1, 1].

    Predictions (or labels) that are constant give 0. NaN with fewer than two labelled items, and where predictions
    and labels are the same constant.

    Args:
      predictions: on the scale of the labels.
      labels: NaN where missing.
      weights: 1 for every item if None; 0 excludes an item.
    """
    return ccc_from_moments(moments_in_float64(predictions, labels, weights))


def pearson(
    predictions: Float[np.ndarray, "N A"], labels: Float[np.ndarray, "N A"], weights: Weights = None
) -> Float[np.ndarray, "A"]:
    """Pearson's correlation per attribute, in [-1, 1]; NaN with fewer than two items, or if either side is constant."""
    return pearson_from_moments(moments_in_float64(predictions, labels, weights))


def rmse(
    predictions: Float[np.ndarray, "N A"], labels: Float[np.ndarray, "N A"], weights: Weights = None
) -> Float[np.ndarray, "A"]:
    """Root of the (weighted) mean squared error per attribute, in the unit of the labels; NaN without items."""
    return rmse_from_moments(moments_in_float64(predictions, labels, weights))


def mae(
    predictions: Float[np.ndarray, "N A"], labels: Float[np.ndarray, "N A"], weights: Weights = None
) -> Float[np.ndarray, "A"]:
    """(Weighted) mean absolute error per attribute, in the unit of the labels; NaN without items."""
    return mae_from_moments(moments_in_float64(predictions, labels, weights))


def regression_scores(
    predictions: Float[np.ndarray, "N 3"],
    labels: Float[np.ndarray, "N 3"],
    weights: Float[np.ndarray, "N"] | Float[np.ndarray, "N 3"] | None = None,
) -> dict[str, dict[str, float]]:
    """All measures by name and attribute: `scores["ccc"]["valence"]`. Columns are in the order of `ATTRIBUTES`."""
    moments = moments_in_float64(predictions, labels, weights)
    return {name: by_attribute(measure(moments)) for name, measure in REGRESSION_MEASURES.items()}


def by_attribute(values: Float[np.ndarray, "3"]) -> dict[str, float]:
    """Names the entries of an array that is in the order of `ATTRIBUTES`."""
    return dict(zip(ATTRIBUTES, values.tolist(), strict=True))


def moments_in_float64(predictions: Any, labels: Any, weights: Any = None) -> CoMoments:
    """`co_moments` in float64, with weights of 1 by default."""
    weights = np.ones(len(labels)) if weights is None else np.asarray(weights, np.float64)
    return co_moments(np.asarray(predictions, np.float64), np.asarray(labels, np.float64), weights)


def ccc_from_moments(moments: CoMoments) -> Any:
    """`ccc` of accumulated moments, (..., A)."""
    numerator, denominator = moments.ccc_terms()
    return ratio_or_nan(numerator, denominator, moments.count >= 2)


def pearson_from_moments(moments: CoMoments) -> Any:
    """`pearson` of accumulated moments, (..., A)."""
    # Root before product: the product of two small variances can underflow.
    scale = np.sqrt(moments.variance_sum_prediction) * np.sqrt(moments.variance_sum_label)
    return np.clip(ratio_or_nan(moments.covariance_sum, scale, moments.count >= 2), -1.0, 1.0)


def rmse_from_moments(moments: CoMoments) -> Any:
    """`rmse` of accumulated moments, (..., A)."""
    return np.sqrt(ratio_or_nan(moments.squared_error, moments.weight, moments.count >= 1))


def mae_from_moments(moments: CoMoments) -> Any:
    """`mae` of accumulated moments, (..., A)."""
    return ratio_or_nan(moments.absolute_error, moments.weight, moments.count >= 1)


REGRESSION_MEASURES = {
    "ccc": ccc_from_moments,
    "pearson": pearson_from_moments,
    "rmse": rmse_from_moments,
    "mae": mae_from_moments,
}


def confusion_matrix(
    predictions: Int[np.ndarray, "N"], labels: Int[np.ndarray, "N"], num_categories: int
) -> Int[np.ndarray, "C C"]:
    """Counts items by label (row) and prediction (column). Matrices of parts of a set add up to that of the set.

    Args:
      predictions: predicted category of every item, in [0, C); not read where the label is missing.
      labels: labelled category in [0, C); -1 where missing, which excludes the item.
      num_categories: C.

    Raises:
      ValueError: a label or prediction is outside [0, C).
    """
    labelled = labels != MISSING_EMOTION
    predictions, labels = predictions[labelled], labels[labelled]
    for name, values in (("label", labels), ("prediction", predictions)):
        outside = values[(values < 0) | (values >= num_categories)]
        if outside.size:
            raise ValueError(f"{name} must be a category, 0 to {num_categories - 1}, got {outside[0]}")
    # In int64: the cell index of narrow integers would overflow.
    cells = labels.astype(np.int64) * num_categories + predictions.astype(np.int64)
    return np.bincount(cells, minlength=num_categories**2).reshape(num_categories, num_categories)


def uar(confusion: Num[np.ndarray, "*R C C"]) -> Float[np.ndarray, "*R"]:
    """Unweighted average recall (mean of the categories' recalls), in [0, 1]; NaN without items."""
    return _mean_over_present(_hits(confusion) / np.maximum(_labelled(confusion), 1), confusion)


def macro_f1(confusion: Num[np.ndarray, "*R C C"]) -> Float[np.ndarray, "*R"]:
    """Mean of the categories' F1 scores, in [0, 1]; NaN without items."""
    occurrences = _labelled(confusion) + _predicted(confusion)
    return _mean_over_present(2 * _hits(confusion) / np.maximum(occurrences, 1), confusion)


def accuracy(confusion: Num[np.ndarray, "*R C C"]) -> Float[np.ndarray, "*R"]:
    """Share of items whose category is right, in [0, 1]; NaN without items."""
    return ratio_or_nan(_hits(confusion).sum(axis=-1), confusion.sum(axis=(-2, -1)))


def classification_scores(confusion: Num[np.ndarray, "C C"]) -> dict[str, float]:
    """All measures by name: `scores["uar"]`."""
    return {name: float(measure(confusion)) for name, measure in CLASSIFICATION_MEASURES.items()}


CLASSIFICATION_MEASURES = {"uar": uar, "macro_f1": macro_f1, "accuracy": accuracy}


def _hits(confusion: np.ndarray) -> np.ndarray:
    return np.diagonal(confusion, axis1=-2, axis2=-1).astype(np.float64)


def _labelled(confusion: np.ndarray) -> np.ndarray:
    return confusion.sum(axis=-1)


def _predicted(confusion: np.ndarray) -> np.ndarray:
    return confusion.sum(axis=-2)


def _mean_over_present(per_category: np.ndarray, confusion: np.ndarray) -> np.ndarray:
    present = (_labelled(confusion) + _predicted(confusion)) > 0
    return ratio_or_nan(np.where(present, per_category, 0.0).sum(axis=-1), present.sum(axis=-1))


def mean_attributes(train_labels: Float[np.ndarray, "M A"], num_items: int) -> Float[np.ndarray, "N A"]:
    """Predicts each attribute's mean over the training labels, for all `num_items`.

    Args:
      train_labels: NaN where missing; an attribute without any label is predicted as NaN.
      num_items: N.
    """
    labelled = ~np.isnan(train_labels)
    total = np.where(labelled, train_labels, 0.0).sum(axis=0, dtype=np.float64)
    return np.tile(ratio_or_nan(total, labelled.sum(axis=0)), (num_items, 1))


def random_attributes(train_labels: Float[np.ndarray, "M A"], num_items: int, seed: int) -> Float[np.ndarray, "N A"]:
    """Draws each attribute of each item from the training labels of that attribute, with replacement.

    Args:
      train_labels: NaN where missing; an attribute without any label is predicted as NaN.
      num_items: N.
      seed: the same seed gives the same draws.
    """
    rng = np.random.default_rng(seed)
    predictions = np.full((num_items, train_labels.shape[1]), np.nan)
    for column, labels in enumerate(train_labels.T.astype(np.float64)):
        present = labels[~np.isnan(labels)]
        if present.size:
            predictions[:, column] = rng.choice(present, num_items)
    return predictions


def majority_emotion(train_labels: Int[np.ndarray, "M"], num_items: int) -> Int[np.ndarray, "N"]:
    """Predicts the most frequent training category (the first of equals) for all `num_items`.

    Args:
      train_labels: -1 where missing.
      num_items: N.

    Raises:
      ValueError: no training label exists.
    """
    return np.full(num_items, np.bincount(_labelled_items(train_labels)).argmax())


def random_emotion(train_labels: Int[np.ndarray, "M"], num_items: int, seed: int) -> Int[np.ndarray, "N"]:
    """Draws each item's category from the training labels, with replacement.

    Args:
      train_labels: -1 where missing.
      num_items: N.
      seed: the same seed gives the same draws.

    Raises:
      ValueError: no training label exists.
    """
    return np.random.default_rng(seed).choice(_labelled_items(train_labels), num_items)


def _labelled_items(labels: np.ndarray) -> np.ndarray:
    present = labels[labels != MISSING_EMOTION]
    if not present.size:
        raise ValueError("train_labels must hold at least one category other than -1, got none")
    return present
