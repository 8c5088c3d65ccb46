"""Scores of the predictions of a split, with intervals and baselines, as a tree for strict JSON."""

import dataclasses
import math
from collections.abc import Mapping
from typing import Any

import numpy as np
from jaxtyping import Float, Int

from emojax.errors import EmojaxError
from emojax.evaluation.categories import CategoryMatch
from emojax.evaluation.predictions import Predictions
from emojax.evaluation.ratings import summarise_agreement, summarise_ratings
from emojax.evaluation.validation import undefined_scores
from emojax.evaluation.votes import summarise_votes
from emojax.metrics import (
    bootstrap_classification,
    bootstrap_regression,
    classification_scores,
    confusion_matrix,
    majority_emotion,
    mean_attributes,
    random_attributes,
    random_emotion,
    regression_scores,
    resampled_by,
)
from emojax.metrics.scores import CLASSIFICATION_MEASURES, REGRESSION_MEASURES
from emojax.types import ATTRIBUTES, MISSING_EMOTION

NUM_RANDOM_DRAWS = 100
"""Draws that the scores of the random baseline are averaged over."""

Scores = dict[str, Any]


@dataclasses.dataclass(frozen=True, eq=False)
class TrainLabels:
    """Labels of the training split, which the baselines predict from.

    Attributes:
      attributes: labels in the scale of the evaluated corpus, in the order of `ATTRIBUTES`; NaN where missing.
      emotions: index into the categories of the evaluated corpus; -1 where missing.
    """

    attributes: Float[np.ndarray, "M 3"]
    emotions: Int[np.ndarray, "M"]


def summarise(
    predictions: Predictions, train_labels: TrainLabels | None, num_resamples: int = 1000, seed: int = 0
) -> dict[str, Any]:
    """Scores predictions over all utterances of the split together.

    Args:
      predictions: predictions of one split.
      train_labels: labels for the baselines; None: no baselines.
      num_resamples: number of bootstrap resamples.
      seed: seed of the bootstrap; the baselines do not depend on it.

    Returns:
      A tree for `json.dump(..., allow_nan=False)`; numbers that are not defined are None. Keys:
        corpus, split, n, speech, attribute_source, scale, categories; speakers (None if unknown);
        labelled: number of labelled utterances per attribute and for `emotion`;
        interval: description of the intervals; bootstrap: over, resamples, seed;
        category_match: None without a model's categories; else `mapping` (the model's categories by the corpus's that
          they are scored against), `only_in_corpus`, `only_in_model`, and `skipped`: number of labelled utterances
          of categories that the model does not have, which are not scored. `categories` are the scored categories;
        undefined: the reason for every score that is None, by its name, e.g. `ccc.valence` (see `undefined_scores`),
          and for every interval, e.g. `uar.interval`;
        ccc, pearson, rmse, mae: per attribute value, low, high; `ccc.mean.value`, None unless all three are defined
          (all absent if no attribute is both predicted and labelled; errors are in the unit of the corpus's scale);
        uar, macro_f1, accuracy: value, low, high; confusion: counts, row = label, column = prediction
          (all absent if categories are not both predicted and labelled);
        ratings: of a model that predicts distributions of ratings: see `summarise_ratings`;
        votes: of predicted categories, where raters' votes are known: see `summarise_votes`;
        agreement: scores by the raters' agreement, where their deviations are known: see `summarise_agreement`;
        baselines: mean (the mean, for categories the majority) and random (mean over draws from the training labels),
          each with the scores above as plain numbers.

    Raises:
      EmojaxError: there is no utterance.
    """
    if not predictions.ids:
        raise EmojaxError(f"{predictions.corpus.name}, split {predictions.split}: nothing to evaluate, no utterance")
    corpus, speakers = predictions.corpus, predictions.speakers
    labels = _usable_attribute_labels(predictions)
    has_emotions = predictions.emotion_probabilities.shape[1] > 0 and (predictions.emotion_labels >= 0).any()
    summary: dict[str, Any] = {
        "corpus": corpus.name,
        "split": predictions.split,
        "n": len(predictions.ids),
        "speech": corpus.speech,
        "attribute_source": corpus.attribute_source,
        "scale": list(corpus.scale),
        "categories": list(corpus.categories),
        "speakers": len(set(speakers) - {""}) or None,
        "category_match": _describe_match(predictions),
        "labelled": _count_labelled(predictions),
        "interval": _describe_interval(speakers, num_resamples),
        "bootstrap": {"over": resampled_by(speakers), "resamples": num_resamples, "seed": seed},
    }
    reasons = undefined_scores(predictions)
    if not np.isnan(labels).all():
        intervals = bootstrap_regression(predictions.attributes, labels, speakers, num_resamples, seed)
        intervals = _without_undefined(intervals, reasons)
        summary |= _nulled(intervals)
        summary["ccc"]["mean"] = {"value": _mean([intervals["ccc"][name]["value"] for name in ATTRIBUTES])}
    if has_emotions:
        predicted, emotions = predictions.predicted_emotions, predictions.emotion_labels
        num_categories = len(corpus.categories)
        named = bootstrap_classification(predicted, emotions, num_categories, speakers, num_resamples, seed)
        summary |= _nulled(_without_undefined(named, reasons))
        summary["confusion"] = confusion_matrix(predicted, emotions, num_categories).tolist()
    if predictions.emotion_votes is not None and predictions.emotion_probabilities.shape[1]:
        votes = summarise_votes(
            predictions.emotion_probabilities, predictions.emotion_votes, predictions.emotion_labels
        )
        summary |= {"votes": _finite(votes)} if votes else {}
    if predictions.ratings is not None:
        if predictions.ratings.bins:
            summary["ratings"] = _finite(summarise_ratings(predictions.ratings))
        agreement = summarise_agreement(predictions.attributes, predictions.attribute_labels, predictions.ratings.stds)
        summary |= {"agreement": _finite(agreement)} if agreement else {}
    summary["undefined"] = _stated_reasons(summary, reasons, predictions.match)
    if train_labels is not None:
        emotions = predictions.emotion_labels if has_emotions else np.full(len(labels), MISSING_EMOTION)
        summary["baselines"] = _score_baselines(labels, emotions, len(corpus.categories), train_labels, reasons)
    return summary


