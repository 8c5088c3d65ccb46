"""Extracts a store: reads a corpus shard by shard, computes states on this host's devices, writes finished shards."""

import collections
import dataclasses
import signal
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

from emojax.data import SplitIndex, open_corpus, read_index
from emojax.encoders import ComputeOptions, Encoder, checkpoint_fingerprint, load_encoder
from emojax.extraction.config import EncoderInputs, ExtractConfig, ExtractEncoderConfig
from emojax.extraction.states import StateComputer, shard_bounds
from emojax.feature_store import (
    STATES,
    SplitMetadata,
    StatesSource,
    StoreMetadata,
    missing_shards,
    remove_leftovers,
    split_content,
    write_metadata,
    write_shard,
    write_split_metadata,
)
from emojax.interruption import Interruption
from emojax.parallel import check_not_forked, is_first
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
      seconds: that it took, without loading the encoder.
      bytes: written.
      empty: utterances without a transcript, stored without states.
      short: utterances with too few samples for one frame, stored without states.
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
def extract_store(config: ExtractConfig, directory: Path) -> Extraction:
    """Computes what is missing of a store.

    Every host takes shards of its own; the rows of a batch are divided over its devices.

    Args:
      config: what to compute.
      directory: folder of the store.

    Raises:
      EmojaxError: one line saying what is wrong with config, corpus, checkpoint or store.
    """
    corpus = open_corpus(config.corpus.name, config.corpus.data_dir)
    splits = config.corpus.splits or tuple(corpus.split_sizes)
    indices = {split: read_index(corpus, split) for split in splits}
    mesh = _local_mesh()
    encoder = _load(config.encoder, mesh)
    computer = StateComputer(encoder, config.states, mesh)
    if is_first():
        write_metadata(directory, _metadata(config, corpus.info.name, encoder, computer))
    run, start = Extraction(), time.monotonic()
    with Interruption() as interruption:
        for split, index in indices.items():
            metadata = _split_metadata(config, encoder, computer, index)
            if is_first():
                write_split_metadata(directory / split, metadata)
            inputs = EncoderInputs(corpus, split, encoder, config.encoder.max_tokens)
            job = _SplitJob(
                config, f"{corpus.info.name} {split}", inputs, encoder, computer, directory / split, metadata
            )
            for shard, size in job.run(interruption):
                run.utterances += metadata.bounds[shard + 1] - metadata.bounds[shard]
                samples = index.num_samples[metadata.bounds[shard] : metadata.bounds[shard + 1]].sum()
                run.audio_hours += float(samples) / SAMPLE_RATE / 3600
                run.bytes += size
            for name in ("empty", "short", "cut"):
                setattr(run, name, getattr(run, name) + inputs.counts[name])
            run.interrupted_by = interruption.received
            if run.interrupted_by:
                break
    run.seconds = time.monotonic() - start
    if run.utterances and is_first():
        summary = {key: value for key, value in dataclasses.asdict(run).items() if key != "interrupted_by"}
        write_json(directory / SUMMARY, {**summary, "audio_hours_per_hour": run.audio_hours_per_hour})
    return run


