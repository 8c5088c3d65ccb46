"""Tests of robustness: changes of scores and outputs when the input is degraded."""

from collections import defaultdict
from collections.abc import Iterable, Iterator

import numpy as np
from jaxtyping import Bool

from emojax.model_tests import conditions
from emojax.model_tests.groups import grouping
from emojax.model_tests.measurement import Condition, Measurement, ccc_of, uar_of
from emojax.model_tests.model import Outputs
from emojax.model_tests.results import ATTRIBUTE_LABELS, EMOTION, Result, at_least, skipped
from emojax.types import MISSING_EMOTION


def background_noise(measurement: Measurement) -> Iterator[Result]:
    """Changes by background noises, coughs and sneezes."""
    bounds = measurement.config.robustness
    found = conditions.background_noises(bounds, measurement.utterances, measurement.config.seed)
    yield from _changes(measurement, found, bounds.noise_unchanged, bounds.change, bounds.change)


def low_quality_phone(measurement: Measurement) -> Iterator[Result]:
    """Changes by a telephone."""
    bounds = measurement.config.robustness
    found = conditions.low_quality_phone()
    yield from _changes(measurement, found, bounds.phone_unchanged, bounds.change, bounds.change)


def rooms(measurement: Measurement) -> Iterator[Result]:
    """Outputs that change in rooms."""
    bounds = measurement.config.robustness
    yield from _changes(measurement, conditions.rooms(bounds, measurement.config.seed), bounds.room_unchanged)


def recording_condition(measurement: Measurement) -> Iterator[Result]:
    """Outputs that differ between recordings of the same speech by different devices."""
    speech, reason = grouping(measurement, "speech")
    rows: dict[str, list[int]] = defaultdict(list)
    for row, value in enumerate(speech):
        if value:
            rows[value].append(row)
    pairs = np.array([(found[0], other) for found in rows.values() for other in found[1:]])
    if reason or not len(pairs):
        yield skipped(reason or "no speech was recorded by two devices")
        return
    first, second = measurement.clean.rows(pairs[:, 0]), measurement.clean.rows(pairs[:, 1])
    yield from _unchanged(measurement, first, second, measurement.config.robustness.recording_unchanged, "")


def small_changes(measurement: Measurement) -> Iterator[Result]:
    """Outputs that change by hardly noticeable changes of the input."""
    yield from _changes(measurement, conditions.small_changes(), measurement.config.robustness.small_unchanged)


def spectral_tilt(measurement: Measurement) -> Iterator[Result]:
    """Changes by attenuated lows or highs."""
    bounds = measurement.config.robustness
    found = conditions.spectral_tilt()
    yield from _changes(measurement, found, bounds.tilt_unchanged, bounds.change, bounds.tilt_change_uar)


def sample_rate(measurement: Measurement) -> Iterator[Result]:
    """Changes by a lower sample rate."""
    bounds = measurement.config.robustness
    found = conditions.sample_rates()
    yield from _changes(measurement, found, bounds.codec_unchanged, bounds.change, bounds.change)


def compression(measurement: Measurement) -> Iterator[Result]:
    """Changes by lossy codecs."""
    bounds = measurement.config.robustness
    found = conditions.compression()
    yield from _changes(measurement, found, bounds.codec_unchanged, bounds.change, bounds.change)


def unchanged_outputs(same: float, before: Outputs, after: Outputs, column: int | None) -> Bool[np.ndarray, "N"]:
    """Whether the outputs for each clip are the same.

    Args:
      same: an attribute is unchanged if it differs by less.
      before: outputs for the clips.
      after: outputs for the degraded clips.
      column: attribute; None for the most probable category.
    """
    if column is None:
        return before.probabilities.argmax(axis=1) == after.probabilities.argmax(axis=1)
    return np.abs(before.attributes[:, column] - after.attributes[:, column]) < same


def _changes(
    measurement: Measurement,
    found: Iterable[Condition],
    least_unchanged: float,
    least_ccc: float | None = None,
    least_uar: float | None = None,
) -> Iterator[Result]:
    """Results of every condition: share of unchanged outputs, and change of the scores if it has a threshold."""
    before = measurement.clean.rows(measurement.drawn)
    for output, metric, least, reason in (
        (ATTRIBUTE_LABELS, "change of CCC", least_ccc, measurement.why_no_attributes),
        (EMOTION, "change of UAR", least_uar, measurement.why_no_emotion),
    ):
        if least is not None and reason:
            yield skipped(reason, output=output, metric=metric)
    for condition in found:
        if condition.missing:
            yield skipped(condition.missing, condition=condition.name)
            continue
        after = measurement.degraded(condition)
        yield from _unchanged(measurement, before, after, least_unchanged, condition.name)
        if least_ccc is not None:
            for name, column in measurement.scored_attributes:
                labels = measurement.utterances.attributes[measurement.drawn, column]
                fields = {"output": name, "metric": "change of CCC", "condition": condition.name}
                first, second = (ccc_of(outputs.attributes[:, column], labels) for outputs in (before, after))
                yield _score_change(first, second, least_ccc, int((~np.isnan(labels)).sum()), fields)
        if least_uar is not None and not measurement.why_no_emotion:
            labels = measurement.emotion[measurement.drawn]
            fields = {"output": EMOTION, "metric": "change of UAR", "condition": condition.name}
            size = len(measurement.match.scored)
            first, second = (
                uar_of(measurement.predicted_emotion(outputs), labels, size) for outputs in (before, after)
            )
            yield _score_change(first, second, least_uar, int((labels != MISSING_EMOTION).sum()), fields)


def _score_change(before: float, after: float, least: float, n: int, fields: dict[str, str]) -> Result:
    if np.isnan(before):
        return skipped("not defined without degradation: too few labels among the utterances", **fields)
    return at_least(after - before, least, n=n, **fields)


def _unchanged(
    measurement: Measurement, before: Outputs, after: Outputs, least: float, condition: str
) -> Iterator[Result]:
    same = measurement.config.robustness.same
    outputs: list[tuple[str, int | None]] = list(measurement.predicted_attributes)
    if measurement.model.categories:
        outputs.append((EMOTION, None))
    for name, column in outputs:
        share = unchanged_outputs(same, before, after, column)
        fields = {"output": name, "metric": "share unchanged", "condition": condition, "n": len(share)}
        yield at_least(share.mean(), least, **fields)
