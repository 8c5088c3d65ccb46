"""Iterates over batches on devices, prefetched by grain's threads or worker processes."""

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
from emojax.data.inputs import AUDIO, BatchInputs
from emojax.data.loading import BatchLoader, MixedLoader
from emojax.data.plan import BatchPlan, choose_buckets, extended_buckets
from emojax.errors import ConfigError, CorpusError
from emojax.parallel import host_rows, num_batch_shards, to_global_arrays
from emojax.schema import Ge, Gt, Le, Lt, MaxLen, settings
from emojax.types import SAMPLE_RATE, Batch

_BATCHES_AHEAD_ON_DEVICE = 2


@settings
class DataConfig:
    """Batching of utterances."""

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
        """Fills in empty `bucket_seconds` with the lengths that minimise padding for these utterances (samples)."""
        if self.bucket_seconds:
            return self
        buckets = choose_buckets(lengths, self.num_buckets, round(self.max_seconds * SAMPLE_RATE))
        return dataclasses.replace(self, bucket_seconds=tuple(bucket / SAMPLE_RATE for bucket in buckets))


@dataclasses.dataclass(frozen=True)
class Unlabelled:
    """Utterances without labels that fill the last rows of every training batch.

    Attributes:
      corpus: corpus of the utterances.
      split: split of the corpus.
      index: index of the split.
      inputs: inputs to load.
      rows: number of batch rows.
    """

    corpus: Corpus
    split: str
    index: SplitIndex
    inputs: BatchInputs
    rows: int


