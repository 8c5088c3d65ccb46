"""Systems of one or more runs: mean scores, and paired differences between two, with intervals over speakers."""

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any, TypedDict

import numpy as np
from jaxtyping import Float, Int

from emojax.metrics.bootstrap import (
    MIN_UNITS,
    Interval,
    centred_sums,
    moments_of_sums,
    percentile_interval,
    resampling_units,
    sum_by_unit,
)
from emojax.metrics.scores import CLASSIFICATION_MEASURES, REGRESSION_MEASURES, moments_in_float64
from emojax.types import ATTRIBUTES, MISSING_EMOTION


class Gain(TypedDict):
    """CCC (or UAR) of two systems, and the difference with its 95 % interval; NaN where undefined.

    The relative gain is meaningless where the lower CCC is near or below 0.
    """

    before: float
    after: float
    gain: float
    low: float
    high: float
    relative: float
    relative_low: float
    relative_high: float


def bootstrap_mean_ccc(
    runs: Sequence[Float[np.ndarray, "N 3"]],
    labels: Float[np.ndarray, "N 3"],
    speakers: Sequence[str] | np.ndarray | None,
    num_resamples: int = 1000,
    seed: int = 0,
) -> dict[str, Interval]:
    """Mean CCC of a system's runs, by attribute, with its 95 % interval.

    Args:
      runs: predictions of each run, on the scale of the labels.
      labels: NaN where missing.
      speakers: speaker of every item, "" where unknown; None if all are. See `resampling_units`.
      num_resamples: resamples drawn.
      seed: the same seed gives the same intervals.
    """
    value, low, high = _mean(_ccc_of_runs(runs, labels, speakers), num_resamples, seed)
    return {
        attribute: Interval(value=float(value[column]), low=float(low[column]), high=float(high[column]))
        for column, attribute in enumerate(ATTRIBUTES)
    }


def bootstrap_gain(
    before: Sequence[Float[np.ndarray, "N 3"]],
    after: Sequence[Float[np.ndarray, "N 3"]],
    labels: Float[np.ndarray, "N 3"],
    speakers: Sequence[str] | np.ndarray | None,
    num_resamples: int = 1000,
    seed: int = 0,
) -> dict[str, Gain]:
    """Paired difference of two mean CCCs by attribute; each mean is over the runs of one system.

    In every resample both systems are scored on the same speakers, so that variance between speakers that both share
    cancels: the difference can be significant although the intervals of the two systems overlap.

    Args:
      before: predictions of the first system, one array per run, on the scale of the labels.
      after: predictions of the second system.
      labels: NaN where missing.
      speakers: speaker of every item, "" where unknown; None if all are. See `resampling_units`.
      num_resamples: resamples drawn.
      seed: the same seed gives the same intervals.
    """
    scores = _ccc_of_runs([*before, *after], labels, speakers)
    found = _difference(scores, len(before), num_resamples, seed)
    return {
        attribute: Gain(**{key: float(values[column]) for key, values in found.items()})  # type: ignore[typeddict-item]
        for column, attribute in enumerate(ATTRIBUTES)
    }


def bootstrap_mean_uar(
    runs: Sequence[Int[np.ndarray, "N"]],
    labels: Int[np.ndarray, "N"],
    num_categories: int,
    speakers: Sequence[str] | np.ndarray | None,
    num_resamples: int = 1000,
    seed: int = 0,
) -> Interval:
    """Mean UAR of a system's runs, with its 95 % interval.

    Args:
      runs: categories predicted by each run.
      labels: labelled category; -1 where missing.
      num_categories: C.
      speakers: speaker of every item, "" where unknown; None if all are. See `resampling_units`.
      num_resamples: resamples drawn.
      seed: the same seed gives the same interval.
    """
    scores = _uar_of_runs(runs, labels, num_categories, speakers)
    value, low, high = _mean(scores, num_resamples, seed)
    return Interval(value=float(value), low=float(low), high=float(high))


