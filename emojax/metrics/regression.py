"""Agreement of predicted and labelled activation, valence, dominance: CCC, Pearson's correlation, RMSE, MAE.

Conventions are those of `audmetric`, checked in the tests: biased variances; NaN where a number is not defined.
Evaluation runs in NumPy float64; the arrays may be float32.
"""

from typing import Any

import numpy as np
from jaxtyping import Float

from emojax.metrics.moments import CoMoments, co_moments
from emojax.metrics.ratio import ratio_or_nan
from emojax.types import ATTRIBUTES

Weights = Float[np.ndarray, "N"] | Float[np.ndarray, "N A"] | None


def ccc(
    predictions: Float[np.ndarray, "N A"], labels: Float[np.ndarray, "N A"], weights: Weights = None
) -> Float[np.ndarray, "A"]:
    """Concordance correlation coefficient (Lin 1989) per attribute, in [-1, 1].

    Predictions (or labels) that are constant give 0. NaN with fewer than two labelled items, and where predictions
    and labels are one and the same constant.

    Args:
      predictions: on the scale of the labels.
      labels: NaN where missing.
      weights: 1 for every item if None; 0 takes an item out.
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
    """`co_moments` as evaluation takes them: in float64, with weights of 1 where none are given."""
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
