"""Fills a store shard by shard: what is missing is read, computed and written, by any number of processes."""

import abc
import collections
import dataclasses
import functools
import signal
import time
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Literal

import jax
import numpy as np

from emojax.data import SplitIndex
from emojax.feature_store import SplitMetadata, StoreMetadata, split_content, write_metadata, write_split_metadata
from emojax.interruption import Interruption
from emojax.parallel import run_on_first_process
from emojax.progress import Progress
from emojax.types import SAMPLE_RATE


class Interrupted(Exception):
    """Raised by `SplitWork.compute` after a signal; the shard is not written."""


@dataclasses.dataclass
class StoreRun:
    """What one run did on this host.

    Attributes:
      utterances: computed.
      samples: their length at 16 kHz.
      seconds: duration without loading of the models.
      bytes: written.
      empty: utterances without a transcript, where it is an input; an encoder has no states of them.
      short: utterances with too few samples for one frame, stored without states, as zeros of a teacher, or without
        text.
      cut: transcripts cut to `encoder.max_tokens`.
      interrupted_by: the signal, where one stopped it.
    """

    utterances: int = 0
    samples: int = 0
    seconds: float = 0.0
    bytes: int = 0
    empty: int = 0
    short: int = 0
    cut: int = 0
    interrupted_by: signal.Signals | None = None

    def add(self, counts: Mapping[str, int]) -> None:
        """Adds counts of shards: `utterances`, `samples`, `bytes`, `empty`, `short`, `cut`."""
        for name, count in counts.items():
            setattr(self, name, getattr(self, name) + count)

    @property
    def audio_hours(self) -> float:
        """Duration of the utterances."""
        return self.samples / SAMPLE_RATE / 3600

    @property
    def audio_hours_per_hour(self) -> float:
        """Speed."""
        return self.audio_hours * 3600 / max(self.seconds, 1e-9)

    @property
    def summary(self) -> dict[str, Any]:
        """Values for `summary.json`."""
        counts = {name: getattr(self, name) for name in ("bytes", "empty", "short", "cut")}
        return {
            "utterances": self.utterances,
            "audio_hours": self.audio_hours,
            "seconds": self.seconds,
            **counts,
            "audio_hours_per_hour": self.audio_hours_per_hour,
        }


class SplitWork(abc.ABC):
    """How the shards of one split are computed.

    Attributes:
      counts: counts of what was read so far: `empty` transcripts, transcripts that were `cut`, utterances too `short`.
      shards: file format of the shards.
      bounds: first utterance of each shard, and the number of utterances.
      features: features of the corpus that the stored values depend on.
    """

    counts: collections.Counter[str]
    shards: Literal["array_record", "jsonl"]
    bounds: tuple[int, ...]
    features: tuple[str, ...]

    @abc.abstractmethod
    def read(self, shard: int) -> Any:
        """Reads a shard into memory; called in a thread of its own, one shard ahead."""

    @abc.abstractmethod
    def compute(self, data: Any, count: int, progress: Progress, interruption: Interruption) -> Any:
        """Computes the values of a shard.

        Args:
          data: what `read` returned.
          count: utterances of the shard.
          progress: is advanced by `count` in all.
          interruption: signals.

        Raises:
          Interrupted: a signal was received.
        """

    @abc.abstractmethod
    def write(self, directory: Path, metadata: SplitMetadata, shard: int, values: Any) -> int:
        """Writes a shard and returns its size in bytes.

        Args:
          directory: folder of the split.
          metadata: metadata of the split.
          shard: shard number.
          values: what `compute` returned.
        """


@dataclasses.dataclass(frozen=True)
class SplitJob:
    """One split to be computed.

    Attributes:
      label: label of the progress display.
      index: index of the split.
      work: computation of its shards.
      directory: folder of the split in the store.
    """

    label: str
    index: SplitIndex
    work: SplitWork
    directory: Path

    @functools.cached_property
    def metadata(self) -> SplitMetadata:
        """Metadata of the split in the store."""
        content = split_content(self.index.content, *self.work.features)
        return SplitMetadata(tuple(self.index.ids.tolist()), content, self.work.bounds, self.work.shards)

    def fill(self, shard: int, data: Any, progress: Progress, interruption: Interruption) -> dict[str, int]:
        """Computes and writes a shard.

        Args:
          shard: shard number.
          data: what `work.read` returned.
          progress: is advanced by the number of utterances.
          interruption: signals.

        Returns:
          Its utterances, samples and bytes.

        Raises:
          Interrupted: a signal was received; the shard is not written.
        """
        first, end = self.work.bounds[shard : shard + 2]
        values = self.work.compute(data, end - first, progress, interruption)
        size = self.work.write(self.directory, self.metadata, shard, values)
        return {**self.counts_of(shard), "bytes": size}

    def counts_of(self, shard: int) -> dict[str, int]:
        """Utterances and samples of a shard."""
        first, end = self.work.bounds[shard : shard + 2]
        return {"utterances": end - first, "samples": int(self.index.num_samples[first:end].sum())}

    def run(self, interruption: Interruption) -> Iterator[dict[str, int]]:
        """Computes this host's missing shards; yields utterances, samples and bytes of each one."""
        bounds = self.work.bounds
        mine = own_shards(len(bounds) - 1)
        missing = set(self.metadata.missing_shards(self.directory))
        todo = [shard for shard in mine if shard in missing]
        sizes = np.diff(bounds)
        total, left = int(sizes[list(mine)].sum()), int(sizes[todo].sum())
        with ThreadPoolExecutor(1) as thread, Progress(self.label, total, "utterances", total - left) as progress:
            # The next shard is read while this one is computed.
            reading = [thread.submit(self.work.read, shard) for shard in todo[:1]]
            for place, shard in enumerate(todo):
                self.metadata.remove_leftovers(self.directory, shard)
                data = reading.pop().result()
                reading = [thread.submit(self.work.read, following) for following in todo[place + 1 : place + 2]]
                try:
                    counts = self.fill(shard, data, progress, interruption)
                except Interrupted:
                    return
                yield counts


def fill_store(directory: Path, metadata: StoreMetadata, jobs: Sequence[SplitJob]) -> StoreRun:
    """Computes what is missing of a store; every host takes shards of its own.

    Args:
      directory: folder of the store.
      metadata: metadata of the store.
      jobs: its splits.

    Raises:
      EmojaxError: the folder holds another store, or a shard cannot be read, computed or written.
    """
    run_on_first_process(functools.partial(describe_store, directory, metadata, jobs), f"{directory} was described")
    run, start = StoreRun(), time.monotonic()
    with Interruption() as interruption:
        for job in jobs:
            for counts in job.run(interruption):
                run.add(counts)
            run.add(job.work.counts)
            run.interrupted_by = interruption.received
            if run.interrupted_by:
                break
    run.seconds = time.monotonic() - start
    return run


def own_shards(count: int) -> range:
    """Shards that this process computes."""
    return range(jax.process_index(), count, jax.process_count())


def describe_store(directory: Path, metadata: StoreMetadata, jobs: Sequence[SplitJob]) -> None:
    """Writes the metadata of store and splits, or checks that those there are the same.

    Raises:
      CheckpointError: the folder holds another store, or splits of other data.
    """
    write_metadata(directory, metadata)
    for job in jobs:
        write_split_metadata(job.directory, job.metadata)
