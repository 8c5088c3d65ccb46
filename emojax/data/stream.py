"""Feeds batches in order, read ahead by grain's threads or worker processes and laid onto the devices in time."""

import collections
import contextlib
import dataclasses
import gc
import sys
from collections.abc import Callable, Iterator
from typing import Annotated

import jax
import numpy as np
from absl import flags
from jax.sharding import Mesh
from jaxtyping import Int

from emojax.data.corpus import Corpus
from emojax.data.index import SplitIndex
from emojax.data.loading import AUDIO, BatchInputs, BatchLoader, MixedLoader
from emojax.data.plan import BatchPlan, choose_buckets, extended_buckets
from emojax.errors import ConfigError, CorpusError
from emojax.parallel import host_rows, num_batch_shards, to_global_arrays
from emojax.schema import Ge, Gt, Le, Lt, MaxLen, settings
from emojax.types import SAMPLE_RATE, Batch

_BATCHES_AHEAD_ON_DEVICE = 2


@settings
class DataConfig:
    """How utterances become batches."""

    batch_size: Annotated[
        int,
        Ge(1),
        Le(2**20),
        "Utterances per step, over all devices and hosts; a multiple of the number of devices. CCC is computed over "
        "it: at least 2 labelled ones where attributes are trained.",
    ] = 32
    bucket_seconds: Annotated[
        tuple[Annotated[float, Gt(0), Le(3600)], ...],
        MaxLen(64),
        "Ascending lengths (s) that utterances are padded to; each is compiled once. In training longer utterances are "
        "cropped at random; evaluation adds doubled lengths and crops nothing.",
    ] = (3.0, 5.0, 8.0, 12.0)
    num_buckets: Annotated[
        int, Ge(1), Le(64), "Where bucket_seconds is empty: how many lengths are chosen for the least padding."
    ] = 4
    max_seconds: Annotated[float, Gt(0), Le(3600), "Where bucket_seconds is empty: the longest length (s)."] = 12.0
    workers: Annotated[
        int, Ge(0), Le(1024), "Processes that load batches beside the training process; 0: two threads inside it."
    ] = 1
    max_tokens: Annotated[
        int, Ge(1), Le(8192), "Tokens that a transcript is padded or cut to, special tokens included."
    ] = 64
    unlabelled_share: Annotated[
        float, Gt(0), Lt(1), "Share of every training batch filled from corpus.unlabelled_split, if there is one."
    ] = 0.5

    def __post_init__(self):
        """Checks rules between fields.

        Raises:
          ConfigError: naming the field and what is allowed.
        """
        seconds = self.bucket_seconds
        if list(seconds) != sorted(set(seconds)):
            raise ConfigError(f"data.bucket_seconds must ascend, got {seconds}")

    @property
    def buckets(self) -> tuple[int, ...]:
        """Bucket lengths in samples."""
        return tuple(round(seconds * SAMPLE_RATE) for seconds in self.bucket_seconds)

    def with_buckets(self, lengths: Int[np.ndarray, "N"]) -> "DataConfig":
        """Fills in the lengths of batches, where they are left open, with those that suit these utterances."""
        if self.bucket_seconds:
            return self
        buckets = choose_buckets(lengths, self.num_buckets, round(self.max_seconds * SAMPLE_RATE))
        return dataclasses.replace(self, bucket_seconds=tuple(bucket / SAMPLE_RATE for bucket in buckets))


@dataclasses.dataclass(frozen=True)
class Unlabelled:
    """Utterances without labels that fill the last rows of every training batch.

    Attributes:
      corpus: they are from.
      split: of that corpus.
      index: its table.
      inputs: what is read of them.
      rows: of a batch.
    """

    corpus: Corpus
    split: str
    index: SplitIndex
    inputs: BatchInputs
    rows: int


