"""Output heads that start at regularised linear regression from the initial embedding to the training labels.

For a network without trained layers below the heads, as in configs/own.py: ridge regression of the attributes, logistic
regression of the categories. Layers of an encoder that are concatenated are weighted by their own scores on held-out
speakers, so that those without information are regularised most. Ridge regression shrinks predictions towards the mean,
which costs CCC: predictions are scaled to the labels' standard deviation, as measured on held-out speakers.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
from jaxtyping import Float, Int

from emojax.data import SplitIndex
from emojax.parallel import to_device
from emojax.training.linear_models import fit_logistic, fit_ridge, held_out_speakers
from emojax.training.state import TrainState
from emojax.types import ATTRIBUTES, MISSING_EMOTION

RIDGE_PENALTIES = (3000.0, 1000.0, 300.0, 100.0, 30.0)
LOGISTIC_PENALTIES = (300.0, 100.0, 30.0, 10.0)
"""Penalties that are tried, of standardised features whose layers are scaled to a total weight of 1."""

MIDDLE_PENALTY = 100.0
"""Penalty at which single layers are compared."""

_SHARPNESS = 30.0
"""Of the weights of layers: a score that is lower by 0.1 gives a weight of e⁻³."""


def start_heads_at_regression(
    state: TrainState,
    embeddings: Float[np.ndarray, "N E"],
    num_layers: int,
    index: SplitIndex,
    scale: tuple[float, float],
    num_categories: int,
) -> TrainState:
    """Replaces the initial output heads; those without two different labels stay.

    Args:
      state: initial state; its heads are one linear layer per output (`emojax.models.EmotionHeads`).
      embeddings: of the training utterances, at the initial parameters.
      num_layers: parts of equal size of an embedding, each of one layer of an encoder.
      index: index of the training split.
      scale: scale of the corpus.
      num_categories: C.
    """
    layers = embeddings.reshape(len(embeddings), num_layers, -1)
    held_out = held_out_speakers(np.asarray(index.speakers), index.attributes, index.emotion)
    heads = {name: {part: np.array(leaf) for part, leaf in layer.items()} for name, layer in _heads(state).items()}
    for column in range(len(ATTRIBUTES)):
        labels = (index.attributes[:, column].astype(np.float64) - scale[0]) / (scale[1] - scale[0])
        if np.unique(labels[~np.isnan(labels)]).size > 1:
            weights, intercept = regress_attribute(layers, labels, held_out)
            heads["attributes"]["kernel"][:, column] = weights
            heads["attributes"]["bias"][column] = intercept
    if "categories" in heads and np.unique(index.emotion[index.emotion != MISSING_EMOTION]).size > 1:
        kernel, bias = regress_categories(layers, index.emotion, num_categories, held_out)
        heads["categories"] = {"kernel": kernel, "bias": bias}
    placed = {
        name: {
            part: to_device(values.astype(np.float32), _heads(state)[name][part].sharding)
            for part, values in layer.items()
        }
        for name, layer in heads.items()
    }
    params = {**state.params, "heads": placed}
    ema = state.ema_params
    if ema is not None:
        ema = {**ema, "heads": {name: {part: leaf.copy() for part, leaf in placed[name].items()} for name in placed}}
    return state.replace(params=params, ema_params=ema)  # type: ignore[attr-defined]


def regress_attribute(
    layers: Float[np.ndarray, "N L P"], labels: Float[np.ndarray, "N"], held_out: Sequence[np.ndarray]
) -> tuple[Float[np.ndarray, "E"], float]:
    """Weights and intercept of an attribute, by the correlation of predictions of held-out utterances.

    Args:
      layers: standardised features.
      labels: NaN where missing.
      held_out: held-out utterances of every fold.
    """
    labelled = ~np.isnan(labels)

    def predict(features: np.ndarray, penalties: Sequence[float]) -> np.ndarray:
        predicted = np.full((len(penalties), len(labels)), np.nan)
        for test in held_out:
            fitted = labelled & ~test
            if fitted.sum() > 1:
                weights, intercepts = fit_ridge(features[fitted], labels[fitted], penalties)
                predicted[:, test] = (features[test] @ weights.T + intercepts).T
        return predicted

    def scores(predicted: np.ndarray) -> list[float]:
        known = labelled & ~np.isnan(predicted[0])
        return [_correlation(found[known], labels[known]) for found in predicted]

    single = [scores(predict(layers[:, layer], [MIDDLE_PENALTY]))[0] for layer in range(layers.shape[1])]
    features, scales = _weighted(layers, single)
    predicted = predict(features, RIDGE_PENALTIES)
    found = scores(predicted)
    best = int(np.argmax(found))
    factor = 1.0
    if found[best] > 0:
        known = labelled & ~np.isnan(predicted[best])
        factor = float(labels[known].std() / predicted[best, known].std())
    weights, intercepts = fit_ridge(features[labelled], labels[labelled], [RIDGE_PENALTIES[best]])
    middle = labels[labelled].mean()
    return factor * weights[0] * scales, float(middle + factor * (intercepts[0] - middle))


def regress_categories(
    layers: Float[np.ndarray, "N L P"],
    emotion: Int[np.ndarray, "N"],
    num_categories: int,
    held_out: Sequence[np.ndarray],
) -> tuple[Float[np.ndarray, "E C"], Float[np.ndarray, "C"]]:
    """Weights and intercepts of the logits, by the UAR of held-out utterances.

    Args:
      layers: standardised features.
      emotion: category; -1 where missing.
      num_categories: C.
      held_out: held-out utterances of every fold.
    """
    labelled = emotion != MISSING_EMOTION

    def scores(features: np.ndarray, penalties: Sequence[float]) -> list[float]:
        predicted = np.full((len(penalties), len(emotion)), MISSING_EMOTION)
        for test in held_out:
            fitted = labelled & ~test
            if fitted.any():
                solutions = fit_logistic(features[fitted], emotion[fitted], num_categories, penalties)
                for number, found in enumerate(solutions):
                    predicted[number, test] = (features[test] @ found[:-1] + found[-1]).argmax(axis=1)
        known = labelled & (predicted[0] != MISSING_EMOTION)
        return [_recall(found[known], emotion[known]) for found in predicted]

    single = [scores(layers[:, layer], [MIDDLE_PENALTY])[0] for layer in range(layers.shape[1])]
    features, scales = _weighted(layers, single)
    best = int(np.argmax(scores(features, LOGISTIC_PENALTIES)))
    solution = fit_logistic(features[labelled], emotion[labelled], num_categories, LOGISTIC_PENALTIES[: best + 1])[-1]
    return scales[:, None] * solution[:-1], solution[-1]


def _weighted(
    layers: Float[np.ndarray, "N L P"], scores: Sequence[float]
) -> tuple[Float[np.ndarray, "N E"], Float[np.ndarray, "E"]]:
    """Features scaled by the square roots of layer weights that sum to 1, and the scales."""
    values = np.nan_to_num(np.asarray(scores, np.float64))
    weights = np.exp(_SHARPNESS * (values - values.max()))
    scales = np.repeat(np.sqrt(weights / weights.sum()), layers.shape[2])
    return layers.reshape(len(layers), -1) * scales, scales


def _heads(state: TrainState) -> dict[str, dict[str, Any]]:
    return state.params["heads"]


def _correlation(predicted: np.ndarray, labels: np.ndarray) -> float:
    if len(labels) < 2 or np.ptp(predicted) == 0 or np.ptp(labels) == 0:
        return 0.0
    return float(np.corrcoef(predicted, labels)[0, 1])


def _recall(predicted: np.ndarray, emotion: np.ndarray) -> float:
    hit = predicted == emotion
    return float(np.mean([hit[emotion == category].mean() for category in np.unique(emotion)])) if len(hit) else 0.0
