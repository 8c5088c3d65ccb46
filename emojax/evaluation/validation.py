"""Scores that rank checkpoints, and the reasons for undefined scores.

Undefined scores are null in files and a dash in tables, never a number. Agreement needs labels that differ: on a split
whose labels are all the same value, or on one utterance, CCC, Pearson's correlation, UAR and macro F1 measure nothing,
though their formulas give 0 or 1. Errors and accuracy are defined.
"""

from typing import Literal

import numpy as np

from emojax.errors import TrainingError
from emojax.evaluation.predictions import Predictions
from emojax.metrics import classification_scores, confusion_matrix, regression_scores
from emojax.types import ATTRIBUTES


def validation_metrics(predictions: Predictions, score: Literal["auto", "ccc", "uar"]) -> dict[str, float]:
    """Computes the metrics that rank checkpoints.

    Args:
      predictions: predictions of the validation split.
      score: metric that ranks checkpoints: the mean CCC of the attributes that are predicted and labelled, the UAR, or
        (`auto`) the mean CCC where there is one and else the UAR.

    Returns:
      `ccc_<attribute>`, `uar`, `accuracy` where defined (see `emojax.evaluation.results`), and `score`.

    Raises:
      TrainingError: the score is undefined.
    """
    metrics: dict[str, float] = {}
    reasons = undefined_scores(predictions)
    labels, predicted = predictions.attribute_labels, predictions.attributes
    scores = regression_scores(predicted, np.where(np.isnan(predicted), np.nan, labels))["ccc"]
    for attribute in ATTRIBUTES:
        if f"ccc.{attribute}" not in reasons:
            metrics[f"ccc_{attribute}"] = scores[attribute]
    ccc = float(np.mean(list(metrics.values()))) if metrics else None
    if "accuracy" not in reasons:
        categories = predictions.emotion_probabilities.shape[1]
        confusion = confusion_matrix(predictions.predicted_emotions, predictions.emotion_labels, categories)
        named = classification_scores(confusion)
        metrics |= {name: named[name] for name in ("uar", "accuracy") if name not in reasons}
    chosen = ccc if score == "ccc" or (score == "auto" and ccc is not None) else metrics.get("uar")
    if chosen is None:
        why = "; ".join(f"{name}: {why}" for name, why in reasons.items() if name.startswith(("ccc.", "uar")))
        raise TrainingError(f"{predictions.corpus.name}, split {predictions.split!r}: no score to validate by ({why})")
    return metrics | {"score": chosen}


def undefined_scores(predictions: Predictions) -> dict[str, str]:
    """The reason by the name of a score: `ccc.valence`, `pearson.valence`, `rmse.valence`, `mae.valence`, `uar`,
    `macro_f1`, `accuracy`. Scores that are defined are absent."""
    reasons: dict[str, str] = {}
    for column, attribute in enumerate(ATTRIBUTES):
        labels, predicted = predictions.attribute_labels[:, column], predictions.attributes[:, column]
        labelled = ~np.isnan(labels)
        if np.isnan(predicted).all():
            nothing = "not predicted"
        elif not labelled.any():
            nothing = "no utterance has a label"
        else:
            nothing = ""
        agreement = nothing or _no_variation(labels[labelled], "label")
        correlation = agreement or _no_variation(predicted[labelled], "prediction")
        reasons |= {f"{name}.{attribute}": nothing for name in ("rmse", "mae") if nothing}
        reasons |= {f"ccc.{attribute}": agreement} if agreement else {}
        reasons |= {f"pearson.{attribute}": correlation} if correlation else {}
    return reasons | _undefined_categories(predictions)


def _undefined_categories(predictions: Predictions) -> dict[str, str]:
    known = predictions.emotion_labels[predictions.emotion_labels >= 0]
    match = predictions.match
    if predictions.emotion_probabilities.shape[1] == 0:
        nothing = "not predicted"
        if match is not None and match.corpus and match.model:
            nothing = f"model and corpus share {len(match.scored)} categories, 2 are needed"
    elif not known.size:
        nothing = "no utterance has a label"
    else:
        nothing = ""
    agreement = nothing
    if not agreement and len(np.unique(known)) < 2:
        agreement = f"every label is {predictions.corpus.categories[known[0]]!r}"
    reasons = {"accuracy": nothing} if nothing else {}
    return reasons | ({"uar": agreement, "macro_f1": agreement} if agreement else {})


def _no_variation(values: np.ndarray, what: str) -> str:
    if len(values) < 2:
        return "only one utterance has a label"
    return f"every {what} is {values[0]:g}" if np.ptp(values) == 0 else ""
