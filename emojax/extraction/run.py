"""Extracts a feature store: hidden states or teacher outputs of a corpus, computed on this host's devices."""

import collections
import dataclasses
import functools
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import jax
import numpy as np

from emojax.beam_pipeline import import_beam
from emojax.data import open_corpus, read_index
from emojax.data.corpus import find_data_dir
from emojax.errors import EmojaxError
from emojax.extraction.config import ExtractConfig, TeacherCacheConfig
from emojax.extraction.encoder_states import EncoderComputer
from emojax.extraction.filling import Interrupted, SplitJob, SplitWork, StoreRun, fill_store
from emojax.extraction.shards import Computer, ShardReader
from emojax.extraction.teacher_outputs import TeacherComputer
from emojax.feature_store import SplitMetadata, StoreMetadata, write_shard
from emojax.interruption import Interruption
from emojax.parallel import is_first_process
from emojax.progress import Progress
from emojax.schema import to_tree
from emojax.workdir import SUMMARY, holds, write_json

_BATCHES_IN_FLIGHT = 2


@holds("directory")
def extract_store(
    config: ExtractConfig | TeacherCacheConfig, directory: Path, beam_options: Sequence[str] | None = None
) -> StoreRun:
    """Computes what is missing of a store.

    Every host takes shards of its own; the rows of a batch are divided over its devices.

    Args:
      config: settings of the extraction.
      directory: folder of the store.
      beam_options: options of an Apache Beam pipeline whose workers compute the shards; None: this program does.

    Raises:
      EmojaxError: one line saying what is wrong with config, corpus, models or store.
    """
    if beam_options is None:
        run = fill_store(directory, *open_store(config, directory))
    else:
        import_beam(EmojaxError)
        from emojax.extraction.beam_filling import fill_store_with_beam

        # Workers have another working directory, and may have other environment variables.
        corpus = dataclasses.replace(config.corpus, data_dir=str(find_data_dir(config.corpus.data_dir).absolute()))
        opened = functools.partial(open_store, dataclasses.replace(config, corpus=corpus), directory.absolute())
        run = fill_store_with_beam(directory.absolute(), opened, beam_options)
    if run.utterances and is_first_process():
        write_json(directory / SUMMARY, run.summary)
    return run


def open_store(config: ExtractConfig | TeacherCacheConfig, directory: Path) -> tuple[StoreMetadata, list[SplitJob]]:
    """Opens corpus and models of an extraction; nothing is computed or written yet.

    Args:
      config: settings of the extraction.
      directory: folder of the store.

    Returns:
      Metadata of the store, and its splits.

    Raises:
      EmojaxError: one line saying what is wrong with config, corpus or models.
    """
    corpus = open_corpus(config.corpus.name, config.corpus.data_dir)
    splits = config.corpus.splits or tuple(corpus.split_sizes)
    indices = {split: read_index(corpus, split) for split in splits}
    computer: Computer
    if isinstance(config, TeacherCacheConfig):
        computer = TeacherComputer(config, corpus, indices)
    else:
        computer = EncoderComputer(config)
    jobs = []
    for split, index in indices.items():
        reader = computer.open(corpus, split, index)
        label = f"extract {corpus.info.name} {split}"
        jobs.append(SplitJob(label, reader.index, ArrayWork(reader, computer), directory / split))
    return StoreMetadata(corpus.info.name, to_tree(computer.source), (computer.spec,)), jobs


class ArrayWork(SplitWork):
    """Computes one array per utterance, batch by batch."""

    shards: Literal["array_record", "jsonl"] = "array_record"

    def __init__(self, reader: ShardReader, computer: Computer):
        """Wraps the reader of a split and the computer of its batches."""
        self._reader, self._computer = reader, computer
        self.counts, self.bounds, self.features = reader.counts, reader.bounds, reader.features

    def read(self, shard: int) -> Any:
        """Reads the inputs of a shard."""
        return self._reader.read(shard)

    def compute(
        self, data: Any, count: int, progress: Progress, interruption: Interruption
    ) -> list[Mapping[str, np.ndarray]]:
        """Computes the array of each utterance; batches are in flight while earlier results are copied."""
        parts: list[list[np.ndarray]] = [[] for _ in range(count)]
        in_flight: collections.deque[tuple[list[int], tuple[jax.Array, jax.Array]]] = collections.deque()
        num_computed = 0

        def collect() -> int:
            """Returns the number of utterances that had no part before."""
            positions, (values, counts) = in_flight.popleft()
            host_values, host_counts = np.asarray(values), np.asarray(counts)
            started = sum(not parts[position] for position in set(positions))
            for row, position in enumerate(positions):
                parts[position].append(host_values[row, : host_counts[row]].copy())
            progress.advance(started)
            return started

        for positions, inputs in self._reader.batches(data):
            if interruption.received:
                raise Interrupted
            in_flight.append((positions, self._computer(inputs)))
            if len(in_flight) > _BATCHES_IN_FLIGHT:
                num_computed += collect()
        while in_flight:
            num_computed += collect()
        progress.advance(count - num_computed)
        return [{self._computer.spec.name: self._array(found)} for found in parts]

    def _array(self, parts: list[np.ndarray]) -> np.ndarray:
        if len(parts) > 1:
            return self._computer.join(parts)
        return parts[0] if parts else self._computer.default

    def write(self, directory: Path, metadata: SplitMetadata, shard: int, values: Any) -> int:
        """Writes the arrays of a shard."""
        return write_shard(directory, metadata, shard, values, (self._computer.spec,))
