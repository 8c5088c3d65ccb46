"""Which scores of a split are undefined, and why: they are null in files and a dash in tables, never a number.

Agreement needs labels that differ: of a split whose labels are all the same value, or of one utterance, CCC, Pearson's
correlation, UAR and macro F1 measure nothing, though their formulas give 0 or 1. Errors and accuracy are defined.
"""

import numpy as np

from emojax.evaluation.predictions import Predictions
from emojax.types import ATTRIBUTES


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
