"""Ridge and logistic regression on fixed features, in float64, with penalty and layer tuned by folds of speakers."""

import dataclasses
from collections.abc import Sequence

import numpy as np
from jaxtyping import Float, Int

from emojax.metrics import classification_scores, confusion_matrix, regression_scores
from emojax.training.linear_models import fit_logistic, fit_ridge, held_out_speakers
from emojax.types import ATTRIBUTES, MISSING_EMOTION, NUM_ATTRIBUTES

RIDGE_PENALTIES = (1.0, 10.0, 100.0, 1_000.0, 10_000.0)
LOGISTIC_PENALTIES = (1.0, 10.0, 100.0, 1_000.0, 10_000.0)
"""Weight of half the squared norm beside the sum of squared errors, or of cross-entropies, of standardised features."""


@dataclasses.dataclass(frozen=True)
class Labelled:
    """Utterances with labels.

    Attributes:
      attributes: NaN where missing.
      emotion: category; -1 where missing.
      speakers: speaker of every utterance.
      num_categories: C.
    """

    attributes: Float[np.ndarray, "N 3"]
    emotion: Int[np.ndarray, "N"]
    speakers: np.ndarray
    num_categories: int

    def select(self, rows: np.ndarray) -> "Labelled":
        """Some of the utterances."""
        return Labelled(self.attributes[rows], self.emotion[rows], self.speakers[rows], self.num_categories)


@dataclasses.dataclass(frozen=True)
class LinearPredictions:
    """Predictions of the linear baselines, and what was tuned.

    Attributes:
      attributes: NaN in a column without training labels.
      probabilities: C is 0 without two categories among the training labels.
      chosen: layer and penalty by `activation`, `valence`, `dominance`, `emotion`.
    """

    attributes: Float[np.ndarray, "M 3"]
    probabilities: Float[np.ndarray, "M C"]
    chosen: dict[str, dict[str, float]]


def predict_linear(
    features: Float[np.ndarray, "N L D"], training: Labelled, test_features: Float[np.ndarray, "M L D"]
) -> LinearPredictions:
    """Fits both regressions on one layer each, and predicts.

    Layer and penalty are those of the best score over folds of the training speakers: CCC of each attribute, UAR of the
    categories, whose cross-entropies are weighted to equal shares.

    Args:
      features: statistics of L layers, of the training utterances.
      training: their labels.
      test_features: of the utterances to predict.
    """
    mean, std = features.mean(axis=0), features.std(axis=0) + 1e-6
    features = ((features - mean) / std).astype(np.float64)
    test_features = ((test_features - mean) / std).astype(np.float64)
    held_out = held_out_speakers(training.speakers, training.attributes, training.emotion)
    attributes = np.full((len(test_features), NUM_ATTRIBUTES), np.nan)
    chosen: dict[str, dict[str, float]] = {}
    for column, name in enumerate(ATTRIBUTES):
        labelled = ~np.isnan(training.attributes[:, column])
        if np.unique(training.attributes[labelled, column]).size > 1:
            layer, penalty = _tune_ridge(features, training.attributes[:, column], labelled, held_out)
            labels = training.attributes[labelled, column].astype(np.float64)
            weights, intercepts = fit_ridge(features[labelled, layer], labels, [penalty])
            attributes[:, column] = test_features[:, layer] @ weights[0] + intercepts[0]
            chosen[name] = {"layer": layer, "penalty": penalty}
    labelled = training.emotion != MISSING_EMOTION
    probabilities = np.zeros((len(test_features), 0))
    if np.unique(training.emotion[labelled]).size > 1:
        layer, penalty = _tune_logistic(features, training, labelled, held_out)
        emotion = training.emotion[labelled]
        (parameters,) = fit_logistic(features[labelled, layer], emotion, training.num_categories, [penalty])
        probabilities = _softmax(test_features[:, layer] @ parameters[:-1] + parameters[-1])
        chosen["emotion"] = {"layer": layer, "penalty": penalty}
    return LinearPredictions(attributes, probabilities, chosen)


def _tune_ridge(
    features: np.ndarray, labels: np.ndarray, labelled: np.ndarray, held_out: Sequence[np.ndarray]
) -> tuple[int, float]:
    scores = np.full((features.shape[1], len(RIDGE_PENALTIES)), -np.inf)
    for layer in range(features.shape[1]):
        predicted = np.full((len(labels), len(RIDGE_PENALTIES)), np.nan)
        for test in held_out:
            fitted = labelled & ~test
            if fitted.sum() < 2:
                continue
            weights, intercepts = fit_ridge(features[fitted, layer], labels[fitted].astype(np.float64), RIDGE_PENALTIES)
            predicted[test] = features[test, layer] @ weights.T + intercepts
        known = labelled & ~np.isnan(predicted[:, 0])
        for number in range(len(RIDGE_PENALTIES)):
            scores[layer, number] = _ccc(predicted[known, number], labels[known])
    best = int(np.nanargmax(scores))
    return best // len(RIDGE_PENALTIES), RIDGE_PENALTIES[best % len(RIDGE_PENALTIES)]


def _tune_logistic(
    features: np.ndarray, training: Labelled, labelled: np.ndarray, held_out: Sequence[np.ndarray]
) -> tuple[int, float]:
    """The layer at the middle penalty, then the penalty of that layer: a grid of both takes several times as long."""
    middle = LOGISTIC_PENALTIES[len(LOGISTIC_PENALTIES) // 2]

    def scores(layer: int, penalties: Sequence[float]) -> list[float]:
        predicted = np.full((len(penalties), len(training.emotion)), MISSING_EMOTION)
        for test in held_out:
            fitted = labelled & ~test
            emotion = training.emotion[fitted]
            if emotion.size:
                solutions = fit_logistic(features[fitted, layer], emotion, training.num_categories, penalties)
                for number, found in enumerate(solutions):
                    predicted[number, test] = (features[test, layer] @ found[:-1] + found[-1]).argmax(axis=1)
        return [_uar(found, training, labelled) for found in predicted]

    layer = max(range(features.shape[1]), key=lambda each: scores(each, [middle])[0])
    descending = sorted(LOGISTIC_PENALTIES, reverse=True)  # each starts from the solution of the one before
    found = scores(layer, descending)
    return layer, descending[int(np.argmax(found))]


def _uar(predicted: np.ndarray, training: Labelled, labelled: np.ndarray) -> float:
    known = labelled & (predicted != MISSING_EMOTION)
    confusion = confusion_matrix(predicted[known], training.emotion[known], training.num_categories)
    return float(classification_scores(confusion)["uar"])


def _ccc(predicted: np.ndarray, labels: np.ndarray) -> float:
    if len(labels) < 2:
        return -np.inf
    same = regression_scores(np.tile(predicted[:, None], NUM_ATTRIBUTES), np.tile(labels[:, None], NUM_ATTRIBUTES))
    return float(same["ccc"][ATTRIBUTES[0]])


def _softmax(logits: np.ndarray) -> np.ndarray:
    exponentials = np.exp(logits - logits.max(axis=1, keepdims=True))
    return exponentials / exponentials.sum(axis=1, keepdims=True)