def _usable_attribute_labels(predictions: Predictions) -> np.ndarray:
    """The labels, NaN for attributes that are not predicted."""
    unpredicted = np.isnan(predictions.attributes).all(axis=0)
    return np.where(unpredicted, np.nan, predictions.attribute_labels)


def _count_labelled(predictions: Predictions) -> dict[str, int]:
    counts = (~np.isnan(predictions.attribute_labels)).sum(axis=0).tolist()
    return dict(zip(ATTRIBUTES, counts, strict=True)) | {"emotion": int((predictions.emotion_labels >= 0).sum())}


def _describe_interval(speakers: list[str], num_resamples: int) -> str:
    known = len(set(speakers) - {""})
    unknown = sum(not speaker for speaker in speakers)
    if resampled_by(speakers) == "speaker":
        units, remark = f"{known} speakers", f" and {unknown} utterances of unknown speakers" if unknown else ""
    else:
        units = f"{len(speakers)} utterances"
        few = f"only {known} speaker{'s' if known > 1 else ''}" if known else "speakers unknown"
        remark = f" ({few}: no estimate for other speakers)"
    return f"95 % bootstrap over {units}{remark}, {num_resamples} resamples"


def _score_baselines(
    labels: np.ndarray, emotions: np.ndarray, num_categories: int, train: TrainLabels, reasons: Mapping[str, str]
) -> dict[str, Scores]:
    train_attributes = np.asarray(train.attributes, np.float64)
    has_attributes = not np.isnan(labels).all() and not np.isnan(train_attributes).all()
    has_emotions = (emotions >= 0).any() and (np.asarray(train.emotions) >= 0).any()
    n = len(labels)

    def score(attributes: np.ndarray | None, predicted: np.ndarray | None) -> Scores:
        scores: Scores = {}
        if attributes is not None:
            scores |= regression_scores(attributes, labels)  # of what is constant, Pearson's correlation is NaN
        if predicted is not None:
            scores |= classification_scores(confusion_matrix(predicted, emotions, num_categories))
        return _without_undefined(scores, {name: why for name, why in reasons.items() if "pearson" not in name})

    mean = score(
        mean_attributes(train_attributes, n) if has_attributes else None,
        majority_emotion(train.emotions, n) if has_emotions else None,
    )
    draws = [
        score(
            random_attributes(train_attributes, n, draw) if has_attributes else None,
            random_emotion(train.emotions, n, draw) if has_emotions else None,
        )
        for draw in range(NUM_RANDOM_DRAWS)
    ]
    return {name: _complete(scores) for name, scores in (("mean", mean), ("random", _average(draws)))}