class BatchStream:
    """A split's batches as global arrays on a mesh, from any position, in an order fixed by the seed.

    Iterating yields `Batch`es whose arrays are sharded over the mesh's batch axes. `position` counts the batches
    already handed out; `get_state`/`set_state` save and restore it exactly, whatever has been read ahead.

    Attributes:
      plan: which utterances form which batch.
      position: batches handed out.
      left_out: one line for each split of which utterances are left out because they are too short.
    """

    def __init__(
        self,
        corpus: Corpus,
        split: str,
        index: SplitIndex,
        config: DataConfig,
        mesh: Mesh,
        *,
        training: bool,
        seed: int = 0,
        epochs: int = 1,
        inputs: BatchInputs = AUDIO,
        unlabelled: Unlabelled | None = None,
        min_samples: int = 0,
    ):
        """Plans the stream; nothing is read yet.

        Args:
          corpus: from `open_corpus`.
          split: split to read.
          index: its table, from `read_index`.
          config: batch size, buckets, workers, tokens.
          mesh: device mesh the batches are laid onto.
          training: shuffle, and crop what is longer than the longest bucket; otherwise the order is fixed and longer
            buckets are added instead of cropping.
          seed: of shuffling and cropping.
          epochs: number of passes.
          inputs: what to read of every utterance.
          unlabelled: fills a part of every batch; an epoch is still one of the split.
          min_samples: utterances with fewer samples are left out (see `left_out`), the unlabelled ones too.

        Raises:
          CorpusError: no utterance has so many samples.
          ConfigError: the batch size does not divide over devices and hosts.
          CheckpointError: a store was made from another version of the corpus.
        """
        config = config.with_buckets(index.num_samples)
        shards = num_batch_shards(mesh)
        rows = config.batch_size - (unlabelled.rows if unlabelled else 0)
        if config.batch_size % shards:
            raise ConfigError(f"data.batch_size: {config.batch_size} must be a multiple of the {shards} batch shards")
        if rows <= 0 or rows % shards:
            raise ConfigError(
                f"data.unlabelled_share: leaves {rows} of {config.batch_size} rows to labelled utterances; "
                f"allowed: a multiple of the {shards} batch shards, at least one"
            )
        for place, found in [(corpus.place(split), index)] + (
            [(unlabelled.corpus.place(unlabelled.split), unlabelled.index)] if unlabelled else []
        ):
            if int(found.num_samples.max()) < min_samples:
                raise CorpusError(f"{place}: no utterance has {min_samples} samples, which the model needs for a frame")
        longest = int(index.num_samples.max())
        buckets = config.buckets if training else extended_buckets(config.buckets, longest)
        self.plan = BatchPlan(index.num_samples, buckets, rows, seed, training, min_samples)
        self.left_out = _left_out(self.plan.num_left_out, corpus.place(split), min_samples)
        self.num_batches = self.plan.batches_per_epoch * epochs
        self.position = 0
        self._loader: Callable[[int], Batch] = BatchLoader(
            corpus, split, self.plan, inputs.fitted(index), config.max_tokens, host_rows(mesh, rows)
        )
        if unlabelled:
            plan = BatchPlan(unlabelled.index.num_samples, buckets, unlabelled.rows, seed, training, min_samples)
            place = unlabelled.corpus.place(unlabelled.split)
            self.left_out += _left_out(plan.num_left_out, place, min_samples)
            read = unlabelled.inputs.fitted(unlabelled.index)
            theirs = host_rows(mesh, unlabelled.rows)
            further = BatchLoader(unlabelled.corpus, unlabelled.split, plan, read, config.max_tokens, theirs)
            self._loader = MixedLoader(self._loader, further)
        self.mesh, self._workers = mesh, config.workers if training else 0

    def __iter__(self) -> Iterator[Batch]:
        """Yields the batches from `position` on."""
        ahead: collections.deque[Batch] = collections.deque()
        for batch in self._host_batches(self.position):
            ahead.append(to_global_arrays(batch, self.mesh))
            if len(ahead) > _BATCHES_AHEAD_ON_DEVICE:
                self.position += 1
                yield ahead.popleft()
        while ahead:
            self.position += 1
            yield ahead.popleft()

    def load(self, number: int) -> Batch:
        """Loads one batch by its number, here and now, without moving `position`."""
        return to_global_arrays(self._loader(number), self.mesh)

    def get_state(self) -> dict[str, int]:
        """What `set_state` needs to continue exactly after the last batch handed out."""
        return {"position": self.position, "num_batches": self.num_batches}

    def set_state(self, state: dict[str, int]) -> None:
        """Continues from a saved state; takes effect at the next `iter`."""
        self.position = state["position"]

    def _host_batches(self, first: int) -> Iterator[Batch]:
        if first >= self.num_batches:
            return
        import grain  # here: a model that is only used for prediction reads no batches, and this takes half a second

        dataset = grain.MapDataset.range(first, self.num_batches).map(self._loader)
        if self._workers:
            if not flags.FLAGS.is_parsed():  # grain's worker processes read flags, which only absl's own main parses
                flags.FLAGS.mark_as_parsed()
            # One thread a worker: NumPy copies hold the interpreter lock, more threads only take turns.
            reading = grain.ReadOptions(num_threads=1, prefetch_buffer_size=2)
            iterable = dataset.to_iter_dataset(reading).mp_prefetch(
                grain.MultiprocessingOptions(num_workers=self._workers, per_worker_buffer_size=2)
            )
        else:
            iterable = dataset.to_iter_dataset(grain.ReadOptions(num_threads=2, prefetch_buffer_size=4))
        batches = iter(iterable)
        try:
            yield from map(_copied, batches) if self._workers else batches
        finally:
            batches.close()
            del batches
            if self._workers:
                _free_shared_memory()


def _copied(batch: Batch) -> Batch:
    """Copies arrays out of the shared memory of worker processes, which is freed with the last reference to them.

    On CPUs a `jax.Array` can be such a reference: it would keep the memory until the process exits, which counts as
    a leak, and fill /dev/shm, which is small in many containers.
    """
    return jax.tree.map(np.array, batch)


def _free_shared_memory() -> None:
    """Frees the shared memory of batches read before, now: at the exit of the process it would count as leaked."""
    gc.collect()  # grain's iterators keep their last batches in reference cycles
    # grain frees in a thread of a pool that has one; a task of ours ends after those that are queued.
    from grain.multiprocessing import SharedMemoryArray

    pool = getattr(SharedMemoryArray, "_del_thread_pool", None)
    if pool is not None and not sys.is_finalizing():
        with contextlib.suppress(ValueError):  # the pool has been stopped: the process exits
            pool.apply_async(int).wait(timeout=5)


def _left_out(count: int, place: str, min_samples: int) -> list[str]:
    return [f"{place}: {count} utterances of fewer than {min_samples} samples are left out"] if count else []
