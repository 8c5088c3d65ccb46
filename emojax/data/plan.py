"""Assignment of utterances to batches and padded lengths: pure functions of lengths, seed and batch number."""

import dataclasses
import functools
import itertools

import numpy as np
from jaxtyping import Int

from emojax.types import SAMPLE_RATE

STEP = SAMPLE_RATE // 4
"""Granularity of bucket lengths, a quarter of a second: similar corpora then share compiled programs."""

BLOCK_UTTERANCES = 2**18
"""Largest number of utterances that are ordered together: memory does not grow with a larger split."""


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
    numbers = np.zeros(-(-longest // STEP) + 1)
    for first in range(0, len(lengths), BLOCK_UTTERANCES):
        steps = np.clip(-(-np.minimum(lengths[first : first + BLOCK_UTTERANCES], longest) // STEP), 1, None)
        numbers += np.bincount(steps, minlength=len(numbers))
    last = int(np.flatnonzero(numbers)[-1])
    numbers = numbers[: last + 1]
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
    """Sequence of batches of a split; every utterance of sufficient length occurs once per epoch.

    A split is divided into blocks of consecutive utterances, one of up to `BLOCK_UTTERANCES`, otherwise as few as
    possible of equal size. An epoch is the batches of one block after those of another: blocks in an order drawn for
    the epoch, utterances in an order drawn for epoch and block. A batch is thus a pure function of lengths, seed and
    number, computed from the lengths of its block alone.
    """

    def __init__(
        self,
        lengths: Int[np.ndarray, "N"],
        buckets: tuple[int, ...],
        batch_size: int,
        seed: int,
        shuffle: bool,
        min_samples: int = 0,
        block_utterances: int = BLOCK_UTTERANCES,
        bounds: tuple[int, ...] = (),
    ):
        """Plans the batches of a split.

        Args:
          lengths: utterance lengths in samples; may be memory-mapped.
          buckets: ascending static lengths in samples; an utterance is assigned to the shortest bucket that is not
            shorter than it, or to the last one (where it is cropped).
          batch_size: rows of the global batch.
          seed: seed of the shuffling, combined with the epoch number.
          shuffle: False orders by block, bucket and index (evaluation).
          min_samples: shorter utterances are skipped; at least one must remain.
          block_utterances: largest block.
          bounds: first utterance of each block, and N, where blocks are given; (): by `block_utterances`.
        """
        self.buckets, self.batch_size, self.seed, self.shuffle = buckets, batch_size, seed, shuffle
        self._lengths, self._min_samples = lengths, min_samples
        count = max(-(-len(lengths) // block_utterances), 1)
        self._bounds = bounds or tuple(len(lengths) * block // count for block in range(count + 1))
        kept = [int((lengths[first:end] >= min_samples).sum()) for first, end in itertools.pairwise(self._bounds)]
        self.num_skipped = len(lengths) - sum(kept)
        self._batches_of = np.array([-(-number // batch_size) for number in kept])
        self.batches_per_epoch = int(self._batches_of.sum())

    def padding(self) -> float:
        """Computes the share of padding among the samples of an epoch's batches, filler rows included.

        Of several blocks, those of the epoch's first one stand for all.
        """
        first = next(block for block in self._order(0)[0].tolist() if self._batches_of[block])
        samples = kept = 0
        for bucket, indices in self._block(0, first):
            samples += self.buckets[bucket] * self.batch_size
            kept += int(np.minimum(self._lengths[indices[indices != FILLER]], self.buckets[bucket]).sum())
        return 1 - kept / samples

    def batch(self, number: int) -> PlannedBatch:
        """Returns the batch at a position in training (0-based, counted over epochs)."""
        epoch, position = divmod(number, self.batches_per_epoch)
        drawn = epoch if self.shuffle else 0
        order, ends = self._order(drawn)
        place = int(np.searchsorted(ends, position, side="right"))
        block = int(order[place])
        bucket, indices = self._block(drawn, block)[position - int(ends[place] - self._batches_of[block])]
        return PlannedBatch(number=number, epoch=epoch, num_samples=self.buckets[bucket], indices=indices)

    @functools.lru_cache(maxsize=4)  # noqa: B019 - a plan lives as long as its run
    def _order(self, epoch: int) -> tuple[Int[np.ndarray, "K"], Int[np.ndarray, "K"]]:
        """Order of the blocks of an epoch, and the position after the last batch of each."""
        blocks = np.arange(len(self._batches_of))
        if self.shuffle and len(blocks) > 1:
            blocks = np.random.default_rng([self.seed, epoch]).permutation(len(blocks))
        return blocks, np.cumsum(self._batches_of[blocks])

    # All plans of a process share the cache: it holds the current block and the next one, which prefetching reaches
    # early, of labelled and unlabelled utterances.
    @functools.lru_cache(maxsize=4)  # noqa: B019
    def _block(self, epoch: int, block: int) -> list[tuple[int, Int[np.ndarray, "B"]]]:
        """Batches of a block: bucket and indices."""
        first, end = self._bounds[block : block + 2]
        # The order of a single block is that of splits before there were blocks.
        rng = np.random.default_rng([self.seed, epoch, block] if len(self._batches_of) > 1 else [self.seed, epoch])
        lengths = np.asarray(self._lengths[first:end])
        buckets = self._buckets_for(lengths)
        bucket_of = np.minimum(np.searchsorted(buckets, lengths), len(buckets) - 1)
        order = rng.permutation(len(lengths)) if self.shuffle else np.arange(len(lengths))
        order = order[lengths[order] >= self._min_samples]
        sizes = _rows_per_bucket(np.bincount(bucket_of[order], minlength=len(buckets)), self.batch_size)
        batches: list[tuple[int, np.ndarray]] = []
        remainder = np.zeros(0, np.int64)
        for bucket, size in enumerate(sizes):
            # Utterances that did not fill a batch of a shorter bucket move to the next longer one.
            members = np.concatenate([remainder, order[bucket_of[order] == bucket]])
            members, remainder = members[:size], members[size:]
            for start in range(0, size, self.batch_size):
                rows = first + members[start : start + self.batch_size]
                filler = np.full(self.batch_size - len(rows), FILLER)
                batches.append((bucket, np.concatenate([rows, filler])))
        if self.shuffle:
            batches = [batches[i] for i in rng.permutation(len(batches))]
        return batches

    def _buckets_for(self, lengths: Int[np.ndarray, "M"]) -> tuple[int, ...]:
        """Buckets of a block with utterances of these lengths: all, as each is a program that is compiled anyway."""
        return self.buckets


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
    """Batches of a split in its order, none with utterances of two shards of a feature store: its blocks."""

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
          buckets: ascending lengths in samples; the last holds the longest utterance.
          batch_size: rows of a batch.
          bounds: first utterance of each shard, and N.
          min_samples: shorter utterances are skipped.
        """
        super().__init__(lengths, buckets, batch_size, 0, False, min_samples, bounds=bounds)

    def batches_of(self, shard: int) -> range:
        """Numbers of the batches of a shard."""
        end = int(self._order(0)[1][shard])
        return range(end - int(self._batches_of[shard]), end)

    def _buckets_for(self, lengths: Int[np.ndarray, "M"]) -> tuple[int, ...]:
        # The last batch of a shard is padded to the shard's longest bucket, not to that of the split.
        return self.buckets[: int(np.searchsorted(self.buckets, lengths.max())) + 1]
