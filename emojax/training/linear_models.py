"""Ridge and logistic regression in float64, and held-out speakers to tune them by."""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Bool, Float, Int

from emojax.data import label_strata, speaker_folds

NUM_FOLDS = 4
"""Folds that penalties are tuned by."""


def held_out_speakers(
    speakers: np.ndarray, attributes: Float[np.ndarray, "N 3"], emotion: Int[np.ndarray, "N"]
) -> list[Bool[np.ndarray, "N"]]:
    """Held-out utterances of every fold: groups of speakers, or every fourth utterance of a single speaker.

    Args:
      speakers: speaker of every utterance.
      attributes: labels, NaN where missing.
      emotion: category, -1 where missing.
    """
    num_speakers = len(np.unique(speakers))
    if num_speakers < 2:
        return [np.arange(len(speakers)) % NUM_FOLDS == fold for fold in range(NUM_FOLDS)]
    groups = speaker_folds(speakers, label_strata(attributes, emotion), min(NUM_FOLDS, num_speakers))
    return [np.isin(speakers, group) for group in groups]


def fit_ridge(
    features: Float[np.ndarray, "N D"], labels: Float[np.ndarray, "N"], penalties: Sequence[float]
) -> tuple[Float[np.ndarray, "P D"], Float[np.ndarray, "P"]]:
    """Minimises the sum of squared errors plus penalty times the squared norm of the weights, the intercept free.

    Args:
      features: any values.
      labels: without missing values.
      penalties: P of them, > 0.

    Returns:
      Weights and intercepts by penalty; solved in the smaller of N and D dimensions.
    """
    from scipy.linalg import cho_factor, cho_solve

    centre, middle = features.mean(axis=0), labels.mean()
    rows, wanted = features - centre, labels - middle
    dual = rows.shape[0] < rows.shape[1]
    gram = rows @ rows.T if dual else rows.T @ rows
    right = wanted if dual else rows.T @ wanted
    weights = np.zeros((len(penalties), rows.shape[1]))
    for number, penalty in enumerate(penalties):
        solved = cho_solve(cho_factor(gram + penalty * np.eye(len(gram))), right)
        weights[number] = rows.T @ solved if dual else solved
    return weights, middle - weights @ centre


def fit_logistic(
    features: Float[np.ndarray, "N D"],
    labels: Int[np.ndarray, "N"],
    num_categories: int,
    penalties: Sequence[float],
) -> list[Float[np.ndarray, "E C"]]:
    """Minimises the sum of cross-entropies plus penalty / 2 times the squared norm, intercepts free.

    Utterances are weighted to equal shares of the categories that occur. L-BFGS, as scikit-learn's
    `LogisticRegression(C=1 / penalty, class_weight="balanced")`.

    Args:
      features: standardised.
      labels: categories.
      num_categories: C.
      penalties: each starts from the solution of the one before: descending ones take least time.

    Returns:
      Parameters by penalty, the intercepts in the last row (E = D + 1).
    """
    from scipy.optimize import minimize

    # With fewer utterances than features, the weights are combinations of utterances.
    basis = _row_space(features) if 2 * features.shape[0] < features.shape[1] else None
    inputs = features if basis is None else features @ basis
    extended = np.concatenate([inputs, np.ones((len(inputs), 1))], axis=1)
    target, weights = np.eye(num_categories)[labels], balanced_weights(labels)
    shape = (extended.shape[1], num_categories)

    def loss(flat: np.ndarray, penalty: float) -> tuple[float, np.ndarray]:
        parameters = flat.reshape(shape)
        logits = extended @ parameters
        logits -= logits.max(axis=1, keepdims=True)
        exponentials = np.exp(logits)
        total = exponentials.sum(axis=1, keepdims=True)
        penalised = parameters.copy()
        penalised[-1] = 0
        entropy = np.log(total[:, 0]) - (logits * target).sum(axis=1)
        value = weights @ entropy + 0.5 * penalty * np.square(penalised).sum()
        gradient = extended.T @ (weights[:, None] * (exponentials / total - target)) + penalty * penalised
        return float(value), gradient.ravel()

    flat, solutions = np.zeros(shape).ravel(), []
    for penalty in penalties:
        options = {"maxiter": 200, "gtol": 1e-3}
        flat = minimize(loss, flat, (penalty,), jac=True, method="L-BFGS-B", options=options).x
        found = flat.reshape(shape)
        solutions.append(found if basis is None else np.concatenate([basis @ found[:-1], found[-1:]]))
    return solutions


def balanced_weights(labels: Int[np.ndarray, "N"]) -> Float[np.ndarray, "N"]:
    """Weights of mean 1 that give every category that occurs the same sum."""
    counts = np.bincount(labels)
    return len(labels) / ((counts > 0).sum() * counts[labels])


def _row_space(features: Float[np.ndarray, "N D"]) -> Float[np.ndarray, "D R"]:
    """Orthonormal basis of the space that the rows span."""
    values, vectors = np.linalg.eigh(features @ features.T)
    kept = values > 1e-9 * values[-1]
    return features.T @ (vectors[:, kept] / np.sqrt(values[kept]))