@dataclasses.dataclass(frozen=True)
class _SplitJob:
    """This host's part of one split."""

    config: ExtractConfig
    label: str
    inputs: EncoderInputs
    encoder: Encoder
    computer: StateComputer
    directory: Path
    metadata: SplitMetadata

    def run(self, interruption: Interruption) -> Iterator[tuple[int, int]]:
        """Yields number and size in bytes of each shard that was written."""
        mine = range(jax.process_index(), len(self.metadata.bounds) - 1, jax.process_count())
        missing = set(missing_shards(self.directory, self.metadata))
        todo = [shard for shard in mine if shard in missing]
        sizes = np.diff(self.metadata.bounds)
        total, left = int(sizes[list(mine)].sum()), int(sizes[todo].sum())
        with (
            ThreadPoolExecutor(1) as reader,
            Progress(f"extract {self.label}", total, "utterances", total - left) as progress,
        ):
            # The next shard is read while this one is computed.
            reading = [reader.submit(self._read, shard) for shard in todo[:1]]
            for place, shard in enumerate(todo):
                remove_leftovers(self.directory, self.metadata, shard)
                sequences = reading.pop().result()
                reading = [reader.submit(self._read, following) for following in todo[place + 1 : place + 2]]
                states = self._compute(sequences, progress, interruption)
                if interruption.received:
                    return
                arrays = ({STATES: values} for values in states)
                yield shard, write_shard(self.directory, self.metadata, shard, arrays, (self.computer.spec,))

    def _read(self, shard: int) -> list[np.ndarray]:
        return self.inputs.read(self.metadata.bounds[shard], self.metadata.bounds[shard + 1])

    def _compute(self, sequences: list[np.ndarray], progress: Progress, interruption: Interruption) -> list[np.ndarray]:
        """States per utterance; batches are in flight while earlier results are copied."""
        states: list[np.ndarray] = [np.zeros((0, *self.computer.spec.shape), np.float32)] * len(sequences)
        in_flight: collections.deque[tuple[list[int], tuple[jax.Array, jax.Array]]] = collections.deque()

        def collect() -> None:
            rows, (values, counts) = in_flight.popleft()
            host_values, host_counts = np.asarray(values), np.asarray(counts)
            for row, index in enumerate(rows):
                states[index] = host_values[row, : host_counts[row]].copy()
            progress.advance(len(rows))

        for rows, padded, lengths in self._batches(sequences):
            if interruption.received:
                return []
            in_flight.append((rows, self.computer(padded, lengths)))
            if len(in_flight) > _BATCHES_IN_FLIGHT:
                collect()
        while in_flight:
            collect()
        return states

    def _batches(self, sequences: list[np.ndarray]) -> Iterator[tuple[list[int], np.ndarray, np.ndarray]]:
        adapter, options = self.encoder.inputs, self.config.encoder
        audio = adapter.field == "audio"
        size = round(options.batch_seconds * SAMPLE_RATE) if audio else options.batch_tokens
        longest, devices = None if audio else options.max_tokens, self.computer.num_devices
        return adapter.batches(sequences, batch_size=size, longest=longest, devices=devices, fill=True)


def _local_mesh() -> Mesh:
    """This host's devices, as many as a power of two."""
    check_not_forked()
    devices = jax.local_devices()
    devices = devices[: 1 << (len(devices).bit_length() - 1)]
    return jax.make_mesh((len(devices),), ("data",), axis_types=(AxisType.Auto,), devices=devices)


def _load(config: ExtractEncoderConfig, mesh: Mesh) -> Encoder:
    whole = NamedSharding(mesh, PartitionSpec())
    return load_encoder(
        config.checkpoint,
        ComputeOptions(dtype=jnp.dtype(config.dtype)),
        revision=config.revision or None,
        to_device=lambda values, _: jax.device_put(values, whole),
    )


def _metadata(config: ExtractConfig, corpus: str, encoder: Encoder, computer: StateComputer) -> StoreMetadata:
    source = StatesSource(
        checkpoint=checkpoint_fingerprint(config.encoder.checkpoint, config.encoder.revision or None),
        model_type=encoder.config["model_type"],
        layers=computer.layers,
        combine=config.states.combine,
        pooling=config.states.pooling,
        dtype=config.encoder.dtype,
        **_resolution(config, encoder),
    )
    return StoreMetadata(corpus, to_tree(source), (computer.spec,))


def _resolution(config: ExtractConfig, encoder: Encoder) -> dict[str, int | None]:
    return encoder.inputs.resolution(encoder.module.config, config.encoder.max_tokens)


def _split_metadata(
    config: ExtractConfig, encoder: Encoder, computer: StateComputer, index: SplitIndex
) -> SplitMetadata:
    field, hop = encoder.inputs.field, _resolution(config, encoder)["samples_per_frame"]
    rows = np.ones_like(index.num_samples)
    if config.states.pooling == "none":
        rows = index.num_samples // hop if hop else rows * config.encoder.max_tokens
    bounds = shard_bounds(index.num_samples, rows * computer.spec.bytes_per_row, field == "audio")
    content = split_content(index.content, field)
    return SplitMetadata(tuple(index.ids.tolist()), content, bounds)
