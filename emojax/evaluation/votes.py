"""Predicted probabilities of categories against the shares of the raters' votes, and scores by agreement."""

from typing import Any

import numpy as np
from jaxtyping import Float, Int

from emojax.evaluation.categories import CategoryMatch
from emojax.metrics import classification_scores, confusion_matrix
from emojax.types import MISSING_EMOTION


def scored_votes(votes: Float[np.ndarray, "N V"], match: CategoryMatch) -> Float[np.ndarray, "N C"]:
    """Shares of votes over the scored categories, which sum to 1; NaN without a vote for any of them.

    Args:
      votes: shares over the categories of the corpus; NaN where missing.
      match: match of the model's categories with the corpus's.
    """
    grouped = np.stack([votes[:, list(group)].sum(axis=1) for group in match.in_corpus], axis=1).astype(np.float64)
    total = grouped.sum(axis=1, keepdims=True)
    return np.where(total > 0, grouped / np.where(total > 0, total, 1.0), np.nan)


def summarise_votes(
    probabilities: Float[np.ndarray, "N C"], votes: Float[np.ndarray, "N C"], labels: Int[np.ndarray, "N"]
) -> dict[str, Any]:
    """Scores of predicted probabilities, every utterance with equal weight.

    Args:
      probabilities: of the scored categories.
      votes: from `scored_votes`.
      labels: consensus categories; -1 where missing.

    Returns:
      utterances: number with votes; nll: mean of −Σ votes log p, nats; nll_marginal: of the mean shares of the split
      for every utterance; nll_votes: mean entropy of the votes, the least value possible; entropy_correlation:
      Pearson's correlation of the entropies of prediction and votes; agreement: up to three strata of labelled
      utterances by the entropy of their votes (ends at the terciles), with entropy_from, entropy_to, n, uar, accuracy.
      NaN where undefined; {} without votes.
    """
    known = ~np.isnan(votes).any(axis=1)
    if not known.any():
        return {}
    shares, predicted = votes[known], probabilities[known]
    entropies, own = _cross_entropies(shares, shares), _cross_entropies(predicted, predicted)
    varied = np.ptp(entropies) > 0 and np.ptp(own) > 0
    return {
        "utterances": int(known.sum()),
        "nll": float(_cross_entropies(shares, predicted).mean()),
        "nll_marginal": float(_cross_entropies(shares, shares.mean(axis=0, keepdims=True)).mean()),
        "nll_votes": float(entropies.mean()),
        "entropy_correlation": float(np.corrcoef(entropies, own)[0, 1]) if varied else float("nan"),
        "agreement": _strata(predicted, entropies, labels[known]),
    }


def _strata(predicted: np.ndarray, entropies: np.ndarray, labels: np.ndarray) -> list[dict[str, Any]]:
    labelled = labels != MISSING_EMOTION
    if not labelled.any():
        return []
    predicted, entropies, labels = predicted[labelled], entropies[labelled], labels[labelled]
    # Beyond rounding, so that equal shares are in one stratum.
    numbers = np.searchsorted(np.unique(np.quantile(entropies, (1 / 3, 2 / 3))), entropies - 1e-6)
    found = []
    for number in np.unique(numbers):
        rows = numbers == number
        confusion = confusion_matrix(predicted[rows].argmax(axis=1), labels[rows], predicted.shape[1])
        scores = classification_scores(confusion)
        ends = {"entropy_from": float(entropies[rows].min()), "entropy_to": float(entropies[rows].max())}
        found.append({**ends, "n": int(rows.sum()), "uar": scores["uar"], "accuracy": scores["accuracy"]})
    return found


def _cross_entropies(shares: np.ndarray, predicted: np.ndarray) -> np.ndarray:
    logs = np.log(np.maximum(predicted, np.finfo(np.float64).tiny))
    return -np.where(shares > 0, shares * logs, 0.0).sum(axis=1)
