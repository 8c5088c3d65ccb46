"""Output heads that start at ridge regression from the initial embedding to the training labels.

For a network without trained layers below the heads, as in configs/own.py: the solution is found in one step, and
training starts from it. In place of one-hot targets' predictions, which lie between 0 and 1, the categories' head gets
logits (a factor that minimises cross-entropy on held-out speakers); the attributes' head predictions of the labels'
standard deviation, where regression's shrinkage would cost CCC.
"""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from jaxtyping import Bool, Float, Int
from scipy.linalg import cho_factor, cho_solve

from emojax.data import SplitIndex, label_strata, speaker_folds
from emojax.parallel import to_device
from emojax.training.state import TrainState
from emojax.types import ATTRIBUTES, MISSING_EMOTION

PENALTIES = (0.03, 0.1, 0.3, 1.0, 3.0)
"""Penalties of the squared norm, in units of the embedding's size: features are standardised."""

NUM_FOLDS = 4

_FACTORS = tuple(np.geomspace(1.0, 64.0, 25))


def start_heads_at_ridge(
    state: TrainState,
    embeddings: Float[np.ndarray, "N E"],
    index: SplitIndex,
    scale: tuple[float, float],
    num_categories: int,
) -> TrainState:
    """Replaces the initial output heads; those without two different labels stay.

    Args:
      state: initial state; its heads are one linear layer per output (`emojax.models.EmotionHeads`).
      embeddings: of the training utterances, at the initial parameters.
      index: index of the training split.
      scale: scale of the corpus.
      num_categories: C.
    """
    held_out = held_out_speakers(index)
    heads = {name: dict(layer) for name, layer in state.params["heads"].items()}
    for column in range(len(ATTRIBUTES)):
        labels = (index.attributes[:, column].astype(np.float64) - scale[0]) / (scale[1] - scale[0])
        if np.unique(labels[~np.isnan(labels)]).size > 1:
            weights, intercept = ridge_attribute(embeddings, labels, held_out)
            layer = heads["attributes"]
            layer["kernel"] = _set_column(layer["kernel"], column, weights)
            layer["bias"] = _set_column(layer["bias"], column, intercept)
    if "categories" in heads and np.unique(index.emotion[index.emotion != MISSING_EMOTION]).size > 1:
        kernel, bias = ridge_categories(embeddings, index.emotion, num_categories, held_out)
        layer = heads["categories"]
        heads["categories"] = {
            "kernel": to_device(kernel.astype(np.float32), layer["kernel"].sharding),
            "bias": to_device(bias.astype(np.float32), layer["bias"].sharding),
        }
    params = {**state.params, "heads": heads}
    ema = None if state.ema_params is None else {**state.ema_params, "heads": _copied(heads)}
    return state.replace(params=params, ema_params=ema)  # type: ignore[attr-defined]


def held_out_speakers(index: SplitIndex) -> list[Bool[np.ndarray, "N"]]:
    """Held-out utterances of every fold: groups of speakers, or every fourth utterance of a single speaker."""
    num_speakers = len(np.unique(index.speakers))
    if num_speakers < 2:
        return [np.arange(len(index)) % NUM_FOLDS == fold for fold in range(NUM_FOLDS)]
    groups = speaker_folds(index.speakers, label_strata(index.attributes, index.emotion), min(NUM_FOLDS, num_speakers))
    return [np.isin(index.speakers, group) for group in groups]


def ridge_attribute(
    features: Float[np.ndarray, "N E"], labels: Float[np.ndarray, "N"], held_out: Sequence[np.ndarray]
) -> tuple[Float[np.ndarray, "E"], float]:
    """Weights and intercept of an attribute, of the penalty with the highest correlation on held-out utterances.

    Args:
      features: standardised.
      labels: NaN where missing.
      held_out: held-out utterances of every fold.
    """
    labelled = ~np.isnan(labels)
    ones = np.ones(len(labels))
    predicted = _held_out_predictions(features, labels[:, None], labelled, lambda rows: ones[rows], held_out)[..., 0]
    known = labelled & ~np.isnan(predicted[0])
    correlations = [_correlation(found[known], labels[known]) for found in predicted]
    best = int(np.argmax(correlations))
    factor = 1.0
    if correlations[best] > 0:
        factor = float(labels[known].std() / max(predicted[best, known].std(), 1e-6))
    ((weights, intercept),) = solve_ridge(features[labelled], labels[labelled, None], ones[labelled], [PENALTIES[best]])
    middle = labels[labelled].mean()
    return factor * weights[:, 0], float(middle + factor * (intercept[0] - middle))


