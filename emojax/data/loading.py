"""Reads utterances and pads them to batches, with stored inputs, votes and unlabelled utterances."""

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any, Literal

import numpy as np
from jaxtyping import Float, Int, Int16

from emojax.data.corpus import Corpus, open_split, read_utterances
from emojax.data.index import SplitIndex
from emojax.data.plan import FILLER, BatchPlan, PlannedBatch
from emojax.errors import CheckpointError
from emojax.feature_store import DTYPES, StoredSplit, check_content
from emojax.tokenizer import Tokenizer
from emojax.types import MISSING_EMOTION, NUM_ATTRIBUTES, Batch, StoredRows

_CHUNK = 512


def has_votes(corpus: Corpus, split: str) -> bool:
    """Whether any utterance has a vote for one of the corpus's categories; reads as far as the first that has one.

    Raises:
      CorpusError: no such split, or it cannot be read.
    """
    source = open_split(corpus, split)
    for start in range(0, len(source), _CHUNK):
        positions = range(start, min(start + _CHUNK, len(source)))
        utterances = read_utterances(source, positions, corpus.place(split), audio=False)
        votes = corpus.votes(np.stack([utterance["emotion_votes"] for utterance in utterances]))
        if (np.nan_to_num(votes) > 0).any():
            return True
    return False