class BatchStream:
    """Iterator over the batches of a split as global arrays on a mesh; its order is determined by the seed.

    Iterating yields `Batch`es whose arrays are sharded over the mesh's batch axes. `position` counts the batches
    yielded; `get_state`/`set_state` save and restore it exactly, independent of prefetching.

    Attributes:
      plan: assignment of utterances to batches.
      position: number of batches yielded.
      skipped: one message per split with utterances that are too short.
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
        """Plans the batches; utterances are read on iteration.

        Args:
          corpus: from `open_corpus`.
          split: split to read.
          index: index of the split, from `read_index`.
          config: batch size, buckets, workers, tokens.
          mesh: device mesh of the batches.
          training: True shuffles, and crops utterances longer than the longest bucket; False keeps a fixed order and
            adds longer buckets instead of cropping.
          seed: seed of shuffling and cropping.
          epochs: number of passes over the split.
          inputs: inputs to load.
          unlabelled: utterances that fill a part of every batch; an epoch remains one pass over `split`.
          min_samples: shorter utterances, labelled or not, are skipped (see `skipped`).

        Raises:
          CorpusError: no utterance has `min_samples` samples.
          ConfigError: the batch size is not a multiple of the number of batch shards, or utterances would be cropped to
            less than `min_samples` in training.
          CheckpointError: a feature store was computed from another version of the corpus.
        """
        config = config.with_buckets(index.num_samples)
        shards = num_batch_shards(mesh)
        rows = config.batch_size - (unlabelled.rows if unlabelled else 0)
        if config.batch_size % shards:
            raise ConfigError(
                f"data.batch_size must be a multiple of the {shards} batch shards, got {config.batch_size}"
            )
        if rows <= 0 or rows % shards:
            raise ConfigError(
                f"data.unlabelled_share must leave a positive multiple of the {shards} batch shards of the "
                f"{config.batch_size} rows to labelled utterances, got {config.unlabelled_share} ({rows} rows)"
            )
        for context, split_index in [(corpus.describe(split), index)] + (
            [(unlabelled.corpus.describe(unlabelled.split), unlabelled.index)] if unlabelled else []
        ):
            if int(split_index.num_samples.max()) < min_samples:
                raise CorpusError(f"{context}: no utterance has the {min_samples} samples of one frame of the model")
        if training and config.buckets[-1] < min_samples:
            raise ConfigError(
                f"data.bucket_seconds must have a length >= {min_samples / SAMPLE_RATE:g}, one frame of the model, got "
                f"{config.bucket_seconds}"
            )
        longest = int(index.num_samples.max())
        buckets = config.buckets if training else extended_buckets(config.buckets, longest)
        self.plan = BatchPlan(index.num_samples, buckets, rows, seed, training, min_samples)
        self.skipped = _skipped(self.plan.num_skipped, corpus.describe(split), min_samples)
        self.num_batches = self.plan.batches_per_epoch * epochs
        self.position = 0
        self._loader: Callable[[int], Batch] = BatchLoader(
            corpus, split, self.plan, inputs.for_split(index), config.max_tokens, host_rows(mesh, rows)
        )
        if unlabelled:
            plan = BatchPlan(unlabelled.index.num_samples, buckets, unlabelled.rows, seed, training, min_samples)
            self.skipped += _skipped(plan.num_skipped, unlabelled.corpus.describe(unlabelled.split), min_samples)
            inputs = unlabelled.inputs.for_split(unlabelled.index)
            rows_here = host_rows(mesh, unlabelled.rows)
            loader = BatchLoader(unlabelled.corpus, unlabelled.split, plan, inputs, config.max_tokens, rows_here)
            self._loader = MixedLoader(self._loader, loader)
        self.mesh, self._workers = mesh, config.workers if training else 0

    def __iter__(self) -> Iterator[Batch]:
        """Yields the batches from `position` onwards."""
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
        """Loads one batch by number, synchronously, without changing `position`."""
        return to_global_arrays(self._loader(number), self.mesh)

    def get_state(self) -> dict[str, int]:
        """Returns the state that `set_state` restores."""
        return {"position": self.position, "num_batches": self.num_batches}

    def set_state(self, state: dict[str, int]) -> None:
        """Restores a saved state; takes effect at the next `iter`."""
        self.position = state["position"]

    def _host_batches(self, first: int) -> Iterator[Batch]:
        if first >= self.num_batches:
            return
        import grain  # here: a model that is only used for prediction reads no batches, and this takes half a second

        dataset = grain.MapDataset.range(first, self.num_batches).map(self._loader)
        if self._workers:
            if not flags.FLAGS.is_parsed():  # grain's worker processes read absl flags
                flags.FLAGS.mark_as_parsed()
            # One thread per worker: NumPy copies hold the interpreter lock.
            reading = grain.ReadOptions(num_threads=1, prefetch_buffer_size=2)
            iterable = dataset.to_iter_dataset(reading).mp_prefetch(
                grain.MultiprocessingOptions(num_workers=self._workers, per_worker_buffer_size=2)
            )
        else:
            iterable = dataset.to_iter_dataset(grain.ReadOptions(num_threads=2, prefetch_buffer_size=4))
        batches = iter(iterable)
        try:
            yield from map(_copy_to_host_memory, batches) if self._workers else batches
        finally:
            batches.close()
            del batches
            if self._workers:
                _free_shared_memory()


def _copy_to_host_memory(batch: Batch) -> Batch:
    """Copies arrays out of the shared memory of worker processes, which is freed with their last reference.

    On CPUs a `jax.Array` can alias it: the memory would be held until the process exits, be reported as a leak, and
    fill /dev/shm, which is small in many containers.
    """
    return jax.tree.map(np.array, batch)


def _free_shared_memory() -> None:
    """Frees the shared memory of earlier batches now; at process exit it would be reported as leaked."""
    from grain.multiprocessing import SharedMemoryArray

    gc.collect()  # grain's iterators keep their last batches in reference cycles
    # grain frees memory in a pool of one thread; waiting for one more task waits for all queued ones.
    pool = getattr(SharedMemoryArray, "_del_thread_pool", None)
    if pool is not None and not sys.is_finalizing():
        with contextlib.suppress(ValueError):  # the pool has been stopped: the process exits
            pool.apply_async(int).wait(timeout=5)


def _skipped(count: int, context: str, min_samples: int) -> list[str]:
    return [f"{context}: skipped {count} utterances of fewer than {min_samples} samples"] if count else []
