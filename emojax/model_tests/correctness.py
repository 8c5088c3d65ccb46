"""Tests of correctness: agreement of predictions with labels, per utterance, as distributions, and per speaker."""

from collections.abc import Iterator

import numpy as np
from jaxtyping import Float, Int

from emojax.evaluation import same_categories
from emojax.metrics.scores import confusion_matrix, mae, pearson, ratio_or_nan, uar
from emojax.model_tests.measurement import Measurement, ccc_of
from emojax.model_tests.results import EMOTION, Result, at_least, at_most, skipped
from emojax.types import MISSING_EMOTION

EXPECTED = {
    "anger": {"activation": "high", "valence": "low", "dominance": "high"},
    "boredom": {"activation": "low", "valence": "low", "dominance": "low"},
    "disgust": {"valence": "low"},
    "fear": {"activation": "high", "valence": "low", "dominance": "low"},
    "frustration": {"valence": "low"},
    "happiness": {"activation": "high", "valence": "high", "dominance": "high"},
    "neutral": {"activation": "neutral", "valence": "neutral", "dominance": "neutral"},
    "sadness": {"activation": "low", "valence": "low", "dominance": "low"},
    "surprise": {"activation": "high"},
}
"""Range of each attribute that speech of a category is expected in, after the signs of the ratings of emotion terms in
Russell & Mehrabian (1977); attributes on which studies disagree are omitted."""


def regression(measurement: Measurement) -> Iterator[Result]:
    """CCC, Pearson's correlation and mean absolute error of each attribute."""
    bounds = measurement.config.correctness
    for name, column in measurement.scored_attributes:
        predicted, labels = measurement.clean.attributes[:, column], measurement.utterances.attributes[:, column]
        fields = {"output": name, "n": int((~np.isnan(labels)).sum())}
        if np.nanmin(labels) == np.nanmax(labels):
            yield skipped("all labels are equal", metric="CCC and Pearson correlation", **fields)
        else:
            yield at_least(ccc_of(predicted, labels), bounds.ccc, metric="CCC", **fields)
            correlation = pearson(predicted[:, None], labels[:, None])[0]
            yield at_least(correlation, bounds.pearson, metric="Pearson correlation", **fields)
        yield at_most(mae(predicted[:, None], labels[:, None])[0], bounds.mae, metric="MAE", **fields)


def classification(measurement: Measurement) -> Iterator[Result]:
    """Unweighted average recall and precision, and recall and precision of each category."""
    bounds = measurement.config.correctness
    confusion = _confusion(measurement)
    labelled, predicted = confusion.sum(axis=1), confusion.sum(axis=0)
    precision = ratio_or_nan(np.diagonal(confusion), predicted)
    recall = ratio_or_nan(np.diagonal(confusion), labelled)
    fields = {"output": EMOTION, "n": int(confusion.sum())}
    yield at_least(float(uar(confusion)), bounds.uar, metric="UAR", **fields)
    present = labelled > 0
    yield at_least(float(np.where(predicted > 0, precision, 0.0)[present].mean()), bounds.uap, metric="UAP", **fields)
    for category, name in enumerate(measurement.match.scored):
        own = {"output": EMOTION, "condition": name, "n": int(labelled[category])}
        if labelled[category] < bounds.min_category:
            note = f"{labelled[category]} utterances of the category, at least {bounds.min_category} are needed"
            yield skipped(note, metric="recall and precision", **own)
            continue
        yield at_least(recall[category], bounds.recall, metric="recall", **own)
        value, note = (precision[category], "") if predicted[category] else (0.0, "the category is never predicted")
        yield at_least(value, bounds.precision, metric="precision", note=note, **own)


def consistency(measurement: Measurement) -> Iterator[Result]:
    """Share of the utterances of each category whose predicted attributes are in the range of `EXPECTED`."""
    bounds = measurement.config.correctness
    ranges = {"high": (bounds.high, np.inf), "low": (-np.inf, bounds.low), "neutral": bounds.neutral}
    names = same_categories(measurement.utterances.info.categories, list(EXPECTED))
    for index, category in enumerate(measurement.utterances.info.categories):
        members = measurement.utterances.emotion == index
        fields = {"metric": "share in range", "n": int(members.sum())}
        if category not in names:
            yield skipped("no range is expected for the category", output="", condition=category, **fields)
            continue
        for name, column in measurement.predicted_attributes:
            if name not in EXPECTED[names[category]]:
                continue
            expected = EXPECTED[names[category]][name]
            own = {"output": name, "condition": f"{category}: {expected}", **fields}
            if members.sum() < bounds.min_category:
                note = f"{members.sum()} utterances of the category, at least {bounds.min_category} are needed"
                yield skipped(note, **own)
                continue
            low, high = ranges[expected]
            values = measurement.clean.attributes[members, column]
            yield at_least(((values >= low) & (values <= high)).mean(), bounds.consistent, **own)