@dataclasses.dataclass(frozen=True)
class StoredInput:
    """One array of a store.

    Attributes:
      split: the store's split.
      array: name of the array.
      rows: what its rows are.
      samples_per_row: distance of two frames; 0 where rows are not frames.
      may_lack: whether an utterance may have no row, as an empty transcript has.
      first: position in the store of the first utterance that is read.
    """

    split: StoredSplit
    array: str
    rows: Literal["frames", "tokens", "utterance"]
    samples_per_row: int = 0
    may_lack: bool = True
    first: int = 0

    def fitted(self, index: SplitIndex) -> "StoredInput":
        """The same for a split of the corpus, or for a part of the split that is stored.

        Raises:
          CheckpointError: it was computed from other content than the corpus has.
        """
        check_content(self.split.directory, self.split.metadata.content, index.content)
        ids, stored = index.ids.tolist(), self.split.metadata.ids
        first = self.split.positions.get(ids[0], 0)
        if ids != list(stored[first : first + len(ids)]):
            raise CheckpointError(f"{self.split.directory}: its {len(stored)} utterances are not those of the split")
        return dataclasses.replace(self, first=first)

    def check_rows(self, num_rows: int, num_samples: int) -> None:
        """Checks how many rows an utterance of so many samples has.

        Raises:
          CheckpointError: fewer or more than are possible.
        """
        most = {"utterance": 1, "frames": num_samples // max(self.samples_per_row, 1)}.get(self.rows, num_rows)
        if num_rows > most or not (num_rows or self.may_lack):
            raise CheckpointError(
                f"{self.split.directory}: an utterance of {num_samples} samples has {num_rows} rows of {self.array!r}, "
                f"expected {'at most ' if self.may_lack else ''}{most}"
            )

    def num_rows(self, num_samples: int, max_tokens: int) -> int:
        """Static number of rows in a batch of so many samples."""
        if self.rows == "frames":
            return num_samples // self.samples_per_row
        return max_tokens if self.rows == "tokens" else 1

    def first_row(self, first_sample: int) -> int:
        """Row at which a crop begins."""
        return first_sample // self.samples_per_row if self.rows == "frames" else 0


@dataclasses.dataclass(frozen=True)
class BatchInputs:
    """What is read.

    Attributes:
      audio: whether waveforms are; without them they have length 0 and `num_samples` still tells their length.
      tokenizer: folder or hub name of the transcripts' tokenizer; "": transcripts are not read.
      stored: arrays by the name they get in `Batch.stored`.
    """

    audio: bool = True
    tokenizer: str = ""
    stored: Mapping[str, StoredInput] = dataclasses.field(default_factory=dict)

    def fitted(self, index: SplitIndex) -> "BatchInputs":
        """The same with stores that have been checked against a split.

        Raises:
          CheckpointError: a store was computed from other content than the corpus has.
        """
        return dataclasses.replace(self, stored={name: stored.fitted(index) for name, stored in self.stored.items()})


AUDIO = BatchInputs()
"""Waveforms alone."""


class BatchLoader:
    """Loads this host's rows of a batch; picklable, so that worker processes can each hold one."""

    def __init__(
        self,
        corpus: Corpus,
        split: str,
        plan: BatchPlan,
        inputs: BatchInputs,
        max_tokens: int,
        rows: Int[np.ndarray, "R"] | None = None,
    ):
        """Prepares loading.

        Args:
          corpus: corpus the plan was made for.
          split: split the plan was made for.
          plan: which utterances form which batch.
          inputs: what to read; without a tokenizer, `Batch.tokens` has length 0.
          max_tokens: tokens a transcript is padded or cut to.
          rows: numbers of the rows that this process loads; None: all.
        """
        self._corpus, self._split, self._plan, self._inputs = corpus, split, plan, inputs
        self._max_tokens = max_tokens
        self._tokenizer = Tokenizer(inputs.tokenizer, max_tokens) if inputs.tokenizer else None
        self._rows = np.arange(plan.batch_size) if rows is None else rows
        self._source: Any = None

    def __call__(self, number: int) -> Batch:
        """Loads batch `number` of the plan as NumPy arrays, this host's rows only.

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
        tokens, num_tokens = self._tokens(examples, present, len(indices))
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
                name: self._stored(stored, examples, indices[present], present, starts, planned.num_samples)
                for name, stored in self._inputs.stored.items()
            },
        )

    def _read(self, indices: np.ndarray) -> list[dict[str, Any]]:
        if self._source is None:  # opened here, so that a loader sent to a worker process carries no open files
            self._source = open_split(self._corpus, self._split)
        return read_utterances(self._source, indices.tolist(), self._corpus.place(self._split), self._inputs.audio)

    def _crops(
        self, examples: list[dict[str, Any]], present: np.ndarray, indices: np.ndarray, planned: PlannedBatch
    ) -> tuple[Int[np.ndarray, "B"], Int[np.ndarray, "B"]]:
        """First sample and number of samples taken of each utterance; a crop's place is drawn anew every epoch."""
        starts, num_samples = np.zeros(len(indices), np.int64), np.zeros(len(indices), np.int32)
        for row, example in zip(present, examples, strict=True):
            samples = example["num_samples"]
            num_samples[row] = min(samples, planned.num_samples)
            if samples > planned.num_samples:
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
        stored: StoredInput,
        examples: list[dict[str, Any]],
        positions: np.ndarray,
        present: np.ndarray,
        starts: np.ndarray,
        padded: int,
    ) -> StoredRows:
        """The stored rows of the same utterances, cropped where the audio is."""
        (spec,) = [spec for spec in stored.split.specs if spec.name == stored.array]
        rows = stored.num_rows(padded, self._max_tokens)
        values = np.zeros((len(starts), rows, *spec.shape), DTYPES[spec.dtype])
        counts = np.zeros(len(starts), np.int32)
        read = stored.split.__getitems__((positions + stored.first).tolist())
        for row, example, arrays in zip(present, examples, read, strict=True):
            stored.check_rows(len(arrays[stored.array]), example["num_samples"])
            first = stored.first_row(int(starts[row]))
            found = arrays[stored.array][first : first + rows]
            values[row, : len(found)], counts[row] = found, len(found)
        return StoredRows(values, counts)

    def _tokens(self, examples, present, rows: int) -> tuple[Int[np.ndarray, "B L"], Int[np.ndarray, "B"]]:
        if self._tokenizer is None:
            return np.zeros((rows, 0), np.int32), np.zeros(rows, np.int32)
        texts = [""] * rows
        for row, example in zip(present, examples, strict=True):
            texts[row] = example["transcript"]
        return self._tokenizer(texts)


def _column(examples, name: str, present, shape, dtype, missing) -> Float[np.ndarray, "B ..."]:
    column = np.full(shape, missing, dtype)
    for row, example in zip(present, examples, strict=True):
        column[row] = example[name]
    return column


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
