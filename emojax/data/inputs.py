"""Description of the inputs that batches contain: audio, tokens, arrays of feature stores."""

import dataclasses
from collections.abc import Mapping
from typing import Literal

import numpy as np
from jaxtyping import Int

from emojax.data.index import SplitIndex
from emojax.data.transcripts import RecognisedTranscripts
from emojax.errors import CheckpointError
from emojax.feature_store import JoinedSplits, StoredSplit, check_content


@dataclasses.dataclass(frozen=True)
class StoredInput:
    """An array of a feature store that is loaded with every batch.

    Attributes:
      split: split of the feature store.
      array: name of the array.
      rows: unit of the array's rows.
      samples_per_row: frame shift in samples; 0 if rows are not frames.
      rows_at_once: rows per `samples_per_row`: 1, or for clips that an encoder pads to its longest input, the frames of
        that input, `samples_per_row`.
      allow_empty: whether an utterance may have no row, as for an empty transcript.
      positions: position in the store of each of the split's utterances; None before `for_split`.
    """

    split: StoredSplit | JoinedSplits
    array: str
    rows: Literal["frames", "tokens", "utterance"]
    samples_per_row: int = 0
    rows_at_once: int = 1
    allow_empty: bool = True
    positions: Int[np.ndarray, "N"] | None = None

    def for_split(self, index: SplitIndex) -> "StoredInput":
        """Aligns the stored split with a split of the corpus, or with a part of it.

        Args:
          index: index of the corpus's split.

        Raises:
          CheckpointError: the features were computed from another version of the corpus.
        """
        check_content(self.split.directory, self.split.content, index.content)
        positions = [self.split.positions.get(id, -1) for id in index.ids.tolist()]
        if min(positions) < 0:
            stored = len(self.split)
            raise CheckpointError(f"{self.split.directory}: its {stored} utterances are not those of the split")
        return dataclasses.replace(self, positions=np.array(positions, np.int64))

    def check_rows(self, num_rows: int, num_samples: int) -> None:
        """Checks the number of rows of an utterance against its length.

        Raises:
          CheckpointError: the utterance has fewer or more rows than possible.
        """
        most = num_rows if self.rows == "tokens" else self.num_rows(num_samples, 0)
        if num_rows > most or not (num_rows or self.allow_empty):
            raise CheckpointError(
                f"{self.split.directory}: an utterance of {num_samples} samples has {num_rows} rows of {self.array!r}, "
                f"expected {'at most ' if self.allow_empty else ''}{most}"
            )

    def num_rows(self, num_samples: int, max_tokens: int) -> int:
        """Returns the static number of rows in a batch padded to `num_samples`."""
        if self.rows == "frames":
            return -(-num_samples // self.samples_per_row) * self.rows_at_once
        return max_tokens if self.rows == "tokens" else 1

    def first_row(self, first_sample: int) -> int:
        """Returns the row at which a crop starts."""
        return first_sample // self.samples_per_row * self.rows_at_once if self.rows == "frames" else 0


@dataclasses.dataclass(frozen=True)
class BatchInputs:
    """Inputs that batches contain.

    Attributes:
      audio: whether to load waveforms; otherwise `Batch.waveform` has length 0, and `num_samples` is still filled.
      tokenizer: folder or hub name of the tokenizer of transcripts; "": transcripts are not loaded.
      stored: arrays of feature stores by their name in `Batch.stored`.
      transcripts: transcripts of a recognizer; None: the corpus's own.
      ratings: whether to load `Batch.attributes_std` and `Batch.rating_counts`.
    """

    audio: bool = True
    tokenizer: str = ""
    stored: Mapping[str, StoredInput] = dataclasses.field(default_factory=dict)
    transcripts: RecognisedTranscripts | None = None
    ratings: bool = False

    def for_split(self, index: SplitIndex) -> "BatchInputs":
        """Aligns stores and transcripts with a split; see `StoredInput.for_split`.

        Raises:
          CheckpointError: a store was computed from another version of the corpus, or from other transcripts.
        """
        transcripts = self.transcripts.for_split(index) if self.transcripts else None
        if transcripts:
            index = transcripts.replaced(index)
        stored = {name: stored.for_split(index) for name, stored in self.stored.items()}
        return dataclasses.replace(self, stored=stored, transcripts=transcripts)


AUDIO = BatchInputs()
"""Waveforms only."""
