"""Scores of the cells: CCC and UAR with intervals, paired differences from clean clips and from a reference system."""

import dataclasses
import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from emojax.metrics import Interval
from emojax.metrics.paired import Gain, bootstrap_gain, bootstrap_mean_ccc, bootstrap_mean_uar, bootstrap_uar_gain
from emojax.model_tests.measurement import Measurement
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
    """Score of a system's output in a condition; the mean over its runs and, if it has several, over conditions.

    Attributes:
      model: name of the system.
      condition: name of the condition.
      output: attribute, or `emotion`.
      metric: `CCC` or `UAR`.
      n: utterances with a label.
      score: value and interval.
      change: difference from the same system on clean clips.
      relative_loss: loss relative to the score on clean clips; undefined where that is not above 0.
      gain: difference from the reference system in the same condition; undefined for the reference.
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


@dataclasses.dataclass(frozen=True)
class System:
    """Runs of one configuration that differ in their seeds, or a single model.

    Attributes:
      name: name in results, unique.
      runs: one measurement per run, all on the same utterances.
    """

    name: str
    runs: tuple[Measurement, ...]


def score_grid(
    systems: Sequence[System],
    conditions: Sequence[Condition],
    cells: Mapping[tuple[str, str], Cell],
    scoring: Scoring,
    reference: str,
) -> list[GridScore]:
    """Scores all cells.

    Args:
      systems: systems on the same utterances, of which `Measurement.drawn` are in the cells.
      conditions: conditions, `CLEAN` among them, and means of them.
      cells: cell of each model and condition by their names.
      scoring: settings of the intervals.
      reference: name of the system that the others are compared with.
    """
    (base,) = (system for system in systems if system.name == reference)
    scores = []
    for system in systems:
        for condition in conditions:
            work = _Scored(system, base if system is not base else None, condition, cells)
            scores += _attributes(work, scoring)
            if not system.runs[0].why_no_emotion:
                scores.append(_emotion(work, scoring))
    return scores


@dataclasses.dataclass(frozen=True)
class _Scored:
    """A system in a condition.

    Attributes:
      system: the system.
      reference: system that it is compared with; None for none.
      condition: the condition.
      cells: all cells.
    """

    system: System
    reference: System | None
    condition: Condition
    cells: Mapping[tuple[str, str], Cell]

    @property
    def places(self) -> tuple[str, ...]:
        """Names of the conditions whose scores are averaged."""
        return self.condition.mean_of or (self.condition.name,)

    def attributes(self, system: System, places: Sequence[str]) -> list[np.ndarray]:
        """Attributes of each run in each condition; 0 in columns that are not predicted, whose labels are missing."""
        return [
            np.nan_to_num(self.cells[run.model.name, place].outputs.attributes)
            for run in system.runs
            for place in places
        ]

    def categories(self, system: System, places: Sequence[str]) -> list[np.ndarray]:
        """Predicted categories of each run in each condition."""
        return [
            run.predicted_emotion(self.cells[run.model.name, place].outputs) for run in system.runs for place in places
        ]


def _attributes(work: _Scored, scoring: Scoring) -> list[GridScore]:
    first = work.system.runs[0]
    scored = [column for _, column in first.scored_attributes]
    if not scored:
        return []
    rows = first.drawn
    labels = np.full((len(rows), len(ATTRIBUTES)), np.nan)
    labels[:, scored] = first.utterances.attributes[rows][:, scored]
    arguments = ([first.utterances.speakers[row] for row in rows], scoring.num_resamples, scoring.seed)
    after = work.attributes(work.system, work.places)
    means = bootstrap_mean_ccc(after, labels, *arguments)
    changes = bootstrap_gain(work.attributes(work.system, (CLEAN,)), after, labels, *arguments)
    gains: dict[str, Gain] = {}
    if work.reference is not None:
        shared = np.where(work.reference.runs[0].model.predicted, labels, np.nan)
        gains = bootstrap_gain(work.attributes(work.reference, work.places), after, shared, *arguments)
    return [
        GridScore(
            model=work.system.name,
            condition=work.condition.name,
            output=ATTRIBUTES[column],
            metric="CCC",
            n=int((~np.isnan(labels[:, column])).sum()),
            score=_score(means[ATTRIBUTES[column]]),
            change=_change(changes[ATTRIBUTES[column]]),
            relative_loss=_relative_loss(changes[ATTRIBUTES[column]]),
            gain=_change(gains[ATTRIBUTES[column]]) if gains else Difference(),
        )
        for column in scored
    ]


def _emotion(work: _Scored, scoring: Scoring) -> GridScore:
    first = work.system.runs[0]
    rows, labels = first.drawn, first.emotion[first.drawn]
    speakers = [first.utterances.speakers[row] for row in rows]
    arguments = (labels, len(first.match.scored), speakers, scoring.num_resamples, scoring.seed)
    after = work.categories(work.system, work.places)
    change = bootstrap_uar_gain(work.categories(work.system, (CLEAN,)), after, *arguments)
    gain, other = Difference(), work.reference.runs[0] if work.reference else None
    if other is not None and not other.why_no_emotion and other.match.scored == first.match.scored:
        assert work.reference is not None
        gain = _change(bootstrap_uar_gain(work.categories(work.reference, work.places), after, *arguments))
    return GridScore(
        model=work.system.name,
        condition=work.condition.name,
        output=EMOTION,
        metric="UAR",
        n=int((labels != MISSING_EMOTION).sum()),
        score=_score(bootstrap_mean_uar(after, *arguments)),
        change=_change(change),
        relative_loss=_relative_loss(change),
        gain=gain,
    )


def _score(interval: Interval) -> Difference:
    return _difference(interval["value"], interval["low"], interval["high"])


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
