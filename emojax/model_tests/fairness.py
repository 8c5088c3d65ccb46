"""Tests of fairness: differences of scores between groups of speakers, and shifts of the mean prediction."""

from collections.abc import Iterator, Sequence

import numpy as np
from jaxtyping import Float, Int

from emojax.model_tests.chance import (
    Simulate,
    ccc_differences,
    class_differences,
    random_values,
    shifts,
    simulated_bounds,
    threshold_note,
)
from emojax.model_tests.groups import Matched, bins_of, grouping, match_groups, pitch_groups
from emojax.model_tests.measurement import Measurement
from emojax.model_tests.results import EMOTION, TOO_SMALL, Result, at_most, skipped

BINS = 4
"""Bins of [0, 1] whose recall and precision are compared."""


def sex(measurement: Measurement) -> Iterator[Result]:
    """Differences of the scores of each sex from those of all."""
    bounds = measurement.config.fairness
    groups, reason = grouping(measurement, "sex")
    yield from _differences(measurement, groups, reason, bounds.sex_ccc, bounds.sex_bins, bounds.sex_uar)


def pitch(measurement: Measurement) -> Iterator[Result]:
    """Differences of the scores of speakers of low, medium and high voices from those of all."""
    bounds = measurement.config.fairness
    groups, reason = pitch_groups(measurement)
    yield from _differences(measurement, groups, reason, bounds.pitch_ccc, bounds.pitch_bins, bounds.pitch_uar)


def accent(measurement: Measurement) -> Iterator[Result]:
    """Shifts of the mean prediction of each accent from that of all; no labels are needed."""
    bounds = measurement.config.fairness
    yield from _shifts(measurement, "accent", bounds.accent_shift, bounds.accent_share)


def language(measurement: Measurement) -> Iterator[Result]:
    """Shifts of the mean prediction of each language from that of all; no labels are needed."""
    bounds = measurement.config.fairness
    yield from _shifts(measurement, "language", bounds.language_shift, bounds.language_share)


def _differences(
    measurement: Measurement, groups: Sequence[str], reason: str, ccc: float, bins: float, uar: float
) -> Iterator[Result]:
    if reason:
        yield skipped(reason)
        return
    bounds, seed = measurement.config.fairness, measurement.config.seed
    for name, column in measurement.scored_attributes:
        labels = measurement.utterances.attributes[:, column]
        matched = match_groups(groups, bins_of(labels, BINS), bounds.min_group, np.random.default_rng(seed))
        if not matched.names:
            yield skipped(matched.note, output=name)
            continue
        predicted, target = measurement.clean.attributes[matched.rows, column], labels[matched.rows]
        yield _ccc_difference(measurement, name, matched, predicted, target, ccc)
        edges = [f"bin {number / BINS:g} to {(number + 1) / BINS:g}" for number in range(BINS)]
        found = bins_of(predicted, BINS), bins_of(target, BINS)
        yield from _class_differences(measurement, name, matched, *found, edges, bins, None)
    if not measurement.why_no_emotion:
        labels = measurement.emotion
        matched = match_groups(groups, labels, bounds.min_group, np.random.default_rng(seed))
        if not matched.names:
            yield skipped(matched.note, output=EMOTION)
            return
        predicted = measurement.predicted_emotion(measurement.clean)
        found = predicted[matched.rows], labels[matched.rows]
        categories = measurement.match.scored
        yield from _class_differences(measurement, EMOTION, matched, *found, categories, bins, uar)


def _ccc_difference(
    measurement: Measurement,
    output: str,
    matched: Matched,
    predicted: Float[np.ndarray, "M"],
    labels: Float[np.ndarray, "M"],
    least: float,
) -> Result:
    size, level = len(matched.names), measurement.config.fairness.level

    def simulate(random: np.random.Generator, models: int) -> dict[str, np.ndarray]:
        drawn = random.choice(labels, (len(labels), models))
        return {"ccc": ccc_differences(drawn, labels, matched.group, size)}

    chance = float(_bounds(measurement, simulate, len(labels))["ccc"])
    differences = ccc_differences(predicted[:, None], labels, matched.group, size)[0]
    return _largest(differences, matched, least, chance, level, output=output, metric="difference of CCC", condition="")


