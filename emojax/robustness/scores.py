"""Scores of the cells: CCC and UAR with intervals, paired differences from clean clips and from the first model."""

import dataclasses
import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from emojax.metrics import bootstrap_classification, bootstrap_regression
from emojax.metrics.bootstrap import Gain, bootstrap_gain, bootstrap_uar_gain
from emojax.model_tests.measurement import Measurement
from emojax.model_tests.model import Outputs
from emojax.model_tests.results import EMOTION
from emojax.robustness.cells import Cell
from emojax.robustness.conditions import CLEAN, Condition
from emojax.types import ATTRIBUTES, MISSING_EMOTION


@dataclasses.dataclass(frozen=True)
class Difference:
    """A paired difference of two scores with its 95 % interval; None where undefined.

    Attributes:
      value: difference.
      low: lower end.
      high: upper end.
    """

    value: float | None = None
    low: float | None = None
    high: float | None = None


@dataclasses.dataclass(frozen=True)
class GridScore:
    """Score of a model's output in a condition.

    Attributes:
      model: name of the model.
      condition: name of the condition.
      output: attribute, or `emotion`.
      metric: `CCC` or `UAR`.
      n: utterances with a label.
      score: value and interval.
      change: difference from the same model on clean clips.
      relative_loss: loss relative to the score on clean clips; undefined where that is not above 0.
      gain: difference from the first model in the same condition; undefined for the first.
    """

    model: str
    condition: str
    output: str
    metric: str
    n: int
    score: Difference
    change: Difference
    relative_loss: Difference
    gain: Difference

    def row(self) -> dict[str, Any]:
        """Flat row for CSV files."""
        row: dict[str, Any] = {name: getattr(self, name) for name in ("model", "condition", "output", "metric", "n")}
        for name in ("score", "change", "relative_loss", "gain"):
            difference: Difference = getattr(self, name)
            prefix = "" if name == "score" else f"{name}_"
            row |= {f"{prefix}{key}": value for key, value in dataclasses.asdict(difference).items()}
        return row


@dataclasses.dataclass(frozen=True)
class Scoring:
    """Settings of the intervals.

    Attributes:
      num_resamples: bootstrap resamples.
      seed: seed of the resampling.
    """

    num_resamples: int = 1000
    seed: int = 0


def score_grid(
    measurements: Sequence[Measurement],
    conditions: Sequence[Condition],
    cells: Mapping[tuple[str, str], Cell],
    scoring: Scoring,
) -> list[GridScore]:
    """Scores all cells.

    Args:
      measurements: one per model, all on the same utterances, of which `drawn` are in the cells.
      conditions: conditions, `CLEAN` among them.
      cells: cell of each model and condition by their names.
      scoring: settings of the intervals.
    """
    scores = []
    for measurement in measurements:
        name = measurement.model.name
        clean = cells[name, CLEAN].outputs
        for condition in conditions:
            outputs = cells[name, condition.name].outputs
            first = measurements[0]
            reference = cells[first.model.name, condition.name].outputs if measurement is not first else None
            fields = {"model": name, "condition": condition.name}
            scores += _attributes(measurement, first, outputs, clean, reference, scoring, fields)
            if not measurement.why_no_emotion:
                scores.append(_emotion(measurement, first, outputs, clean, reference, scoring, fields))
    return scores


def _attributes(
    measurement: Measurement,
    first: Measurement,
    outputs: Outputs,
    clean: Outputs,
    reference: Outputs | None,
    scoring: Scoring,
    fields: dict[str, str],
) -> list[GridScore]:
    scored = [column for _, column in measurement.scored_attributes]
    if not scored:
        return []
    rows = measurement.drawn
    labels = np.full((len(rows), len(ATTRIBUTES)), np.nan)
    labels[:, scored] = measurement.utterances.attributes[rows][:, scored]
    speakers = [measurement.utterances.speakers[row] for row in rows]
    arguments = (speakers, scoring.num_resamples, scoring.seed)
    after = _defined(outputs)
    intervals = bootstrap_regression(after, labels, *arguments)["ccc"]
    changes = bootstrap_gain([_defined(clean)], [after], labels, *arguments)
    gains: dict[str, Gain] = {}
    if reference is not None:
        shared = np.where(first.model.predicted, labels, np.nan)
        gains = bootstrap_gain([_defined(reference)], [after], shared, *arguments)
    return [
        GridScore(
            output=ATTRIBUTES[column],
            metric="CCC",
            n=int((~np.isnan(labels[:, column])).sum()),
            score=_difference(*(intervals[ATTRIBUTES[column]][key] for key in ("value", "low", "high"))),
            change=_change(changes[ATTRIBUTES[column]]),
            relative_loss=_relative_loss(changes[ATTRIBUTES[column]]),
            gain=_change(gains[ATTRIBUTES[column]]) if gains else Difference(),
            **fields,
        )
        for column in scored
    ]


def _emotion(
    measurement: Measurement,
    first: Measurement,
    outputs: Outputs,
    clean: Outputs,
    reference: Outputs | None,
    scoring: Scoring,
    fields: dict[str, str],
) -> GridScore:
    rows, size = measurement.drawn, len(measurement.match.scored)
    labels = measurement.emotion[rows]
    speakers = [measurement.utterances.speakers[row] for row in rows]
    arguments = (labels, size, speakers, scoring.num_resamples, scoring.seed)
    after = measurement.predicted_emotion(outputs)
    interval = bootstrap_classification(after, *arguments)["uar"]
    change = bootstrap_uar_gain(measurement.predicted_emotion(clean), after, *arguments)
    gain = Difference()
    comparable = not first.why_no_emotion and first.match.scored == measurement.match.scored
    if reference is not None and comparable:
        gain = _change(bootstrap_uar_gain(first.predicted_emotion(reference), after, *arguments))
    return GridScore(
        output=EMOTION,
        metric="UAR",
        n=int((labels != MISSING_EMOTION).sum()),
        score=_difference(interval["value"], interval["low"], interval["high"]),
        change=_change(change),
        relative_loss=_relative_loss(change),
        gain=gain,
        **fields,
    )


def _defined(outputs: Outputs) -> np.ndarray:
    """Attributes with 0 in columns that the model does not predict, whose labels are missing."""
    return np.nan_to_num(outputs.attributes)


def _change(gain: Gain) -> Difference:
    return _difference(gain["gain"], gain["low"], gain["high"])


def _relative_loss(gain: Gain) -> Difference:
    if not gain["before"] > 0:
        return Difference()
    return _difference(-gain["relative"], -gain["relative_high"], -gain["relative_low"])


def _difference(*values: float) -> Difference:
    # The sum makes -0.0 positive.
    value, low, high = (float(value) + 0.0 if math.isfinite(value) else None for value in values)
    return Difference(value, low, high)
