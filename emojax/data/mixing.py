"""Batches whose last rows are utterances without labels, from another split or another corpus."""

import dataclasses
from collections.abc import Callable

import numpy as np

from emojax.types import MISSING_EMOTION, Batch, StoredRows


@dataclasses.dataclass(frozen=True)
class MixedLoader:
    """Loads batch N of both and joins them.

    Attributes:
      labelled: loads the first rows.
      unlabelled: loads the last rows, whose labels are hidden; begins again after its own last batch.
    """

    labelled: Callable[[int], Batch]
    unlabelled: Callable[[int], Batch]

    def __call__(self, number: int) -> Batch:
        """Loads a batch as NumPy arrays; its waveforms have the greater length of the two."""
        return joined(self.labelled(number), without_labels(self.unlabelled(number)))


def without_labels(batch: Batch) -> Batch:
    """The same utterances, of which nothing is known."""
    return batch.replace(  # type: ignore[attr-defined]
        attributes=np.full_like(batch.attributes, np.nan),
        emotion=np.full_like(batch.emotion, MISSING_EMOTION),
        emotion_votes=np.full_like(batch.emotion_votes, np.nan),
        index=np.full_like(batch.index, -1),
    )


def joined(first: Batch, second: Batch) -> Batch:
    """The rows of two batches, one after the other; the second has no labels, and its corpus any categories."""
    categories = first.emotion_votes.shape[1]
    votes = np.full((len(second.emotion), categories), np.nan, np.float32)
    stored = {
        name: StoredRows(_stacked(rows.values, other.values), _stacked(rows.num_rows, other.num_rows))
        for name, rows, other in ((name, first.stored[name], second.stored[name]) for name in first.stored)
    }
    columns = ("waveform", "num_samples", "tokens", "num_tokens", "attributes", "emotion", "weight", "index")
    both = {name: _stacked(getattr(first, name), getattr(second, name)) for name in columns}
    return first.replace(**both, emotion_votes=_stacked(first.emotion_votes, votes), stored=stored)  # type: ignore[attr-defined]


def _stacked(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Rows of both, the shorter ones padded with zeros along their second axis."""
    if first.ndim == 1:
        return np.concatenate([first, second])
    length = max(first.shape[1], second.shape[1])
    rows = np.zeros((len(first) + len(second), length, *first.shape[2:]), first.dtype)
    rows[: len(first), : first.shape[1]] = first
    rows[len(first) :, : second.shape[1]] = second
    return rows
