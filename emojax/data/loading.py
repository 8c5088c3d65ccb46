"""Loads batches: reads utterances and stored features, crops and pads them, adds unlabelled utterances."""

import dataclasses
from collections.abc import Callable
from typing import Any

import numpy as np
from jaxtyping import Float, Int, Int16

from emojax.data.corpus import Corpus, open_split, read_utterances
from emojax.data.inputs import BatchInputs, StoredInput
from emojax.data.plan import FILLER, BatchPlan, PlannedBatch
from emojax.data.ratings import rating_counts, std_of_counts
from emojax.feature_store import DTYPES
from emojax.tokenizer import Tokenizer
from emojax.types import MISSING_EMOTION, NUM_ATTRIBUTES, Batch, StoredRows

_KEPT_UTTERANCES = 20_000
"""Utterances without audio that a loader keeps in memory once they were read, at a few kB each."""

_KEPT_BYTES = 2**28
"""Bytes of pooled hidden states, one row per utterance, that a loader keeps once they were read."""


class BatchLoader:
    """Loads this host's rows of a batch; picklable, for worker processes."""

    def __init__(
        self,
        corpus: Corpus,
        split: str,
        plan: BatchPlan,
        inputs: BatchInputs,
        max_tokens: int,
        rows: Int[np.ndarray, "R"] | None = None,
    ):
        """Creates a loader; files are opened by the first call.

        Args:
          corpus: corpus of the plan.
          split: split of the plan.
          plan: assignment of utterances to batches.
          inputs: inputs to load; without a tokenizer, `Batch.tokens` has length 0.
          max_tokens: number of tokens that transcripts are padded or truncated to.
          rows: indices of the batch rows that this process loads; None: all.
        """
        self._corpus, self._split, self._plan, self._inputs = corpus, split, plan, inputs
        self._max_tokens = max_tokens
        self._tokenizer = Tokenizer(inputs.tokenizer, max_tokens) if inputs.tokenizer else None
        self._rows = np.arange(plan.batch_size) if rows is None else rows
        self._source: Any = None
        self._examples = _KeptRows(0 if inputs.audio else _KEPT_UTTERANCES)
        self._features = {name: _KeptRows(_kept_rows(stored)) for name, stored in inputs.stored.items()}

    def __call__(self, number: int) -> Batch:
        """Loads this host's rows of batch `number` of the plan as NumPy arrays.

        Raises:
          CorpusError: an utterance cannot be read; the message names it.
        """
        planned = self._plan.batch(number)
        indices = planned.indices[self._rows]
        present = np.flatnonzero(indices != FILLER)
        examples = self._read(indices[present])
        starts, num_samples = self._crops(examples, present, indices, planned)
        low, high = self._corpus.info.scale
        attributes = _column(examples, "attributes", present, (len(indices), NUM_ATTRIBUTES), np.float32, np.nan)
        votes = np.full((len(indices), len(self._corpus.info.categories)), np.nan, np.float32)
        if examples:
            votes[present] = self._corpus.votes(np.stack([row["emotion_votes"] for row in examples]))
        tokens, num_tokens = self._tokens(examples, present, indices)
        ratings = self._ratings(examples, present, len(indices)) if self._inputs.ratings else {}
        return Batch(
            waveform=self._waveforms(examples, present, starts, num_samples, planned.num_samples),
            num_samples=num_samples,
            tokens=tokens,
            num_tokens=num_tokens,
            attributes=(attributes - np.float32(low)) / np.float32(high - low),
            emotion=self._corpus.emotion(
                _column(examples, "emotion", present, (len(indices),), np.int32, MISSING_EMOTION)
            ),
            emotion_votes=votes,
            weight=(indices != FILLER).astype(np.float32),
            index=indices.astype(np.int32),
            stored={
                name: self._stored(name, stored, examples, indices[present], present, starts, planned.num_samples)
                for name, stored in self._inputs.stored.items()
            },
            **ratings,
        )

    def _ratings(self, examples: list[dict[str, Any]], present: np.ndarray, rows: int) -> dict[str, Any]:
        counts = np.zeros((rows, NUM_ATTRIBUTES, self._corpus.rating_bins), np.float32)
        for row, example in zip(present, examples, strict=True):
            counts[row] = rating_counts(self._corpus, example)
        low, high = self._corpus.info.scale
        stds = _column(examples, "attributes_std", present, (rows, NUM_ATTRIBUTES), np.float32, np.nan)
        stds = np.where(np.isnan(stds), std_of_counts(counts), stds / np.float32(high - low))
        return {"attributes_std": stds.astype(np.float32), "rating_counts": counts}

    def _read(self, indices: np.ndarray) -> list[dict[str, Any]]:
        if self._source is None:  # opened lazily, so that the pickled loader holds no open files
            self._source = open_split(self._corpus, self._split)
        context, audio = self._corpus.describe(self._split), self._inputs.audio
        return self._examples.get(
            indices.tolist(), lambda missing: read_utterances(self._source, missing, context, audio)
        )

    def _crops(
        self, examples: list[dict[str, Any]], present: np.ndarray, indices: np.ndarray, planned: PlannedBatch
    ) -> tuple[Int[np.ndarray, "B"], Int[np.ndarray, "B"]]:
        """Returns first sample and number of samples of each utterance; random crops differ between epochs.

        The first samples are drawn only where an input has a time axis: a generator per row is most of the time of a
        batch of pooled features.
        """
        cropped = self._inputs.audio or any(stored.rows == "frames" for stored in self._inputs.stored.values())
        starts, num_samples = np.zeros(len(indices), np.int64), np.zeros(len(indices), np.int32)
        for row, example in zip(present, examples, strict=True):
            samples = example["num_samples"]
            num_samples[row] = min(samples, planned.num_samples)
            if cropped and samples > planned.num_samples:
                seed = (self._plan.seed, planned.epoch, int(indices[row]))
                starts[row] = np.random.default_rng(seed).integers(0, samples - planned.num_samples + 1)
        return starts, num_samples

    def _waveforms(
        self,
        examples: list[dict[str, Any]],
        present: np.ndarray,
        starts: np.ndarray,
        num_samples: np.ndarray,
        padded: int,
    ) -> Int16[np.ndarray, "B S"]:
        waveform = np.zeros((len(starts), padded if self._inputs.audio else 0), np.int16)
        if self._inputs.audio:
            for row, example in zip(present, examples, strict=True):
                end = starts[row] + num_samples[row]
                waveform[row, : num_samples[row]] = example["audio"][starts[row] : end]
        return waveform

    def _stored(
        self,
        name: str,
        stored: StoredInput,
        examples: list[dict[str, Any]],
        positions: np.ndarray,
        present: np.ndarray,
        starts: np.ndarray,
        padded: int,
    ) -> StoredRows:
        """Loads the stored rows of the utterances, cropped like the audio."""
        (spec,) = [spec for spec in stored.split.specs if spec.name == stored.array]
        rows = stored.num_rows(padded, self._max_tokens)
        values = np.zeros((len(starts), rows, *spec.shape), DTYPES[spec.dtype])
        counts = np.zeros(len(starts), np.int32)
        assert stored.positions is not None  # of `for_split`
        read = self._features[name].get(stored.positions[positions].tolist(), stored.split.__getitems__)
        for row, example, arrays in zip(present, examples, read, strict=True):
            stored.check_rows(len(arrays[stored.array]), example["num_samples"])
            first = stored.first_row(int(starts[row]))
            found = arrays[stored.array][first : first + rows]
            values[row, : len(found)], counts[row] = found, len(found)
        return StoredRows(values, counts)

    def _tokens(self, examples, present, indices) -> tuple[Int[np.ndarray, "B L"], Int[np.ndarray, "B"]]:
        if self._tokenizer is None:
            return np.zeros((len(indices), 0), np.int32), np.zeros(len(indices), np.int32)
        texts, recognised = [""] * len(indices), self._inputs.transcripts
        for row, example in zip(present, examples, strict=True):
            texts[row] = recognised.texts[indices[row]] if recognised else example["transcript"]
        return self._tokenizer(texts)


