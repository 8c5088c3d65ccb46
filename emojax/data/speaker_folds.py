"""Assignment of speakers to cross-validation folds: a pure function of the utterances' speakers and labels."""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float, Int

from emojax.errors import ConfigError
from emojax.types import MISSING_EMOTION

_NUM_RATING_STRATA = 3


def speaker_folds(
    speakers: Sequence[str] | np.ndarray, strata: Int[np.ndarray, "N"], num_folds: int
) -> list[tuple[str, ...]]:
    """Divides speakers into folds of about equal size and about equal shares of every stratum.

    Speakers are assigned in order of their number of utterances, the largest first, each to the fold whose counts come
    closest to equal shares; no fold is empty. With as many folds as speakers each fold is one speaker, in order.

    Args:
      speakers: speaker of every utterance; the utterances of unknown speakers, "", stay together.
      strata: stratum of every utterance, >= 0 (see `label_strata`).
      num_folds: folds, at least 2.

    Returns:
      The speakers of each fold, sorted; every speaker is in one fold.

    Raises:
      ConfigError: there are fewer speakers than folds.
    """
    names, number_of = np.unique(np.asarray(speakers, str), return_inverse=True)
    if num_folds < 2 or len(names) < num_folds:
        raise ConfigError(f"--folds must be >= 2 and <= {len(names)}, the number of speakers, got {num_folds}")
    if num_folds == len(names):
        return [(str(name),) for name in names]
    counts = np.zeros((len(names), int(strata.max(initial=0)) + 2))
    np.add.at(counts, (number_of, strata), 1)
    counts[:, -1] = counts.sum(axis=1)  # the size counts as one more stratum
    share = counts.sum(axis=0) / num_folds
    scale = np.where(share > 0, share, 1.0)
    filled = np.zeros((num_folds, counts.shape[1]))
    members: list[list[str]] = [[] for _ in range(num_folds)]
    order = sorted(range(len(names)), key=lambda speaker: (-counts[speaker, -1], speaker))
    for place, speaker in enumerate(order):
        empty = [fold for fold in range(num_folds) if not members[fold]]
        allowed = empty if len(order) - place <= len(empty) else range(num_folds)
        before = np.square((filled - share) / scale).sum(axis=1)
        after = np.square((filled + counts[speaker] - share) / scale).sum(axis=1)
        fold = min(allowed, key=lambda fold: (after[fold] - before[fold], fold))
        filled[fold] += counts[speaker]
        members[fold].append(str(names[speaker]))
    return [tuple(sorted(group)) for group in members]


def label_strata(attributes: Float[np.ndarray, "N 3"], emotion: Int[np.ndarray, "N"]) -> Int[np.ndarray, "N"]:
    """Strata of utterances: their category, else the third of all ratings that their mean rating is in.

    Args:
      attributes: NaN where missing.
      emotion: category; -1 where missing.
    """
    if (emotion != MISSING_EMOTION).any():
        return (emotion + 1).astype(np.int64)
    rated = ~np.isnan(attributes).all(axis=1)
    strata = np.zeros(len(attributes), np.int64)
    if rated.any():
        means = np.nanmean(attributes[rated], axis=1)
        bounds = np.quantile(means, np.arange(1, _NUM_RATING_STRATA) / _NUM_RATING_STRATA)
        strata[rated] = 1 + np.searchsorted(bounds, means)
    return strata
