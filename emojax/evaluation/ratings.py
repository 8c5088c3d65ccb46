"""Predicted distributions of ratings and the raters' choices of a split: table columns and scores.

Scores use every single rating (`emojax.metrics.distribution_scores`); scores by agreement need the standard deviation
of the raters only, and exist for models without distributions too.
"""

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any, Self

import numpy as np
from jaxtyping import Float

from emojax.metrics.distribution_scores import (
    COVERAGE_LEVELS,
    coverage,
    crps,
    histogram_shares,
    marginal_distribution,
    negative_log_likelihood,
    quantile,
    spread,
)
from emojax.metrics.scores import ccc as ccc_score
from emojax.metrics.scores import mae, pearson
from emojax.types import ATTRIBUTES, NUM_ATTRIBUTES

QUANTILES = (0.05, 0.25, 0.5, 0.75, 0.95)
"""Levels of the quantiles of predicted distributions that are written."""

_SHARE, _COUNT = "predicted_share", "label_count"


@dataclasses.dataclass(frozen=True, eq=False)
class RatingPredictions:
    """Predicted distributions of ratings and the raters' choices, of every utterance of a split.

    Attributes:
      scale: lowest and highest value of the corpus's scale; values of a distribution are equally spaced between them.
      probabilities: predicted probabilities of K values; NaN for an attribute without predictions; K is 0 for a model
        without distributions.
      counts: number of raters per value; all 0 where unknown; K' is 0 for a corpus without histograms.
      stds: standard deviation of the raters' choices in the corpus's scale; NaN where unknown.
    """

    scale: tuple[float, float]
    probabilities: Float[np.ndarray, "N 3 K"]
    counts: Float[np.ndarray, "N 3 L"]
    stds: Float[np.ndarray, "N 3"]

    @property
    def bins(self) -> int:
        """K, values of the predicted distributions; 0 without."""
        return self.probabilities.shape[2]

    @property
    def spreads(self) -> Float[np.ndarray, "N 3"]:
        """Standard deviations of the predicted distributions, in the corpus's scale."""
        return np.asarray(spread(self.probabilities, scale_values(self.scale, self.bins)))

    def select(self, rows: np.ndarray) -> "RatingPredictions":
        """Those of some utterances."""
        return dataclasses.replace(
            self, probabilities=self.probabilities[rows], counts=self.counts[rows], stds=self.stds[rows]
        )

    def columns(self) -> list[str]:
        """Names of the columns of `cells`.

        By attribute A and value V: `label_std_A`, `predicted_std_A`, quantiles `predicted_q05_A` to `predicted_q95_A`,
        `predicted_share_A_V`, and `label_count_A_V`. Standard deviation and quantiles follow from the shares.
        """
        return _columns(self.scale, self.bins, self.counts.shape[2])

    def cells(self) -> Float[np.ndarray, "N D"]:
        """Numbers of `columns`; NaN where missing."""
        values = scale_values(self.scale, self.bins)
        predicted = ~np.isnan(self.probabilities).any(axis=2)
        parts = []
        for column in range(NUM_ATTRIBUTES):
            shares = self.probabilities[:, column]
            spreads = np.asarray(spread(shares, values))
            quantiles = [np.where(predicted[:, column], quantile(shares, values, q), np.nan) for q in QUANTILES]
            parts += [self.stds[:, column], spreads, *quantiles, *shares.T, *self.counts[:, column].T]
        return np.stack(parts, axis=1)

    @classmethod
    def from_columns(
        cls, found: set[str], numbers: Callable[[list[str]], np.ndarray], scale: tuple[float, float]
    ) -> Self | None:
        """Reads the columns of a table; None if it has no distributions.

        Args:
          found: names of the columns of the table.
          numbers: reads columns by name, (N, columns).
          scale: scale of the corpus.
        """
        bins = sum(name.startswith(f"{_SHARE}_{ATTRIBUTES[0]}_") for name in found)
        counted = sum(name.startswith(f"{_COUNT}_{ATTRIBUTES[0]}_") for name in found)
        if not bins or not set(_columns(scale, bins, counted)) <= found:
            return None

        def table(prefix: str, width: int) -> np.ndarray:
            names = [f"{prefix}_{attribute}_{value}" for attribute in ATTRIBUTES for value in _names(scale, width)]
            return numbers(names).reshape(-1, NUM_ATTRIBUTES, width)

        return cls(
            scale, table(_SHARE, bins), table(_COUNT, counted), numbers([f"label_std_{name}" for name in ATTRIBUTES])
        )


def concatenate_ratings(parts: Sequence[RatingPredictions | None]) -> RatingPredictions | None:
    """Those of all parts, in order; None if a part has none, or distributions over other values."""
    present = [part for part in parts if part is not None]
    if not present or len(present) < len(parts):
        return None
    if len({(part.scale, part.bins, part.counts.shape[2]) for part in present}) > 1:
        return None
    return RatingPredictions(
        present[0].scale,
        np.concatenate([part.probabilities for part in present]),
        np.concatenate([part.counts for part in present]),
        np.concatenate([part.stds for part in present]),
    )


def scale_values(scale: tuple[float, float], bins: int) -> Float[np.ndarray, "K"]:
    """The K equally spaced values of a scale."""
    return np.linspace(*scale, bins) if bins else np.zeros(0)


