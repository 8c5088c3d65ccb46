"""How much one system's CCC is above another's on the same utterances, with an interval that takes them in pairs."""

from collections.abc import Sequence
from typing import TypedDict

import numpy as np
from jaxtyping import Float

from emojax.metrics.bootstrap import (
    MIN_UNITS,
    centred_sums,
    moments_of_sums,
    percentile_interval,
    resampling_units,
    sum_by_unit,
)
from emojax.metrics.regression import REGRESSION_MEASURES, moments_in_float64
from emojax.types import ATTRIBUTES


class Gain(TypedDict):
    """CCC of two systems, and the difference with its 95 % interval; NaN where undefined.

    The relative gain has no meaning where the lower CCC is about 0 or below.
    """

    before: float
    after: float
    gain: float
    low: float
    high: float
    relative: float
    relative_low: float
    relative_high: float


def bootstrap_gain(
    before: Sequence[Float[np.ndarray, "N 3"]],
    after: Sequence[Float[np.ndarray, "N 3"]],
    labels: Float[np.ndarray, "N 3"],
    speakers: Sequence[str] | np.ndarray | None,
    num_resamples: int = 1000,
    seed: int = 0,
) -> dict[str, Gain]:
    """The difference of two mean CCCs by attribute; each mean is over the seeds of one system.

    In every resample both systems are scored on the same speakers, so that what makes a speaker hard for both is in
    neither's favour: two intervals that overlap can hide a difference that is sure.

    Args:
      before: predictions of the one system, one array a seed, on the scale of the labels.
      after: of the other.
      labels: NaN where missing.
      speakers: speaker of every item, "" where unknown; None if all are. See `resampling_units`.
      num_resamples: resamples drawn.
      seed: the same seed gives the same intervals.
    """
    labels, ccc = np.asarray(labels, np.float64), REGRESSION_MEASURES["ccc"]
    units = resampling_units(speakers, len(labels))
    runs = [np.asarray(predictions, np.float64) for predictions in (*before, *after)]
    wholes = [moments_in_float64(predictions, labels) for predictions in runs]
    sums = np.stack(
        [sum_by_unit(centred_sums(run, labels, whole), units) for run, whole in zip(runs, wholes, strict=True)], axis=1
    )

    enough = (sums[:, 0, 0] > 0).sum(axis=0) >= MIN_UNITS

    def compared(scores: list[np.ndarray]) -> np.ndarray:
        first, second = np.mean(scores[: len(before)], axis=0), np.mean(scores[len(before) :], axis=0)
        with np.errstate(divide="ignore", invalid="ignore"):
            return np.stack([second - first, second / first - 1], axis=-2)

    def measure(resampled: np.ndarray) -> np.ndarray:
        scores = [ccc(moments_of_sums(resampled[:, run], whole)) for run, whole in enumerate(wholes)]
        return np.where(enough, compared(scores), np.nan)

    whole_scores = [ccc(whole) for whole in wholes]
    (gain, relative), (low, high) = compared(whole_scores), percentile_interval(sums, measure, num_resamples, seed)
    return {
        attribute: Gain(
            before=float(np.mean(whole_scores[: len(before)], axis=0)[column]),
            after=float(np.mean(whole_scores[len(before) :], axis=0)[column]),
            gain=float(gain[column]),
            low=float(low[0, column]),
            high=float(high[0, column]),
            relative=float(relative[column]),
            relative_low=float(low[1, column]),
            relative_high=float(high[1, column]),
        )
        for column, attribute in enumerate(ATTRIBUTES)
    }