def bootstrap_uar_gain(
    before: Sequence[Int[np.ndarray, "N"]],
    after: Sequence[Int[np.ndarray, "N"]],
    labels: Int[np.ndarray, "N"],
    num_categories: int,
    speakers: Sequence[str] | np.ndarray | None,
    num_resamples: int = 1000,
    seed: int = 0,
) -> Gain:
    """Paired difference of two mean UARs, both systems scored on the same speakers in every resample.

    Args:
      before: categories predicted by the first system, one array per run.
      after: categories predicted by the second system.
      labels: labelled category; -1 where missing.
      num_categories: C.
      speakers: speaker of every item, "" where unknown; None if all are. See `resampling_units`.
      num_resamples: resamples drawn.
      seed: the same seed gives the same interval.
    """
    scores = _uar_of_runs([*before, *after], labels, num_categories, speakers)
    found = _difference(scores, len(before), num_resamples, seed)
    return Gain(**{key: float(value) for key, value in found.items()})  # type: ignore[typeddict-item]


@dataclasses.dataclass(frozen=True)
class _RunScores:
    """Scores of several runs as functions of sums over resampling units.

    Attributes:
      sums: contributions of each unit to the sums of each run.
      measure: maps resampled sums to scores by run, (R, runs, ...).
      whole: scores on the whole set, (runs, ...).
      enough: whether there are enough units for an interval.
    """

    sums: Float[np.ndarray, "U runs *S"]
    measure: Callable[[np.ndarray], np.ndarray]
    whole: np.ndarray
    enough: np.ndarray


def _ccc_of_runs(
    runs: Sequence[np.ndarray], labels: np.ndarray, speakers: Sequence[str] | np.ndarray | None
) -> _RunScores:
    labels, ccc = np.asarray(labels, np.float64), REGRESSION_MEASURES["ccc"]
    units = resampling_units(speakers, len(labels))
    runs = [np.asarray(predictions, np.float64) for predictions in runs]
    wholes = [moments_in_float64(predictions, labels) for predictions in runs]
    sums = np.stack(
        [sum_by_unit(centred_sums(run, labels, whole), units) for run, whole in zip(runs, wholes, strict=True)], axis=1
    )

    def measure(resampled: np.ndarray) -> np.ndarray:
        return np.stack([ccc(moments_of_sums(resampled[:, run], whole)) for run, whole in enumerate(wholes)], axis=1)

    enough = (sums[:, 0, 0] > 0).sum(axis=0) >= MIN_UNITS
    return _RunScores(sums, measure, np.stack([ccc(whole) for whole in wholes]), enough)


def _uar_of_runs(
    runs: Sequence[np.ndarray],
    labels: np.ndarray,
    num_categories: int,
    speakers: Sequence[str] | np.ndarray | None,
) -> _RunScores:
    labelled = labels != MISSING_EMOTION
    units = resampling_units(speakers, len(labels))
    sums = np.zeros((units.max(initial=-1) + 1, len(runs), num_categories, num_categories))
    for number, predictions in enumerate(runs):
        np.add.at(sums, (units[labelled], number, labels[labelled], predictions[labelled]), 1)
    uar, enough = CLASSIFICATION_MEASURES["uar"], np.asarray(sums.any(axis=(1, 2, 3)).sum() >= MIN_UNITS)
    return _RunScores(sums, uar, uar(sums.sum(axis=0)), enough)


def _mean(scores: _RunScores, num_resamples: int, seed: int) -> tuple[Any, Any, Any]:
    """Mean over runs, and the ends of its interval."""

    def measure(resampled: np.ndarray) -> np.ndarray:
        return np.where(scores.enough, scores.measure(resampled).mean(axis=1), np.nan)

    return scores.whole.mean(axis=0), *percentile_interval(scores.sums, measure, num_resamples, seed)


def _difference(scores: _RunScores, split: int, num_resamples: int, seed: int) -> dict[str, Any]:
    """Fields of `Gain`, as arrays or float64: the runs from `split` on relative to those before it."""

    def compared(values: np.ndarray) -> np.ndarray:
        first, second = values[:, :split].mean(axis=1), values[:, split:].mean(axis=1)
        with np.errstate(divide="ignore", invalid="ignore"):
            return np.stack([second - first, second / first - 1], axis=1)

    def measure(resampled: np.ndarray) -> np.ndarray:
        return np.where(scores.enough, compared(scores.measure(resampled)), np.nan)

    low, high = percentile_interval(scores.sums, measure, num_resamples, seed)
    ((gain, relative),) = compared(scores.whole[None])
    return {
        "before": scores.whole[:split].mean(axis=0),
        "after": scores.whole[split:].mean(axis=0),
        "gain": gain,
        "low": low[0],
        "high": high[0],
        "relative": relative,
        "relative_low": low[1],
        "relative_high": high[1],
    }
