"""Agreement of predicted and labelled categories: confusion matrix, unweighted average recall, macro F1, accuracy.

Which categories an average runs over follows `audmetric` (and scikit-learn's macro F1): those that occur in the labels
or in the predictions. A category that occurs in neither is left out; one that is only predicted has recall 0 and F1 0.
So a category nobody could get right does not pull a result down, and inventing a category does.
"""

import numpy as np
from jaxtyping import Float, Int, Num

from emojax.metrics.ratio import ratio_or_nan
from emojax.types import MISSING_EMOTION


def confusion_matrix(
    predictions: Int[np.ndarray, "N"], labels: Int[np.ndarray, "N"], num_categories: int
) -> Int[np.ndarray, "C C"]:
    """Counts items by label (row) and prediction (column). Matrices of parts of a set add up to that of the set.

    Args:
      predictions: predicted category of every item, in [0, C); not read where the label is missing.
      labels: labelled category in [0, C); -1 where missing, which takes the item out.
      num_categories: C.

    Raises:
      ValueError: a label or prediction is outside [0, C).
    """
    labelled = labels != MISSING_EMOTION
    predictions, labels = predictions[labelled], labels[labelled]
    for name, values in (("label", labels), ("prediction", predictions)):
        outside = values[(values < 0) | (values >= num_categories)]
        if outside.size:
            raise ValueError(f"{name} {outside[0]} is no category; allowed: 0 to {num_categories - 1}")
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
