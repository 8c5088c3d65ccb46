"""Assignment of utterances to batches and padded lengths: pure functions of lengths, seed and batch number."""

import dataclasses
import functools
import itertools

import numpy as np
from jaxtyping import Int

from emojax.types import SAMPLE_RATE

STEP = SAMPLE_RATE // 4
"""Granularity of bucket lengths, a quarter of a second: similar corpora then share compiled programs."""


def choose_buckets(lengths: Int[np.ndarray, "N"], count: int, longest: int) -> tuple[int, ...]:
    """Computes the bucket lengths that minimise padding, exactly, by dynamic programming.

    Args:
      lengths: utterance lengths in samples.
      count: greatest number of buckets.
      longest: length in samples that longer utterances are cropped to.

    Returns:
      At most `count` lengths in samples, ascending, multiples of a quarter of a second; the last is not shorter than
      the longest (cropped) utterance.
    """
    steps = np.clip(-(-np.minimum(lengths, longest) // STEP), 1, None)
    last = int(steps.max())
    numbers = np.bincount(steps, minlength=last + 1).astype(np.float64)
    before = np.concatenate([[0.0], np.cumsum(numbers)])  # utterances shorter than each length
    # cost[j]: padded steps of all utterances up to j if j is a bucket and the buckets below it are optimal
    cost = np.where(np.arange(last + 1) > 0, np.arange(last + 1) * before[1:], 0.0)
    origins = []
    for _ in range(count - 1):
        ends, starts = np.arange(last + 1)[:, None], np.arange(last + 1)[None, :]
        total = cost[None, :] + ends * (before[1:][:, None] - before[1:][None, :])
        total = np.where(starts < ends, total, np.inf)
        total[:, 0] = np.arange(last + 1) * before[1:]  # no bucket below
        origins.append(total.argmin(axis=1))
        cost = total.min(axis=1)
    buckets, end = [last], last
    for origin in reversed(origins):
        end = int(origin[end])
        if end == 0:
            break
        buckets.append(end)
    return tuple(STEP * bucket for bucket in sorted(buckets))


FILLER = -1
"""Index of a batch row without an utterance."""


@dataclasses.dataclass(frozen=True)
class PlannedBatch:
    """One global batch.

    Attributes:
      number: position in training, counted over epochs.
      epoch: epoch of the batch.
      num_samples: static length that waveforms are padded or cropped to.
      indices: positions of the utterances in the split; FILLER for filler rows.
    """

    number: int
    epoch: int
    num_samples: int
    indices: Int[np.ndarray, "B"]


class BatchPlan:
    """Sequence of batches of a split; every utterance of sufficient length occurs once per epoch."""

    def __init__(
        self,
        lengths: Int[np.ndarray, "N"],
        buckets: tuple[int, ...],
        batch_size: int,
        seed: int,
        shuffle: bool,
        min_samples: int = 0,
    ):
        """Plans the batches of a split.

        Args:
          lengths: utterance lengths in samples.
          buckets: ascending static lengths in samples; an utterance is assigned to the shortest bucket that is not
            shorter than it, or to the last one (where it is cropped).
          batch_size: rows of the global batch.
          seed: seed of the shuffling, combined with the epoch number.
          shuffle: False orders by bucket and index (evaluation).
          min_samples: shorter utterances are skipped; at least one must remain.
        """
        self.buckets, self.batch_size, self.seed, self.shuffle = buckets, batch_size, seed, shuffle
        self._lengths = np.asarray(lengths)
        self._bucket_of = np.minimum(np.searchsorted(buckets, lengths), len(buckets) - 1)
        self._selected = self._lengths >= min_samples
        counts = np.bincount(self._bucket_of[self._selected], minlength=len(buckets))
        self._sizes = _rows_per_bucket(counts, batch_size)
        self.batches_per_epoch = int(sum(-(-size // batch_size) for size in self._sizes))

    @property
    def num_skipped(self) -> int:
        """Number of utterances shorter than `min_samples`."""
        return int((~self._selected).sum())

    def padding(self) -> float:
        """Computes the share of padding among the samples of an epoch's batches, filler rows included."""
        planned = [self.batch(number) for number in range(self.batches_per_epoch)]
        samples = sum(batch.num_samples * self.batch_size for batch in planned)
        kept = sum(
            int(np.minimum(self._lengths[batch.indices[batch.indices != FILLER]], batch.num_samples).sum())
            for batch in planned
        )
        return 1 - kept / samples

    def batch(self, number: int) -> PlannedBatch:
        """Returns the batch at a position in training (0-based, counted over epochs)."""
        epoch, position = divmod(number, self.batches_per_epoch)
        bucket, indices = self._epoch(epoch if self.shuffle else 0)[position]
        return PlannedBatch(number=number, epoch=epoch, num_samples=self.buckets[bucket], indices=indices)

    # The cache holds the current epoch and the next one, which prefetching reaches early.
    @functools.lru_cache(maxsize=2)  # noqa: B019 - a plan lives as long as its run
    def _epoch(self, epoch: int) -> list[tuple[int, Int[np.ndarray, "B"]]]:
        rng = np.random.default_rng([self.seed, epoch])
        order = rng.permutation(len(self._bucket_of)) if self.shuffle else np.arange(len(self._bucket_of))
        order = order[self._selected[order]]
        batches: list[tuple[int, np.ndarray]] = []
        remainder = np.zeros(0, np.int64)
        for bucket, size in enumerate(self._sizes):
            # Utterances that did not fill a batch of a shorter bucket move to the next longer one.
            members = np.concatenate([remainder, order[self._bucket_of[order] == bucket]])
            members, remainder = members[:size], members[size:]
            for start in range(0, size, self.batch_size):
                rows = members[start : start + self.batch_size]
                filler = np.full(self.batch_size - len(rows), FILLER)
                batches.append((bucket, np.concatenate([rows, filler])))
        if self.shuffle:
            batches = [batches[i] for i in rng.permutation(len(batches))]
        return batches


def _rows_per_bucket(counts: np.ndarray, batch_size: int) -> list[int]:
    """Returns the rows per bucket: whole batches, with the remainder moved to the next longer bucket."""
    sizes, carried = [], 0
    for count in counts[:-1]:
        whole, carried = divmod(int(count) + carried, batch_size)
        sizes.append(whole * batch_size)
    return [*sizes, int(counts[-1]) + carried]


def extended_buckets(buckets: tuple[int, ...], longest: int) -> tuple[int, ...]:
    """Appends doubled buckets until the longest utterance fits, so that evaluation never crops."""
    extended = list(buckets)
    while extended[-1] < longest:
        extended.append(extended[-1] * 2)
    return tuple(extended)


class ShardedPlan(BatchPlan):
    """Batches of a split in its order, none with utterances of two shards of a feature store."""

    def __init__(
        self,
        lengths: Int[np.ndarray, "N"],
        buckets: tuple[int, ...],
        batch_size: int,
        bounds: tuple[int, ...],
        min_samples: int = 0,
    ):
        """Plans over a split.

        Args:
          lengths: utterance lengths in samples.
          buckets: ascending static lengths in samples; the last holds the longest utterance.
          batch_size: rows of a batch.
          bounds: first utterance of each shard, and N.
          min_samples: shorter utterances are skipped.
        """
        super().__init__(lengths, buckets, batch_size, seed=0, shuffle=False, min_samples=min_samples)
        self._batches: list[tuple[int, Int[np.ndarray, B]]] = []
        self._starts = [0]
        for first, end in itertools.pairwise(bounds):
            shard = self._lengths[first:end]
            # The last batch of a shard is padded to the shard's longest bucket, not to that of the split.
            own = buckets[: int(np.searchsorted(buckets, shard.max())) + 1]
            plan = BatchPlan(shard, own, batch_size, 0, False, min_samples)
            for bucket, indices in plan._epoch(0):
                self._batches.append((bucket, np.where(indices == FILLER, FILLER, indices + first)))
            self._starts.append(len(self._batches))
        self.batches_per_epoch = len(self._batches)

    def batches_of(self, shard: int) -> range:
        """Numbers of the batches of a shard."""
        return range(self._starts[shard], self._starts[shard + 1])

    def batch(self, number: int) -> PlannedBatch:
        """The batch of that number."""
        bucket, indices = self._batches[number]
        return PlannedBatch(number=number, epoch=0, num_samples=self.buckets[bucket], indices=indices)