def _class_differences(
    measurement: Measurement,
    output: str,
    matched: Matched,
    predicted: Int[np.ndarray, "M"],
    labels: Int[np.ndarray, "M"],
    classes: Sequence[str],
    least: float,
    least_uar: float | None,
) -> Iterator[Result]:
    size, level = len(matched.names), measurement.config.fairness.level

    def simulate(random: np.random.Generator, models: int) -> dict[str, np.ndarray]:
        drawn = random.choice(labels, (models, len(labels)))
        return class_differences(drawn, labels, matched.group, size, len(classes))

    chance = _bounds(measurement, simulate, len(labels))
    found = class_differences(predicted[None], labels, matched.group, size, len(classes))
    if least_uar is not None:
        fields = {"output": output, "metric": "difference of UAR", "condition": ""}
        yield _largest(found["uar"][0], matched, least_uar, float(chance["uar"]), level, **fields)
    smallest = measurement.config.fairness.min_bin
    for number, name in enumerate(classes):
        for metric, members, what in (("recall", labels, "labels"), ("precision", predicted, "predictions")):
            fields = {"output": output, "metric": f"difference of {metric}", "condition": name}
            counts = np.bincount(matched.group[members == number], minlength=size)
            if counts.min() < smallest:
                fewest = f"{counts.min()} {what} in a group ({matched.names[counts.argmin()]})"
                yield skipped(f"{TOO_SMALL}: {fewest}, at least {smallest} are needed", **fields)
                continue
            differences, bound = found[metric][0, :, number], float(chance[metric][number])
            yield _largest(differences, matched, least, bound, level, **fields)


def _shifts(measurement: Measurement, name: str, least: float, least_share: float) -> Iterator[Result]:
    groups, reason = grouping(measurement, name)
    if reason:
        yield skipped(reason)
        return
    everything = np.zeros(len(measurement.utterances), np.int64)
    random = np.random.default_rng(measurement.config.seed)
    matched = match_groups(groups, everything, measurement.config.fairness.min_group, random)
    if not matched.names:
        yield skipped(matched.note)
        return
    outputs = measurement.clean.rows(matched.rows)
    for attribute, column in measurement.predicted_attributes:
        values = outputs.attributes[:, column]
        yield from _shift_results(measurement, attribute, "", matched, values, least)
    chosen = outputs.probabilities.argmax(axis=1) if measurement.model.categories else np.zeros(0)
    for number, category in enumerate(measurement.model.categories):
        yield from _shift_results(measurement, EMOTION, category, matched, chosen == number, least_share)


def _shift_results(
    measurement: Measurement,
    output: str,
    category: str,
    matched: Matched,
    values: np.ndarray,
    least: float,
) -> Iterator[Result]:
    """Results of the shift of each group's mean, or share of `category` unless it is "", from that of all."""
    size, level = len(matched.names), measurement.config.fairness.level
    share = 1 / len(measurement.model.categories) if category else None

    def simulate(random: np.random.Generator, models: int) -> dict[str, np.ndarray]:
        return {"shift": shifts(random_values(random, (len(values), models), share), matched.group, size)}

    chance = float(_bounds(measurement, simulate, len(values))["shift"])
    found = shifts(values.astype(np.float64)[:, None], matched.group, size)[0]
    for number, group in enumerate(matched.names):
        yield at_most(
            found[number],
            max(least, chance),
            output=output,
            metric="shift of the share" if category else "shift of the mean",
            condition=f"{category}: {group}" if category else group,
            n=len(values),
            note=f"{threshold_note(least, chance, level)}; {matched.note}",
        )


def _bounds(measurement: Measurement, simulate: Simulate, size: int) -> dict[str, np.ndarray]:
    bounds = measurement.config.fairness
    return simulated_bounds(simulate, size, bounds.simulations, bounds.level, measurement.config.seed)


def _largest(
    differences: np.ndarray, matched: Matched, least: float, chance: float, level: float, **fields: str
) -> Result:
    """Result of the largest difference over the groups."""
    defined = ~np.isnan(differences)
    where = f"largest for {matched.names[int(np.nanargmax(differences))]}; " if defined.any() else ""
    return at_most(
        np.nanmax(differences) if defined.any() else np.nan,
        least if np.isnan(chance) else max(least, chance),
        n=len(matched.rows),
        note=f"{where}{threshold_note(least, chance, level)}; {matched.note}",
        **fields,
    )