def summarise_ratings(ratings: RatingPredictions) -> dict[str, Any]:
    """Scores of the predicted distributions, NaN where undefined.

    Returns:
      values: values of the distributions; undefined: the reason for scores that no attribute has; and by attribute:
        utterances, ratings: numbers of utterances with a histogram and of their ratings;
        nll, crps: of the predictions; nll_marginal, crps_marginal: of the distribution of all ratings of the split,
          a reference without input; nll_histogram: of each utterance's own histogram, the least value possible;
        coverage: share of ratings in central intervals, by their probability; calibration_error: mean absolute
          difference of the two;
        spread_correlation: Pearson's correlation of predicted and raters' standard deviations over `spread_utterances`
          utterances; predicted_std, rater_std: their means.
    """
    values = scale_values(ratings.scale, ratings.bins)
    predicted = ~np.isnan(ratings.probabilities).all(axis=(0, 2))
    comparable = ratings.counts.shape[2] == ratings.bins
    reason = ""
    if not ratings.counts.shape[2]:
        reason = "the corpus has no histograms of ratings"
    elif not comparable:
        reason = f"the model has {ratings.bins} values, the corpus {ratings.counts.shape[2]}"
    tree: dict[str, Any] = {"values": values.tolist(), "undefined": reason, "attributes": {}}
    for column, attribute in enumerate(ATTRIBUTES):
        if predicted[column]:
            one = slice(column, column + 1)
            scores = _spread_scores(ratings.spreads[:, one], ratings.stds[:, one])
            if comparable:
                scores |= _rating_scores(ratings.probabilities[:, one], ratings.counts[:, one], values)
            tree["attributes"][attribute] = scores
    return tree


def summarise_agreement(
    predictions: Float[np.ndarray, "N 3"], labels: Float[np.ndarray, "N 3"], stds: Float[np.ndarray, "N 3"]
) -> dict[str, list[dict[str, Any]]]:
    """Scores in up to three strata of an attribute by the raters' standard deviation, from agreement to disagreement.

    Strata end at the terciles; equal deviations are in one stratum. Labels of a stratum vary less than those of the
    split (`label_std`), which lowers its CCC whatever the model: compare models within a stratum.

    Args:
      predictions: in the scale of the labels; NaN for an attribute without predictions.
      labels: NaN where missing.
      stds: NaN where unknown.

    Returns:
      By attribute with predictions and deviations: std_from, std_to, n, ccc, mae, label_std of each stratum.
    """
    found: dict[str, list[dict[str, Any]]] = {}
    for column, attribute in enumerate(ATTRIBUTES):
        known = ~np.isnan(np.stack([predictions[:, column], labels[:, column], stds[:, column]])).any(axis=0)
        if not known.any():
            continue
        deviation = stds[known, column]
        # Beyond rounding, so that a deviation of float32 equals itself.
        numbers = np.searchsorted(np.unique(np.quantile(deviation, (1 / 3, 2 / 3))), deviation - 1e-6)
        found[attribute] = []
        for number in np.unique(numbers):
            rows = np.flatnonzero(known)[numbers == number]
            pair = predictions[rows, column : column + 1], labels[rows, column : column + 1]
            found[attribute].append(
                {
                    "std_from": float(stds[rows, column].min()),
                    "std_to": float(stds[rows, column].max()),
                    "n": len(rows),
                    "ccc": float(ccc_score(*pair)[0]),
                    "mae": float(mae(*pair)[0]),
                    "label_std": float(labels[rows, column].std()),
                }
            )
    return found


def _rating_scores(probabilities: np.ndarray, counts: np.ndarray, values: np.ndarray) -> dict[str, Any]:
    levels = np.array(COVERAGE_LEVELS)
    covered = coverage(probabilities, counts, levels)[:, 0]
    marginal = marginal_distribution(counts)
    return {
        "utterances": int(counts.any(axis=2).sum()),
        "ratings": int(counts.sum()),
        "nll": float(negative_log_likelihood(probabilities, counts)[0]),
        "nll_marginal": float(negative_log_likelihood(marginal, counts)[0]),
        "nll_histogram": float(negative_log_likelihood(histogram_shares(counts), counts)[0]),
        "crps": float(crps(probabilities, counts, values)[0]),
        "crps_marginal": float(crps(marginal, counts, values)[0]),
        "coverage": {f"{level:g}": float(share) for level, share in zip(levels, covered, strict=True)},
        "calibration_error": float(np.abs(covered - levels).mean()),
    }


def _spread_scores(spreads: np.ndarray, stds: np.ndarray) -> dict[str, Any]:
    known = ~np.isnan(stds[:, 0]) & ~np.isnan(spreads[:, 0])
    return {
        "spread_correlation": float(pearson(spreads[known], stds[known])[0]),
        "spread_utterances": int(known.sum()),
        "predicted_std": float(np.nanmean(spreads)) if not np.isnan(spreads).all() else float("nan"),
        "rater_std": float(stds[known].mean()) if known.any() else float("nan"),
    }


def _columns(scale: tuple[float, float], bins: int, counted: int) -> list[str]:
    names: list[str] = []
    for attribute in ATTRIBUTES:
        names += [f"label_std_{attribute}", f"predicted_std_{attribute}"]
        names += [f"predicted_q{round(100 * level):02d}_{attribute}" for level in QUANTILES]
        names += [f"{_SHARE}_{attribute}_{value}" for value in _names(scale, bins)]
        names += [f"{_COUNT}_{attribute}_{value}" for value in _names(scale, counted)]
    return names


def _names(scale: tuple[float, float], bins: int) -> list[str]:
    return [f"{value:.6g}" for value in scale_values(scale, bins)]