def distribution(measurement: Measurement) -> Iterator[Result]:
    """Jensen-Shannon distance of the distributions of predictions and labels; difference in category shares."""
    bounds = measurement.config.correctness
    for name, column in measurement.scored_attributes:
        labels = measurement.utterances.attributes[:, column]
        labelled = ~np.isnan(labels)
        distance = jensen_shannon_distance(
            _histogram(measurement.clean.attributes[labelled, column], bounds.distance_bins),
            _histogram(labels[labelled], bounds.distance_bins),
        )
        n = int(labelled.sum())
        yield at_most(distance, bounds.distance, output=name, metric="Jensen-Shannon distance", n=n)
    if not measurement.why_no_emotion:
        confusion = _confusion(measurement)
        difference = np.abs(confusion.sum(axis=0) - confusion.sum(axis=1)) / confusion.sum()
        for category, name in enumerate(measurement.match.scored):
            fields = {"output": EMOTION, "condition": name, "n": int(confusion.sum())}
            yield at_most(difference[category], bounds.category_share, metric="difference of shares", **fields)


def speaker_average(measurement: Measurement) -> Iterator[Result]:
    """Mean absolute error of the speakers' mean attributes, and of their category shares."""
    bound = measurement.config.correctness.speaker_error
    for fields, predicted, labelled in _speaker_values(measurement):
        if len(predicted) < 2:
            yield skipped(_too_few(measurement, len(predicted), 2), metric="MAE of speakers", **fields)
            continue
        error = np.abs(predicted - labelled).mean()
        yield at_most(error, bound, metric="MAE of speakers", n=len(predicted), **fields)


def speaker_ranking(measurement: Measurement) -> Iterator[Result]:
    """Rank correlation of the speakers' mean attributes, and of their category shares."""
    from scipy import stats

    bounds = measurement.config.correctness
    for fields, predicted, labelled in _speaker_values(measurement):
        fields["metric"] = "Spearman correlation of speakers"
        if len(predicted) < bounds.ranking_speakers:
            yield skipped(_too_few(measurement, len(predicted), bounds.ranking_speakers), **fields)
        elif np.ptp(labelled) == 0:
            yield skipped("the labels of all speakers have the same mean", **fields)
        else:
            value = stats.spearmanr(predicted, labelled).statistic if np.ptp(predicted) > 0 else np.nan
            yield at_least(value, bounds.ranking, n=len(predicted), **fields)


def jensen_shannon_distance(first: Float[np.ndarray, "B"], second: Float[np.ndarray, "B"]) -> float:
    """Jensen-Shannon distance of two distributions, to the base 2: 0 if equal, 1 if disjoint.

    Args:
      first: probability or count of each bin.
      second: the same of another distribution.
    """
    from scipy.spatial.distance import jensenshannon

    return float(jensenshannon(first, second, base=2))


def _histogram(values: Float[np.ndarray, "N"], bins: int) -> Float[np.ndarray, "B"]:
    """Counts per bin of [0, 1]; values beyond the ends are in the first and last bin."""
    return np.histogram(np.clip(values, 0, 1), bins, (0, 1))[0].astype(np.float64)


def _confusion(measurement: Measurement) -> Int[np.ndarray, "C C"]:
    predicted = measurement.predicted_emotion(measurement.clean)
    return confusion_matrix(predicted, measurement.emotion, len(measurement.match.scored))


def _speaker_values(
    measurement: Measurement,
) -> Iterator[tuple[dict[str, str], Float[np.ndarray, "K"], Float[np.ndarray, "K"]]]:
    """Yields output and condition, and predicted and labelled mean (or share) of every speaker with enough labels."""
    speakers = np.array(measurement.utterances.speakers)
    least = measurement.config.correctness.min_speaker

    def means(predicted: np.ndarray, labels: np.ndarray, labelled: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        members = [labelled & (speakers == speaker) for speaker in np.unique(speakers[speakers != ""])]
        members = [rows for rows in members if rows.sum() >= least]
        return (
            np.array([predicted[rows].mean() for rows in members]),
            np.array([labels[rows].mean() for rows in members]),
        )

    for name, column in measurement.scored_attributes:
        labels = measurement.utterances.attributes[:, column]
        yield {"output": name}, *means(measurement.clean.attributes[:, column], labels, ~np.isnan(labels))
    if not measurement.why_no_emotion:
        predicted, labels = measurement.predicted_emotion(measurement.clean), measurement.emotion
        for category, name in enumerate(measurement.match.scored):
            fields = {"output": EMOTION, "condition": name}
            yield fields, *means(predicted == category, labels == category, labels != MISSING_EMOTION)


def _too_few(measurement: Measurement, speakers: int, least: int) -> str:
    each = measurement.config.correctness.min_speaker
    return f"{speakers} speakers with at least {each} labelled utterances, at least {least} are needed"