def ridge_categories(
    features: Float[np.ndarray, "N E"],
    emotion: Int[np.ndarray, "N"],
    num_categories: int,
    held_out: Sequence[np.ndarray],
) -> tuple[Float[np.ndarray, "E C"], Float[np.ndarray, "C"]]:
    """Weights and intercepts of the logits, of the penalty with the highest UAR on held-out utterances.

    Args:
      features: standardised.
      emotion: category; -1 where missing.
      num_categories: C.
      held_out: held-out utterances of every fold.
    """
    labelled = emotion != MISSING_EMOTION
    targets = np.eye(num_categories)[np.maximum(emotion, 0)]

    def balanced(rows: np.ndarray) -> np.ndarray:
        counts = np.bincount(emotion[rows], minlength=num_categories)
        return rows.sum() / ((counts > 0).sum() * counts[emotion[rows]])

    predicted = _held_out_predictions(features, targets, labelled, balanced, held_out)
    known = labelled & ~np.isnan(predicted[0, :, 0])
    best = int(np.argmax([_recall(found[known], emotion[known]) for found in predicted]))
    entropies = [_cross_entropy(factor * predicted[best, known], emotion[known]) for factor in _FACTORS]
    factor = _FACTORS[int(np.argmin(entropies))]
    ((weights, intercept),) = solve_ridge(features[labelled], targets[labelled], balanced(labelled), [PENALTIES[best]])
    return factor * weights, factor * intercept


def solve_ridge(
    features: Float[np.ndarray, "N E"],
    targets: Float[np.ndarray, "N K"],
    weights: Float[np.ndarray, "N"],
    penalties: Sequence[float],
) -> list[tuple[Float[np.ndarray, "E K"], Float[np.ndarray, "K"]]]:
    """Minimises the weighted sum of squared errors plus penalty * E times the squared norm, intercepts free.

    Args:
      features: any values.
      targets: K regressions.
      weights: > 0, of every row.
      penalties: one solution each.

    Returns:
      Weights and intercepts by penalty; solved in the smaller of N and E dimensions.
    """
    centre, middle = np.average(features, axis=0, weights=weights), np.average(targets, axis=0, weights=weights)
    root = np.sqrt(weights)[:, None]
    rows, wanted = root * (features - centre), root * (targets - middle)
    dual = rows.shape[0] < rows.shape[1]
    gram = rows @ rows.T if dual else rows.T @ rows
    right = wanted if dual else rows.T @ wanted
    solutions = []
    for penalty in penalties:
        factor = cho_factor(gram + penalty * features.shape[1] * np.eye(len(gram)))
        solved = cho_solve(factor, right)
        kernel = rows.T @ solved if dual else solved
        solutions.append((kernel, middle - centre @ kernel))
    return solutions


def _held_out_predictions(
    features: np.ndarray,
    targets: np.ndarray,
    labelled: np.ndarray,
    weights_of: Callable[[np.ndarray], np.ndarray],
    held_out: Sequence[np.ndarray],
) -> Float[np.ndarray, "P N K"]:
    predicted = np.full((len(PENALTIES), *targets.shape), np.nan)
    for test in held_out:
        fitted = labelled & ~test
        if fitted.sum() < 2:
            continue
        for number, (kernel, bias) in enumerate(
            solve_ridge(features[fitted], targets[fitted], weights_of(fitted), PENALTIES)
        ):
            predicted[number, test] = features[test] @ kernel + bias
    return predicted


def _correlation(predicted: np.ndarray, labels: np.ndarray) -> float:
    if len(labels) < 2 or np.ptp(predicted) == 0 or np.ptp(labels) == 0:
        return 0.0
    return float(np.corrcoef(predicted, labels)[0, 1])


def _recall(scores: np.ndarray, emotion: np.ndarray) -> float:
    hit = scores.argmax(axis=1) == emotion
    return float(np.mean([hit[emotion == category].mean() for category in np.unique(emotion)])) if len(hit) else 0.0


def _cross_entropy(logits: np.ndarray, emotion: np.ndarray) -> float:
    shifted = logits - logits.max(axis=1, keepdims=True, initial=-np.inf)
    return float((np.log(np.exp(shifted).sum(axis=1)) - shifted[np.arange(len(emotion)), emotion]).mean())


def _set_column(leaf: Any, column: int, values: Any) -> Any:
    array = np.array(leaf)
    array[..., column] = values
    return to_device(array.astype(np.float32), leaf.sharding)


def _copied(heads: dict[str, Any]) -> dict[str, Any]:
    return {name: {part: leaf.copy() for part, leaf in layer.items()} for name, layer in heads.items()}