class _KeptRows:
    """Rows that stay in memory once they were read, so that later epochs do not decode them again."""

    def __init__(self, limit: int):
        """Keeps up to `limit` rows."""
        self._limit, self._rows = limit, dict[int, Any]()

    def get(self, positions: list[int], read: Callable[[list[int]], list[Any]]) -> list[Any]:
        """Returns rows by position; `read` returns those that are not kept."""
        missing = [position for position in positions if position not in self._rows]
        found = dict(zip(missing, read(missing), strict=True)) if missing else {}
        if len(self._rows) + len(found) <= self._limit:
            self._rows |= found
        return [found[position] if position in found else self._rows[position] for position in positions]

    def __getstate__(self) -> dict[str, Any]:
        return {"_limit": self._limit, "_rows": {}}  # a worker process reads its own


def _kept_rows(stored: StoredInput) -> int:
    """Rows of a store that are kept: none of those of frames or tokens."""
    return _KEPT_BYTES // sum(spec.bytes_per_row for spec in stored.split.specs) if stored.rows == "utterance" else 0


def _column(examples, name: str, present, shape, dtype, missing) -> Float[np.ndarray, "B ..."]:
    column = np.full(shape, missing, dtype)
    for row, example in zip(present, examples, strict=True):
        column[row] = example[name]
    return column


