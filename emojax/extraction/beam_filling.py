"""Fills a store with Apache Beam: workers compute the missing shards, and the runner repeats those that are lost."""

import collections
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path

import apache_beam as beam
import jax
from apache_beam.utils.shared import Shared

from emojax.beam_pipeline import beam_pipeline
from emojax.errors import CheckpointError, ConfigError, EmojaxError
from emojax.extraction.filling import SplitJob, StoreRun, describe_store
from emojax.feature_store import StoreMetadata
from emojax.feature_store.layout import STORE
from emojax.files import read_json_object, write_json
from emojax.interruption import Interruption
from emojax.progress import Progress

OpenStore = Callable[[], tuple[StoreMetadata, Sequence[SplitJob]]]
"""Opens corpus and models; returns the metadata of the store, and its splits."""

_COUNTS = ".beam.json"
"""Counts of all shards of a pipeline, in the folder of the store, until the pipeline has ended."""


def fill_store_with_beam(directory: Path, open_store: OpenStore, options: Sequence[str]) -> StoreRun:
    """Computes what is missing of a store, as `fill_store` does, on the workers of a pipeline.

    An element of the pipeline is a shard. A shard is a function of corpus, models, config and the number of devices of
    a worker, and its file appears when it is complete. It may therefore be computed again, or twice at once.

    Args:
      directory: absolute path of the store, in a folder that all workers have.
      open_store: picklable; called once in this process and once in each worker process.
      options: pipeline options.

    Returns:
      Counts of all workers; `seconds` includes starting the workers and loading their models.

    Raises:
      ConfigError: this is one of several processes of a program.
      EmojaxError: the folder holds another store, or a shard cannot be read, computed or written.
    """
    if jax.process_count() > 1:
        raise ConfigError(f"--beam must be started by a single process, got {jax.process_count()}")
    missing = _describe(directory, open_store)
    run, start, counts = StoreRun(), time.monotonic(), directory / _COUNTS
    if not missing:
        return run
    counts.unlink(missing_ok=True)
    with beam_pipeline(options, EmojaxError) as pipeline:
        shards = pipeline | beam.Create(missing) | beam.Reshuffle() | beam.ParDo(FillShard(directory, open_store))
        _ = shards | beam.CombineGlobally(_total) | "WriteCounts" >> beam.Map(_write_counts, path=str(counts))
    run.add(read_json_object(counts))
    counts.unlink()
    run.seconds = time.monotonic() - start
    return run


def _describe(directory: Path, open_store: OpenStore) -> list[tuple[int, int]]:
    """Writes the metadata; returns numbers of split and shard of what is missing. The models are freed."""
    metadata, jobs = open_store()
    describe_store(directory, metadata, jobs)
    return [(split, shard) for split, job in enumerate(jobs) for shard in job.metadata.missing_shards(job.directory)]


class FillShard(beam.DoFn):
    """Computes and writes shards; an element is the numbers of split and shard, its result their counts."""

    def __init__(self, directory: Path, open_store: OpenStore):
        """Sets what each worker process opens.

        Args:
          directory: folder of the store.
          open_store: called once in each process.
        """
        self._directory, self._open_store, self._shared = directory, open_store, Shared()

    def setup(self) -> None:
        """Loads the models, or takes those of another thread of the process."""
        self._worker = self._shared.acquire(lambda: _Worker(self._directory, self._open_store))

    def process(self, element: tuple[int, int]) -> Iterator[dict[str, int]]:
        """Fills one shard."""
        yield self._worker.fill(*element)


class _Worker:
    """Models and splits of a process, shared by its threads: one of them reads while another computes."""

    def __init__(self, directory: Path, open_store: OpenStore):
        if not (directory / STORE).is_file():
            raise CheckpointError(f"{directory}: is not on this worker; --workdir must be in a folder of all workers")
        metadata, self._jobs = open_store()
        describe_store(directory, metadata, self._jobs)  # compares them: corpus and models of a worker may be others
        self._reading, self._computing = threading.Lock(), threading.Lock()

    def fill(self, split: int, number: int) -> dict[str, int]:
        job = self._jobs[split]
        with self._reading:
            before = collections.Counter(job.work.counts)
            data = job.work.read(number)
            counts = job.work.counts - before
        path = job.directory / job.metadata.shard_name(number)
        if path.is_file():  # a repeated element
            return {**job.counts_of(number), "bytes": path.stat().st_size, **counts}
        with self._computing:
            return {**job.fill(number, data, _Silent("", 0, ""), Interruption()), **counts}


class _Silent(Progress):
    shown = False


def _total(counts: Iterable[Mapping[str, int]]) -> dict[str, int]:
    total: collections.Counter[str] = collections.Counter()
    for each in counts:
        total.update(each)
    return dict(total)


def _write_counts(total: Mapping[str, int], path: str) -> None:
    write_json(Path(path), total)
