"""What a model needs of every utterance: audio, tokens, arrays from stores; what it does not need is not read."""

import dataclasses
from collections.abc import Mapping
from typing import Literal

from emojax.data.index import SplitIndex
from emojax.errors import CheckpointError
from emojax.store import StoredSplit, split_fingerprint


@dataclasses.dataclass(frozen=True)
class StoredInput:
    """One array of a store.

    Attributes:
      split: the store's split.
      array: name of the array.
      rows: what its rows are.
      samples_per_row: distance of two frames; 0 where rows are not frames.
    """

    split: StoredSplit
    array: str
    rows: Literal["frames", "tokens", "utterance"]
    samples_per_row: int = 0

    def check(self, index: SplitIndex) -> None:
        """Compares with the corpus.

        Raises:
          CheckpointError: it was made from other utterances.
        """
        if self.split.facts.fingerprint != split_fingerprint(index.ids.tolist(), index.num_samples):
            raise CheckpointError(f"{self.split.directory}: was made from another version of the corpus")

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


AUDIO = BatchInputs()
"""Waveforms alone."""
