"""Scores of predicted distributions of ratings against the choices of raters; moments and quantiles of distributions.

Distributions are over K equally spaced values v_1 < … < v_K of a rating scale. Counts hold how many raters chose each
value; every single rating is one observation, so that an utterance counts by its number of raters. Scores are per
attribute, float64, and NaN where there is no rating.
"""

import numpy as np
from jaxtyping import Float

from emojax.metrics.scores import ratio_or_nan

COVERAGE_LEVELS = tuple(level / 20 for level in range(1, 20))
"""Probabilities of central intervals whose coverage is measured: 0.05 to 0.95."""


def expectation(
    probabilities: Float[np.ndarray, "*B K"], values: Float[np.ndarray, "K"]
) -> Float[np.ndarray, "*B"] | np.float64:
    """Mean of the distributions."""
    return probabilities @ values


def spread(
    probabilities: Float[np.ndarray, "*B K"], values: Float[np.ndarray, "K"]
) -> Float[np.ndarray, "*B"] | np.float64:
    """Standard deviation of the distributions, in the unit of the values."""
    squared = (values - np.asarray(expectation(probabilities, values))[..., None]) ** 2
    return np.sqrt((probabilities * squared).sum(axis=-1))


def quantile(
    probabilities: Float[np.ndarray, "*B K"], values: Float[np.ndarray, "K"], level: float
) -> Float[np.ndarray, "*B"] | np.float64:
    """The least value v with P(rating <= v) >= level, for a level in (0, 1]."""
    # Rounding of the sum must not move the quantile to the next value.
    reached = np.cumsum(probabilities, axis=-1) >= level - 1e-9
    reached[..., -1] = True
    return values[reached.argmax(axis=-1)]


def negative_log_likelihood(
    probabilities: Float[np.ndarray, "N A K"], counts: Float[np.ndarray, "N A K"]
) -> Float[np.ndarray, "A"]:
    """−Σ c log p / Σ c, in nats per rating; infinite if a value with probability 0 was chosen."""
    with np.errstate(divide="ignore"):
        logs = np.log(probabilities)
    losses = -np.where(counts > 0, counts * np.where(counts > 0, logs, 0.0), 0.0)
    return ratio_or_nan(losses.sum(axis=(0, 2)), counts.sum(axis=(0, 2)))


def crps(
    probabilities: Float[np.ndarray, "N A K"], counts: Float[np.ndarray, "N A K"], values: Float[np.ndarray, "K"]
) -> Float[np.ndarray, "A"]:
    """Continuous ranked probability score, mean over ratings, in the unit of the values.

    ∫ (F(x) − 1[x >= y])² dx (Matheson and Winkler 1976) of the step functions F between the values: the discrete ranked
    probability score (Epstein 1969) times the distance of values. For a distribution on one value it is the absolute
    error.
    """
    cumulative = np.cumsum(probabilities, axis=-1)[..., None, :-1]
    observed = np.tri(len(values)).T[:, :-1]  # row y: 1 from value y on
    per_rating = ((cumulative - observed) ** 2 * np.diff(values)).sum(axis=-1)
    return ratio_or_nan((counts * per_rating).sum(axis=(0, 2)), counts.sum(axis=(0, 2)))


def coverage(
    probabilities: Float[np.ndarray, "N A K"], counts: Float[np.ndarray, "N A K"], levels: Float[np.ndarray, "L"]
) -> Float[np.ndarray, "L A"]:
    """Share of ratings within central intervals of given probabilities.

    Intervals of a discrete distribution have no exact probability. A rating y therefore counts with the share of its
    probability mass, from F(y − 1) to F(y), that lies between (1 − level) / 2 and (1 + level) / 2: the expectation over
    the randomised probability integral transform (Czado, Gneiting and Held 2009). The coverage of the distributions
    that ratings are drawn from is the level.
    """
    upper = np.cumsum(probabilities, axis=-1)
    lower = upper - probabilities
    total = counts.sum(axis=(0, 2))
    found = []
    for level in levels:
        first, last = (1.0 - level) / 2, (1.0 + level) / 2
        overlap = np.clip(np.minimum(upper, last) - np.maximum(lower, first), 0.0, None)
        # Without probability, the mass is a point, which lies within the interval or not.
        point = ((lower >= first) & (lower <= last)).astype(np.float64)
        share = np.where(probabilities > 0, overlap / np.where(probabilities > 0, probabilities, 1.0), point)
        found.append(ratio_or_nan((counts * share).sum(axis=(0, 2)), total))
    return np.array(found)


def histogram_shares(counts: Float[np.ndarray, "N A K"]) -> Float[np.ndarray, "N A K"]:
    """Counts divided by the number of raters; equal shares where there are none."""
    total = counts.sum(axis=-1, keepdims=True)
    return np.where(total > 0, counts / np.where(total > 0, total, 1.0), 1.0 / counts.shape[-1])


def marginal_distribution(counts: Float[np.ndarray, "N A K"]) -> Float[np.ndarray, "N A K"]:
    """The distribution of all ratings of an attribute together, for every utterance."""
    return np.broadcast_to(histogram_shares(counts.sum(axis=0, keepdims=True)), counts.shape)