def _describe_match(predictions: Predictions) -> dict[str, Any] | None:
    match = predictions.match
    if match is None or not match.model:
        return None
    return {
        "mapping": match.mapping,
        "only_in_corpus": match.only_in_corpus,
        "only_in_model": match.only_in_model,
        "skipped": predictions.num_unscored,
    }


def _stated_reasons(
    summary: Mapping[str, Any], reasons: Mapping[str, str], match: CategoryMatch | None
) -> dict[str, str]:
    """Reasons for the undefined scores of a summary, and for absent category scores if too few are shared."""
    unshared = match is not None and bool(match.corpus) and not match.usable
    found = {
        name: why
        for name, why in reasons.items()
        if name.split(".")[0] in summary or (unshared and name in CLASSIFICATION_MEASURES)
    }
    for measure in (*REGRESSION_MEASURES, *CLASSIFICATION_MEASURES):
        scores = summary.get(measure, {})
        named = {measure: scores} if "value" in scores else {f"{measure}.{key}": score for key, score in scores.items()}
        for name, score in named.items():
            if name == "ccc.mean":
                found |= {} if score["value"] is not None else {name: "not all three are defined"}
            elif score["value"] is not None and score["low"] is None:
                found[f"{name}.interval"] = "too few speakers or utterances to resample"
    return found


def _without_undefined(scores: Mapping[str, Any], reasons: Mapping[str, str]) -> Scores:
    """The scores, with NaN for undefined ones and the ends of their intervals."""

    def cleared(tree: Mapping[str, Any], path: str) -> Scores:
        found: Scores = {}
        for key, value in tree.items():
            name = f"{path}{key}"
            if isinstance(value, Mapping):
                found[key] = dict.fromkeys(value, math.nan) if name in reasons else cleared(value, f"{name}.")
            else:
                found[key] = math.nan if name in reasons else value
        return found

    return cleared(scores, "")


def _complete(scores: Scores) -> Scores:
    """Adds the mean CCC and replaces undefined values by None."""
    completed = _nulled(scores)
    if "ccc" in scores:
        completed["ccc"]["mean"] = _mean([scores["ccc"][attribute] for attribute in ATTRIBUTES])
    return completed


def _average(draws: list[Scores]) -> Scores:
    first = draws[0]
    return {
        name: _average([draw[name] for draw in draws])
        if isinstance(first[name], dict)
        else float(np.mean([draw[name] for draw in draws]))
        for name in first
    }


def _mean(values: list[float]) -> float | None:
    return _null(sum(values) / len(values))


def _nulled(tree: Mapping[str, Any]) -> Scores:
    """The tree with None for every undefined number."""
    return {key: _nulled(value) if isinstance(value, Mapping) else _null(value) for key, value in tree.items()}


def _finite(tree: Any) -> Any:
    """A tree of mappings, lists and numbers, with None for every undefined number."""
    if isinstance(tree, Mapping):
        return {key: _finite(value) for key, value in tree.items()}
    if isinstance(tree, list):
        return [_finite(value) for value in tree]
    return _null(tree) if isinstance(tree, float) else tree


def _null(value: float) -> float | None:
    return value if math.isfinite(value) else None
