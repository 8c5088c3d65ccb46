"""Differences between groups, and the differences that random models have by chance in groups of the same sizes.

A random model draws its predictions from the labels, independently of the utterance. Its groups differ only by chance,
so that a bound which 5 % of random models exceed is a threshold for any model on these groups (Derington et al. 2023,
arXiv 2312.06270). The statistic is the largest difference over the groups: its bound holds for all groups together.
"""

from collections.abc import Callable, Iterator

import numpy as np
from jaxtyping import Float, Int

from emojax.metrics.scores import ccc, ratio_or_nan

Simulate = Callable[[np.random.Generator, int], dict[str, Float[np.ndarray, "R G ..."]]]
"""Differences of a number of random models in G groups, by name; NaN where one is not defined."""

_VALUES_AT_ONCE = 2_000_000
"""Simulated predictions in memory at a time."""


def ccc_differences(
    predictions: Float[np.ndarray, "M R"],
    labels: Float[np.ndarray, "M"],
    group: Int[np.ndarray, "M"],
    num_groups: int,
) -> Float[np.ndarray, "R G"]:
    """Absolute difference of the CCC of every group from that of all utterances.

    Args:
      predictions: predictions of R models.
      labels: labels.
      group: group of every utterance.
      num_groups: G.
    """
    targets = np.broadcast_to(labels[:, None], predictions.shape)
    whole = ccc(predictions, targets)
    parts = [ccc(predictions[group == number], targets[group == number]) for number in range(num_groups)]
    return np.abs(np.stack(parts, axis=1) - whole[:, None])


def class_differences(
    predicted: Int[np.ndarray, "R M"],
    labels: Int[np.ndarray, "M"],
    group: Int[np.ndarray, "M"],
    num_groups: int,
    num_classes: int,
) -> dict[str, Float[np.ndarray, "R G ..."]]:
    """Absolute difference of every group from all utterances, in recall and precision of classes, and in UAR.

    Args:
      predicted: predicted class of every utterance, of R models.
      labels: labelled class.
      group: group of every utterance.
      num_groups: G.
      num_classes: C.

    Returns:
      `recall` and `precision` (R, G, C), NaN where a group has no such label, or prediction; `uar` (R, G).
    """
    membership = np.eye(num_groups, dtype=np.float32)[group]
    everyone = np.concatenate([membership, np.ones((len(group), 1), np.float32)], axis=1)  # the last column is all
    recalls, precisions = [], []
    for number in range(num_classes):
        chosen = (predicted == number).astype(np.float32)
        labelled = everyone * (labels == number)[:, None]
        hits = chosen @ labelled
        recalls.append(ratio_or_nan(hits, np.broadcast_to(labelled.sum(axis=0), hits.shape)))
        precisions.append(ratio_or_nan(hits, chosen @ everyone))
    recall, precision = np.stack(recalls, axis=-1), np.stack(precisions, axis=-1)
    present = ~np.isnan(recall)
    uar = ratio_or_nan(np.where(present, recall, 0).sum(axis=-1), present.sum(axis=-1))
    return {
        name: np.abs(values[:, :-1] - values[:, -1:])
        for name, values in (("recall", recall), ("precision", precision), ("uar", uar))
    }


def shifts(values: Float[np.ndarray, "M R"], group: Int[np.ndarray, "M"], num_groups: int) -> Float[np.ndarray, "R G"]:
    """Absolute difference of the mean of every group from the mean of all utterances.

    Args:
      values: values of R models, e.g. predictions, or 1 where a category is predicted.
      group: group of every utterance.
      num_groups: G.
    """
    parts = [values[group == number].mean(axis=0) for number in range(num_groups)]
    return np.abs(np.stack(parts, axis=1) - values.mean(axis=0)[:, None])


def random_values(random: np.random.Generator, shape: tuple[int, ...], share: float | None) -> Float[np.ndarray, "..."]:
    """Outputs of random models where no labels are needed.

    Args:
      random: generator.
      shape: shape of the result.
      share: probability of 1, for the choice of a category; None for an attribute on [0, 1], whose predictions are
        normal around 0.5 with standard deviation 1/6.
    """
    if share is not None:
        return (random.random(shape) < share).astype(np.float64)
    return random.normal(0.5, 1 / 6, shape)


def simulated_bounds(
    simulate: Simulate,
    size: int,
    simulations: int,
    level: float,
    seed: int,
) -> dict[str, Float[np.ndarray, "..."]]:
    """Bounds that the largest difference over the groups exceeds in a share of random models.

    Args:
      simulate: function that simulates random models.
      size: number of utterances, which limits how many random models are in memory.
      simulations: number of random models.
      level: share of the random models that exceed the bound.
      seed: seed of the random models.

    Returns:
      By name, the bound, without the axes of models and groups; NaN where no random model defines a difference.
    """
    random = np.random.default_rng(seed)
    parts: dict[str, list[np.ndarray]] = {}
    for number in _chunks(simulations, max(1, _VALUES_AT_ONCE // max(size, 1))):
        for name, differences in simulate(random, number).items():
            largest = np.where(np.isnan(differences), -np.inf, differences).max(axis=1)
            parts.setdefault(name, []).append(np.where(np.isinf(largest), np.nan, largest))
    return {name: _quantile(np.concatenate(found), 1 - level) for name, found in parts.items()}


def threshold_note(least: float, chance: float, level: float) -> str:
    """States which of a set and a simulated threshold applies."""
    source = "simulated" if chance > least else "set"
    return f"threshold {source}: {100 * level:g} % of random models exceed {chance:.3f}"


def _quantile(values: np.ndarray, share: float) -> np.ndarray:
    defined = ~np.isnan(values).all(axis=0)
    filled = np.where(defined, values, 0.0)
    return np.where(defined, np.nanquantile(filled, share, axis=0), np.nan)


def _chunks(total: int, most: int) -> Iterator[int]:
    for start in range(0, total, most):
        yield min(most, total - start)
