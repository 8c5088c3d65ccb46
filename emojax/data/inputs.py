"""What a model needs of every utterance: audio, tokens, arrays from stores; what it does not need is not read."""

import dataclasses
from collections.abc import Mapping
from typing import Literal

from emojax.data.index import SplitIndex
from emojax.errors import CheckpointError
from emojax.store import StoredSplit, check_content


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
        check_content(self.split.directory, self.split.facts.content, index.content)
        ids, stored = index.ids.tolist(), self.split.facts.ids
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
