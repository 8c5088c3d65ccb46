"""Metrics: agreement of predictions with labels, its uncertainty, and baselines."""

from emojax.metrics.bootstrap import Interval, bootstrap_classification, bootstrap_regression, resampled_by
from emojax.metrics.moments import CoMoments, co_moments
from emojax.metrics.scores import (
    accuracy,
    by_attribute,
    ccc,
    classification_scores,
    confusion_matrix,
    macro_f1,
    mae,
    majority_emotion,
    mean_attributes,
    pearson,
    random_attributes,
    random_emotion,
    regression_scores,
    rmse,
    uar,
)

__all__ = [
    "CoMoments",
    "Interval",
    "accuracy",
    "bootstrap_classification",
    "bootstrap_regression",
    "by_attribute",
    "ccc",
    "classification_scores",
    "co_moments",
    "confusion_matrix",
    "macro_f1",
    "mae",
    "majority_emotion",
    "mean_attributes",
    "pearson",
    "random_attributes",
    "random_emotion",
    "regression_scores",
    "resampled_by",
    "rmse",
    "uar",
]
