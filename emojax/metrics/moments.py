"""Weighted co-moments of predictions and labels: the mergeable sums behind CCC, Pearson's correlation, RMSE and MAE.

The same functions serve NumPy arrays (evaluation, float64) and JAX arrays (losses, inside jit): they call the array's
own namespace. Precision is that of the arrays given.
"""

from typing import Any

import flax.struct
import jax
import numpy as np
from jaxtyping import Float

AnyArray = np.ndarray | jax.Array


@flax.struct.dataclass
class CoMoments:
    """Moments of prediction–label pairs, one entry per attribute in every field (shape (A,), or (..., A) if stacked).

    A pair counts if its label is not NaN and its weight is not 0. An instance filled with zeros is the identity of
    `merge`.

    Attributes:
      count: number of pairs.
      weight: sum of weights W.
      mean_prediction: weighted mean of the predictions.
      mean_label: weighted mean of the labels.
      variance_sum_prediction: Σ w (prediction − mean)²; the biased variance is this over W.
      variance_sum_label: the same of the labels.
      covariance_sum: Σ w (prediction − mean)(label − mean).
      squared_error: Σ w (prediction − label)².
      absolute_error: Σ w |prediction − label|.
    """

    # Unchecked annotations: JAX rebuilds pytrees with leaves that are no arrays.
    count: Any
    weight: Any
    mean_prediction: Any
    mean_label: Any
    variance_sum_prediction: Any
    variance_sum_label: Any
    covariance_sum: Any
    squared_error: Any
    absolute_error: Any

    def merge(self, other: "CoMoments") -> "CoMoments":
        """Moments of both sets of pairs together (Chan, Golub & LeVeque 1979: exact, no cancellation of offsets)."""
        weight = self.weight + other.weight
        share = other.weight / _nonzero(weight)
        shift_prediction = other.mean_prediction - self.mean_prediction
        shift_label = other.mean_label - self.mean_label
        between = self.weight * share
        return CoMoments(
            count=self.count + other.count,
            weight=weight,
            mean_prediction=self.mean_prediction + shift_prediction * share,
            mean_label=self.mean_label + shift_label * share,
            variance_sum_prediction=self.variance_sum_prediction
            + other.variance_sum_prediction
            + shift_prediction**2 * between,
            variance_sum_label=self.variance_sum_label + other.variance_sum_label + shift_label**2 * between,
            covariance_sum=self.covariance_sum + other.covariance_sum + shift_prediction * shift_label * between,
            squared_error=self.squared_error + other.squared_error,
            absolute_error=self.absolute_error + other.absolute_error,
        )

    def ccc_terms(self) -> tuple[Any, Any]:
        """Numerator and denominator of the concordance correlation coefficient (Lin 1989), both (..., A).

        2·cov / (var_prediction + var_label + (mean_prediction − mean_label)²), with biased variances. Without the
        correlation's square roots, both terms and their gradients stay finite for constant predictions or labels.
        """
        weight = _nonzero(self.weight)
        variances = (self.variance_sum_prediction + self.variance_sum_label) / weight
        return 2 * self.covariance_sum / weight, variances + (self.mean_prediction - self.mean_label) ** 2


def co_moments(
    predictions: Float[AnyArray, "N A"],
    labels: Float[AnyArray, "N A"],
    weights: Float[AnyArray, "N"] | Float[AnyArray, "N A"],
) -> CoMoments:
    """Moments of N pairs per attribute, each mean subtracted before squaring.

    Args:
      predictions: any unit; ignored (may be NaN) where the pair does not count. NaN in a pair that counts spreads.
      labels: same unit; NaN where missing.
      weights: not negative; 0 excludes a pair. Per item, or per item and attribute.
    """
    xp = predictions.__array_namespace__()
    weights = weights[:, None] if weights.ndim == 1 else weights
    counted = pair_mask(labels, weights)
    # Masked before any arithmetic, so that masked pairs have neither a value nor a gradient.
    weights = xp.where(counted, weights, 0)
    predictions = xp.where(counted, predictions, 0)
    labels = xp.where(counted, labels, 0)
    total = weights.sum(axis=0)
    mean_prediction = _mean(predictions, weights, total)
    mean_label = _mean(labels, weights, total)
    centred_prediction = predictions - mean_prediction
    centred_label = labels - mean_label
    error = predictions - labels
    return CoMoments(
        count=counted.sum(axis=0),
        weight=total,
        mean_prediction=mean_prediction,
        mean_label=mean_label,
        variance_sum_prediction=(weights * centred_prediction**2).sum(axis=0),
        variance_sum_label=(weights * centred_label**2).sum(axis=0),
        covariance_sum=(weights * centred_prediction * centred_label).sum(axis=0),
        squared_error=(weights * error**2).sum(axis=0),
        absolute_error=(weights * xp.abs(error)).sum(axis=0),
    )


def pair_mask(labels: Any, weights: Any) -> Any:
    """True where a pair counts: it has a label, and a weight other than 0; a NaN weight counts and gives NaN."""
    xp = labels.__array_namespace__()
    return (weights != 0) & ~xp.isnan(labels)


def _mean(values: Any, weights: Any, total: Any) -> Any:
    # The second pass removes the rounding of the first: the mean of equal values is that value, their variance 0.
    mean = (weights * values).sum(axis=0) / _nonzero(total)
    return mean + (weights * (values - mean)).sum(axis=0) / _nonzero(total)


def _nonzero(divisor: Any) -> Any:
    xp = divisor.__array_namespace__()
    return xp.where(divisor == 0, 1, divisor)
