"""Reads the utterances of a planned batch and lays them into padded NumPy arrays."""

from typing import Any

import numpy as np
from jaxtyping import Float, Int, Int16

from emojax.data.corpus import Corpus, open_split, read_examples
from emojax.data.plan import FILLER, BatchPlan, PlannedBatch
from emojax.errors import CorpusError
from emojax.text import Tokenizer
from emojax.types import MISSING_EMOTION, NUM_ATTRIBUTES, Batch


class BatchLoader:
    """Loads this host's rows of a batch; picklable, so that worker processes can each hold one."""

    def __init__(
        self, corpus: Corpus, split: str, plan: BatchPlan, tokenizer: Tokenizer | None, host: int = 0, hosts: int = 1
    ):
        """Prepares loading.

        Args:
          corpus: corpus the plan was made for.
          split: split the plan was made for.
          plan: which utterances form which batch.
          tokenizer: for the transcripts; without one, `Batch.tokens` has length 0.
          host: this process's number of `hosts`; it loads that contiguous part of the rows.
          hosts: number of processes; must divide the batch size.
        """
        self._corpus, self._split, self._plan, self._tokenizer = corpus, split, plan, tokenizer
        rows = plan.batch_size // hosts
        self._rows = slice(host * rows, (host + 1) * rows)
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
        waveform, num_samples = self._waveforms(examples, present, indices, planned)
        low, high = self._corpus.info.scale
        attributes = _column(examples, "attributes", present, (len(indices), NUM_ATTRIBUTES), np.float32, np.nan)
        categories = len(self._corpus.info.categories)
        votes = np.full((len(indices), categories), np.nan, np.float32)
        for row, example in zip(present, examples, strict=True):
            votes[row] = np.asarray(example["emotion_votes"], np.float32)[:categories]
        tokens, num_tokens = self._tokens(examples, present, len(indices))
        return Batch(
            waveform=waveform,
            num_samples=num_samples,
            tokens=tokens,
            num_tokens=num_tokens,
            attributes=(attributes - np.float32(low)) / np.float32(high - low),
            emotion=_column(examples, "emotion", present, (len(indices),), np.int32, MISSING_EMOTION),
            emotion_votes=votes,
            weight=(indices != FILLER).astype(np.float32),
            index=indices.astype(np.int32),
        )

    def _read(self, indices: np.ndarray) -> list[dict[str, Any]]:
        if self._source is None:  # opened here, so that a loader sent to a worker process carries no open files
            self._source = open_split(self._corpus, self._split)
        return read_examples(self._source, indices.tolist(), self._corpus.place(self._split))

    def _waveforms(
        self, examples: list[dict[str, Any]], present: np.ndarray, indices: np.ndarray, planned: PlannedBatch
    ) -> tuple[Int16[np.ndarray, "B S"], Int[np.ndarray, "B"]]:
        waveform = np.zeros((len(indices), planned.num_samples), np.int16)
        num_samples = np.zeros(len(indices), np.int32)
        for row, example in zip(present, examples, strict=True):
            audio = example["audio"]
            if len(audio) == 0:
                raise CorpusError(f"{self._corpus.info.name}: utterance {example['id']!r} has no audio")
            audio = _crop(audio, planned.num_samples, (self._plan.seed, planned.epoch, int(indices[row])))
            waveform[row, : len(audio)] = audio
            num_samples[row] = len(audio)
        return waveform, num_samples

    def _tokens(self, examples, present, rows: int) -> tuple[Int[np.ndarray, "B L"], Int[np.ndarray, "B"]]:
        if self._tokenizer is None:
            return np.zeros((rows, 0), np.int32), np.zeros(rows, np.int32)
        texts = [""] * rows
        for row, example in zip(present, examples, strict=True):
            text = example["transcript"]
            texts[row] = text.decode() if isinstance(text, bytes) else str(text)
        return self._tokenizer(texts)


def _crop(audio: Int16[np.ndarray, "S"], num_samples: int, seed: tuple[int, int, int]) -> Int16[np.ndarray, "s"]:
    """A clip that does not fit is cut at a place drawn anew every epoch."""
    if len(audio) <= num_samples:
        return audio
    start = int(np.random.default_rng(seed).integers(0, len(audio) - num_samples + 1))
    return audio[start : start + num_samples]


def _column(examples, name: str, present, shape, dtype, missing) -> Float[np.ndarray, "B ..."]:
    column = np.full(shape, missing, dtype)
    for row, example in zip(present, examples, strict=True):
        column[row] = example[name]
    return column
