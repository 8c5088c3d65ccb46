"""Extracts a feature store: reads a corpus shard by shard, computes on this host's devices, writes finished shards."""

import collections
import dataclasses
import functools
import signal
import time
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import jax
import numpy as np

from emojax.data import SplitIndex, open_corpus, read_index
from emojax.extraction.config import ExtractConfig, TeacherCacheConfig
from emojax.extraction.encoder_states import EncoderComputer
from emojax.extraction.shards import Computer, ShardReader
from emojax.extraction.teacher_outputs import TeacherComputer
from emojax.feature_store import (
    SplitMetadata,
    StoreMetadata,
    missing_shards,
    remove_leftovers,
    split_content,
    write_metadata,
    write_shard,
    write_split_metadata,
)
from emojax.interruption import Interruption
from emojax.parallel import is_first_process, run_on_first_process
from emojax.progress import Progress
from emojax.schema import to_tree
from emojax.types import SAMPLE_RATE
from emojax.workdir import SUMMARY, holds, write_json

_BATCHES_IN_FLIGHT = 2


@dataclasses.dataclass
class Extraction:
    """What one run did on this host.

    Attributes:
      utterances: computed.
      audio_hours: their duration.
      seconds: duration without loading of the models.
      bytes: written.
      empty: utterances without a transcript, where it is an input; an encoder has no states of them.
      short: utterances with too few samples for one frame, stored without states, or as zeros of a teacher.
      cut: transcripts cut to `encoder.max_tokens`.
      interrupted_by: the signal, where one stopped it.
    """

    utterances: int = 0
    audio_hours: float = 0.0
    seconds: float = 0.0
    bytes: int = 0
    empty: int = 0
    short: int = 0
    cut: int = 0
    interrupted_by: signal.Signals | None = None

    @property
    def audio_hours_per_hour(self) -> float:
        """Speed."""
        return self.audio_hours * 3600 / max(self.seconds, 1e-9)


@holds("directory")
def extract_store(config: ExtractConfig | TeacherCacheConfig, directory: Path) -> Extraction:
    """Computes what is missing of a store.

    Every host takes shards of its own; the rows of a batch are divided over its devices.

    Args:
      config: settings of the extraction.
      directory: folder of the store.

    Raises:
      EmojaxError: one line saying what is wrong with config, corpus, models or store.
    """
    corpus = open_corpus(config.corpus.name, config.corpus.data_dir)
    splits = config.corpus.splits or tuple(corpus.split_sizes)
    indices = {split: read_index(corpus, split) for split in splits}
    computer: Computer = TeacherComputer(config) if isinstance(config, TeacherCacheConfig) else EncoderComputer(config)
    jobs = []
    for split, index in indices.items():
        reader = computer.open(corpus, split, index)
        label = f"extract {corpus.info.name} {split}"
        jobs.append(_SplitJob(label, index, reader, computer, directory / split))
    metadata = StoreMetadata(corpus.info.name, to_tree(computer.source), (computer.spec,))
    run_on_first_process(functools.partial(_describe_store, directory, metadata, jobs), f"{directory} was described")
    run, start = Extraction(), time.monotonic()
    with Interruption() as interruption:
        for job in jobs:
            for utterances, samples, size in job.run(interruption):
                run.utterances += utterances
                run.audio_hours += samples / SAMPLE_RATE / 3600
                run.bytes += size
            for name in ("empty", "short", "cut"):
                setattr(run, name, getattr(run, name) + job.reader.counts[name])
            run.interrupted_by = interruption.received
            if run.interrupted_by:
                break
    run.seconds = time.monotonic() - start
    if run.utterances and is_first_process():
        summary = {key: value for key, value in dataclasses.asdict(run).items() if key != "interrupted_by"}
        write_json(directory / SUMMARY, {**summary, "audio_hours_per_hour": run.audio_hours_per_hour})
    return run


@dataclasses.dataclass(frozen=True)
class _SplitJob:
    """This host's part of one split."""

    label: str
    index: SplitIndex
    reader: ShardReader
    computer: Computer
    directory: Path

    @functools.cached_property
    def metadata(self) -> SplitMetadata:
        content = split_content(self.index.content, *self.reader.features)
        return SplitMetadata(tuple(self.index.ids.tolist()), content, self.reader.bounds)

    def run(self, interruption: Interruption) -> Iterator[tuple[int, int, int]]:
        """Yields utterances, samples and bytes of each shard that was written."""
        bounds = self.reader.bounds
        mine = own_shards(len(bounds) - 1)
        missing = set(missing_shards(self.directory, self.metadata))
        todo = [shard for shard in mine if shard in missing]
        sizes = np.diff(bounds)
        total, left = int(sizes[list(mine)].sum()), int(sizes[todo].sum())
        with ThreadPoolExecutor(1) as thread, Progress(self.label, total, "utterances", total - left) as progress:
            # The next shard is read while this one is computed.
            reading = [thread.submit(self.reader.read, shard) for shard in todo[:1]]
            for place, shard in enumerate(todo):
                remove_leftovers(self.directory, self.metadata, shard)
                data = reading.pop().result()
                reading = [thread.submit(self.reader.read, following) for following in todo[place + 1 : place + 2]]
                arrays = self._compute(data, int(sizes[shard]), progress, interruption)
                if interruption.received:
                    return
                size = write_shard(self.directory, self.metadata, shard, arrays, (self.computer.spec,))
                samples = int(self.index.num_samples[bounds[shard] : bounds[shard + 1]].sum())
                yield int(sizes[shard]), samples, size

    def _compute(
        self, data: Any, count: int, progress: Progress, interruption: Interruption
    ) -> list[Mapping[str, np.ndarray]]:
        """Array per utterance of a shard; batches are in flight while earlier results are copied."""
        arrays = [self.computer.default] * count
        in_flight: collections.deque[tuple[list[int], tuple[jax.Array, jax.Array]]] = collections.deque()
        num_computed = 0

        def collect() -> int:
            positions, (values, counts) = in_flight.popleft()
            host_values, host_counts = np.asarray(values), np.asarray(counts)
            for row, position in enumerate(positions):
                arrays[position] = host_values[row, : host_counts[row]].copy()
            progress.advance(len(positions))
            return len(positions)

        for positions, inputs in self.reader.batches(data):
            if interruption.received:
                return []
            in_flight.append((positions, self.computer(inputs)))
            if len(in_flight) > _BATCHES_IN_FLIGHT:
                num_computed += collect()
        while in_flight:
            num_computed += collect()
        progress.advance(count - num_computed)
        return [{self.computer.spec.name: values} for values in arrays]


def own_shards(count: int) -> range:
    """Shards that this process computes."""
    return range(jax.process_index(), count, jax.process_count())


def _describe_store(directory: Path, metadata: StoreMetadata, jobs: list[_SplitJob]) -> None:
    """Writes the metadata of store and splits, or checks that those there are the same."""
    write_metadata(directory, metadata)
    for job in jobs:
        write_split_metadata(job.directory, job.metadata)
