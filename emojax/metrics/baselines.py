"""Predictions of no skill, printed beside every result: the mean or majority, and draws from the training labels."""

import numpy as np
from jaxtyping import Float, Int

from emojax.metrics.ratio import ratio_or_nan
from emojax.types import MISSING_EMOTION


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
        known = labels[~np.isnan(labels)]
        if known.size:
            predictions[:, column] = rng.choice(known, num_items)
    return predictions


def majority_emotion(train_labels: Int[np.ndarray, "M"], num_items: int) -> Int[np.ndarray, "N"]:
    """Predicts the most frequent training category (the first of equals) for all `num_items`.

    Args:
      train_labels: -1 where missing.
      num_items: N.

    Raises:
      ValueError: no training label exists.
    """
    return np.full(num_items, np.bincount(_known(train_labels)).argmax())


def random_emotion(train_labels: Int[np.ndarray, "M"], num_items: int, seed: int) -> Int[np.ndarray, "N"]:
    """Draws each item's category from the training labels, with replacement.

    Args:
      train_labels: -1 where missing.
      num_items: N.
      seed: the same seed gives the same draws.

    Raises:
      ValueError: no training label exists.
    """
    return np.random.default_rng(seed).choice(_known(train_labels), num_items)


def _known(labels: np.ndarray) -> np.ndarray:
    known = labels[labels != MISSING_EMOTION]
    if not known.size:
        raise ValueError("no training label; allowed: at least one category that is not -1")
    return known