@dataclasses.dataclass(frozen=True)
class MixedLoader:
    """Loads batches of labelled utterances followed by unlabelled ones.

    Attributes:
      labelled: loader of the first rows.
      unlabelled: loader of the last rows, whose labels are masked; it restarts after its last batch.
    """

    labelled: Callable[[int], Batch]
    unlabelled: Callable[[int], Batch]

    def __call__(self, number: int) -> Batch:
        """Loads a batch as NumPy arrays; waveforms are padded to the longer of the two."""
        return concatenate_batches(self.labelled(number), mask_labels(self.unlabelled(number)))


def mask_labels(batch: Batch) -> Batch:
    """Sets all labels of a batch to missing, and its indices to -1."""
    return batch.replace(  # type: ignore[attr-defined]
        attributes=np.full_like(batch.attributes, np.nan),
        emotion=np.full_like(batch.emotion, MISSING_EMOTION),
        emotion_votes=np.full_like(batch.emotion_votes, np.nan),
        index=np.full_like(batch.index, -1),
        attributes_std=None if batch.attributes_std is None else np.full_like(batch.attributes_std, np.nan),
        rating_counts=None if batch.rating_counts is None else np.zeros_like(batch.rating_counts),
    )


def concatenate_batches(first: Batch, second: Batch) -> Batch:
    """Concatenates two batches; the second has no labels, and its categories may differ."""
    categories = first.emotion_votes.shape[1]
    votes = np.full((len(second.emotion), categories), np.nan, np.float32)
    stored = {
        name: StoredRows(_concatenate(rows.values, other.values), _concatenate(rows.num_rows, other.num_rows))
        for name, rows, other in ((name, first.stored[name], second.stored[name]) for name in first.stored)
    }
    columns = ("waveform", "num_samples", "tokens", "num_tokens", "attributes", "emotion", "weight", "index")
    both = {name: _concatenate(getattr(first, name), getattr(second, name)) for name in columns}
    if first.rating_counts is not None:  # the second may be of a corpus with other values
        rows = len(second.emotion)
        both["attributes_std"] = _concatenate(
            np.asarray(first.attributes_std), np.full((rows, NUM_ATTRIBUTES), np.nan, np.float32)
        )
        none = np.zeros((rows, *first.rating_counts.shape[1:]), np.float32)
        both["rating_counts"] = np.concatenate([first.rating_counts, none])
    return first.replace(**both, emotion_votes=_concatenate(first.emotion_votes, votes), stored=stored)  # type: ignore[attr-defined]


def _concatenate(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Concatenates rows, padding the shorter ones with zeros along the second axis."""
    if first.ndim == 1:
        return np.concatenate([first, second])
    length = max(first.shape[1], second.shape[1])
    rows = np.zeros((len(first) + len(second), length, *first.shape[2:]), first.dtype)
    rows[: len(first), : first.shape[1]] = first
    rows[len(first) :, : second.shape[1]] = second
    return rows
