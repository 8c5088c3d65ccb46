"""What an extraction computes of a shard: the interface of its two computers, and how a split is divided."""

import collections
from collections.abc import Iterator, Sequence
from typing import Any, Protocol

import jax
import numpy as np
from jaxtyping import Int

from emojax.data import Corpus, SplitIndex
from emojax.feature_store import ArraySpec, StatesSource, TeacherSource
from emojax.types import SAMPLE_RATE

_SHARD_BYTES = 64 * 2**20
"""Of stored values: what a shard takes in memory until it is written."""

_SHARD_SAMPLES = 20 * 60 * SAMPLE_RATE
"""Of audio that is computed: what a killed process can lose."""

_SHARD_UTTERANCES = 2048


class ShardReader(Protocol):
    """Reads one split, shard by shard."""

    @property
    def bounds(self) -> tuple[int, ...]:
        """First utterance of each shard, and the number of utterances."""

    @property
    def index(self) -> SplitIndex:
        """Index of the split, with the digest of the transcripts that are read."""

    @property
    def features(self) -> tuple[str, ...]:
        """Features of the corpus that the stored values depend on."""

    @property
    def counts(self) -> collections.Counter[str]:
        """Counts of what was read so far: `empty` transcripts, transcripts that were `cut`, utterances too `short`."""

    def read(self, shard: int) -> Any:
        """Reads a shard into memory; called in a thread of its own, one shard ahead."""

    def batches(self, data: Any) -> Iterator[tuple[list[int], Any]]:
        """Yields, for batches of what `read` returned, positions in the shard of their first rows, and inputs.

        A position that occurs several times is that of an utterance in parts, in their order.
        """


class Computer(Protocol):
    """Computes the stored array of padded batches, rows divided over this host's devices."""

    @property
    def spec(self) -> ArraySpec:
        """Name, type and shape of the stored array."""

    @property
    def source(self) -> StatesSource | TeacherSource:
        """What determines its values."""

    @property
    def default(self) -> np.ndarray:
        """Array of an utterance that is in no batch."""

    def open(self, corpus: Corpus, split: str, index: SplitIndex) -> ShardReader:
        """Opens a split; nothing is read yet."""

    def __call__(self, inputs: Any) -> tuple[jax.Array, jax.Array]:
        """Starts the computation of a batch: values (B, rows, *shape) and how many rows are valid (B,)."""

    def join(self, parts: Sequence[np.ndarray]) -> np.ndarray:
        """Makes the array of an utterance from those of its parts."""


def shard_bounds(num_samples: Int[np.ndarray, "N"], num_bytes: Int[np.ndarray, "N"], audio: bool) -> tuple[int, ...]:
    """First utterance of each shard, and N.

    Args:
      num_samples: length of each utterance.
      num_bytes: most that is stored of each.
      audio: whether the audio is an input, which bounds a shard's duration too.
    """
    computed = num_samples if audio else np.zeros_like(num_samples)
    bounds, size, samples = [0], 0, 0
    for position, (more_size, more_samples) in enumerate(zip(num_bytes.tolist(), computed.tolist(), strict=True)):
        full = position - bounds[-1] == _SHARD_UTTERANCES
        if position > bounds[-1] and (
            full or size + more_size > _SHARD_BYTES or samples + more_samples > _SHARD_SAMPLES
        ):
            bounds.append(position)
            size = samples = 0
        size, samples = size + more_size, samples + more_samples
    return (*bounds, len(num_samples))
