"""Reads the utterances of a planned batch and lays them into padded NumPy arrays."""

from typing import Any

import numpy as np
from jaxtyping import Float, Int, Int16

from emojax.data.corpus import Corpus, open_split
from emojax.data.inputs import BatchInputs, StoredInput
from emojax.data.plan import FILLER, BatchPlan, PlannedBatch
from emojax.data.records import read_utterances
from emojax.store import DTYPES
from emojax.text import Tokenizer
from emojax.types import MISSING_EMOTION, NUM_ATTRIBUTES, Batch, StoredRows


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
