"""Predicted distributions of ratings of one utterance: spread, quantiles, and how they are written."""

import dataclasses
from typing import Any

import numpy as np
from jaxtyping import Float

from emojax.evaluation.ratings import QUANTILES, scale_values
from emojax.evaluation.windows import softmax
from emojax.metrics.distribution_scores import quantile, spread


@dataclasses.dataclass(frozen=True)
class RatingDistribution:
    """Distribution of the ratings that people would give an utterance, of one attribute.

    Attributes:
      values: values of the rating scale, in the scale of the training corpus, ascending.
      probabilities: their probabilities.
    """

    values: tuple[float, ...]
    probabilities: tuple[float, ...]

    @property
    def std(self) -> float:
        """Standard deviation."""
        return float(spread(np.array(self.probabilities), np.array(self.values)))

    def quantile(self, level: float) -> float:
        """The least value v with P(rating <= v) >= level, for a level in (0, 1]."""
        return float(quantile(np.array(self.probabilities), np.array(self.values), level))

    def json_tree(self) -> dict[str, Any]:
        """Tree for a JSON file: `values`, `probabilities`, `std`, and `quantiles` by level."""
        return {
            "values": list(self.values),
            "probabilities": list(self.probabilities),
            "std": self.std,
            "quantiles": {f"{level:g}": self.quantile(level) for level in QUANTILES},
        }

    def columns(self, attribute: str) -> dict[str, float]:
        """Numbers by column: `std_A`, `q05_A` to `q95_A`, and `share_A_V` of each value V."""
        columns = {f"std_{attribute}": self.std}
        columns |= {f"q{round(100 * level):02d}_{attribute}": self.quantile(level) for level in QUANTILES}
        pairs = zip(self.values, self.probabilities, strict=True)
        return columns | {f"share_{attribute}_{value:.6g}": share for value, share in pairs}


def rating_distribution(logits: Float[Any, "K"], scale: tuple[float, float]) -> RatingDistribution:
    """The distribution of one attribute of one utterance.

    Args:
      logits: its row of `EmotionOutput.rating_logits`.
      scale: scale of the training corpus.
    """
    return RatingDistribution(tuple(scale_values(scale, len(logits)).tolist()), tuple(softmax(logits).tolist()))
