"""Outputs of a teacher: its inputs of a split, and one row of averaged outputs per utterance."""

import collections
import functools
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import jax
import numpy as np

from emojax.config import TeacherConfig
from emojax.data import BatchInputs, Corpus, SplitIndex
from emojax.data.loading import BatchLoader
from emojax.data.plan import FILLER, ShardedPlan, extended_buckets
from emojax.evaluation.windows import ENCODER_SECONDS, Windows, average_windows
from emojax.extraction.config import TeacherCacheConfig
from emojax.extraction.shards import shard_bounds
from emojax.feature_store import OUTPUTS, ArraySpec
from emojax.parallel import batch_sharding, host_rows, make_mesh, to_host, with_mesh
from emojax.teachers import TeacherSplit, load_ensemble
from emojax.teachers.cache import cache_source, row_size, to_row
from emojax.teachers.ensemble import Ensemble
from emojax.types import SAMPLE_RATE, Batch


class TeacherComputer:
    """Computes the averaged outputs of an ensemble; see `emojax.extraction.shards.Computer`."""

    def __init__(self, config: TeacherCacheConfig, corpus: Corpus, indices: Mapping[str, SplitIndex]):
        """Restores the models, without encoders whose hidden states their stores have; compiles nothing yet.

        Args:
          config: settings of the extraction.
          corpus: corpus that is read.
          indices: index by split that is read.

        Raises:
          CheckpointError: a workdir is absent or damaged.
          ConfigError: a batch does not divide over this host's devices.
        """
        self._config, self._mesh = config, make_mesh(config.mesh, jax.local_devices())
        host_rows(self._mesh, config.data.batch_size)  # checks that rows divide over it
        cached = config.teacher
        teacher = TeacherConfig(cached.workdir, cached.weights, "", cached.dtype, cached.transcripts)
        splits = [
            TeacherSplit(corpus.info.name, split, index, BatchInputs(audio=False), config.data.max_tokens)
            for split, index in indices.items()
        ]
        self.ensemble = ensemble = load_ensemble(teacher, self._mesh, splits)
        size = row_size(len(ensemble.categories), ensemble.embedding_size)
        self.spec = ArraySpec(OUTPUTS, "float32", (size,))
        max_tokens = config.data.max_tokens if "lexical" in ensemble.modalities else None
        self.source = cache_source(ensemble, cached.dtype, max_tokens)
        self.default = np.zeros((1, size), np.float32)

        limit, at_once = ensemble.max_samples or 0, ENCODER_SECONDS * SAMPLE_RATE
        self._windows = Windows(limit, equal=True, at_once=at_once, always=ensemble.pads_clips)

        def compute(members: Any, batch: Batch) -> tuple[jax.Array, jax.Array]:
            return to_row(ensemble.outputs(members, batch))[:, None], (batch.index != FILLER).astype(np.int32)

        self._compute = jax.jit(with_mesh(compute, self._mesh))

    def open(self, corpus: Corpus, split: str, index: SplitIndex) -> "TeacherReader":
        """Opens a split; nothing is read yet."""
        inputs = self.ensemble.batch_inputs(BatchInputs(audio=False), corpus.info.name, split).for_split(index)
        return TeacherReader(corpus, split, index, self._config, inputs, self.ensemble, self.spec)

    def __call__(self, inputs: Batch) -> tuple[Any, Any]:
        """Starts the computation of one batch of NumPy arrays: rows (B, 1, N), and 1 for each utterance (B,).

        Rows of utterances that are longer than the longest input of a model are means over windows, as in evaluation.
        """
        batch = jax.device_put(inputs, batch_sharding(self._mesh))
        compute = functools.partial(self._compute, self.ensemble.variables)
        if not self._windows.divide(inputs.waveform.shape[1]):
            return compute(batch)
        (rows,) = average_windows(lambda window: (to_host(compute(window)[0][:, 0]),), batch, self._windows, self._mesh)
        return rows[:, None], (inputs.index != FILLER).astype(np.int32)

    def join(self, parts: Sequence[np.ndarray]) -> np.ndarray:
        """Returns the only part: utterances are not divided into parts."""
        (row,) = parts
        return row


class TeacherReader:
    """Batches of a split's utterances as in evaluation, shard by shard; see `emojax.extraction.shards.ShardReader`."""

    def __init__(
        self,
        corpus: Corpus,
        split: str,
        index: SplitIndex,
        config: TeacherCacheConfig,
        inputs: BatchInputs,
        ensemble: Ensemble,
        spec: ArraySpec,
    ):
        """Plans the batches; nothing is read yet."""
        data = config.data.with_buckets(index.num_samples)
        buckets = extended_buckets(data.buckets, int(index.num_samples.max()))
        sizes = np.full(len(index), spec.bytes_per_row)
        self.index, min_samples = index, ensemble.min_samples
        audio, text = bool(ensemble.modalities - {"lexical"}), "lexical" in ensemble.modalities
        self.bounds = shard_bounds(index.num_samples, sizes, audio)
        own_transcripts = text and not inputs.transcripts  # others are part of the source
        self.features = (("audio",) if audio else ()) + (("transcript",) if own_transcripts else ())
        self.counts: collections.Counter[str] = collections.Counter()
        self._plan = ShardedPlan(index.num_samples, buckets, data.batch_size, self.bounds, min_samples)
        self._loader = BatchLoader(corpus, split, self._plan, inputs, data.max_tokens)
        self._short, self._text = index.num_samples < min_samples, bool(inputs.tokenizer)

    def read(self, shard: int) -> list[tuple[list[int], Batch]]:
        """Loads the batches of a shard, with the positions in it of their utterances.

        Utterances too short for a frame of every model are in no batch.

        Raises:
          CorpusError: an utterance cannot be read; the message names it.
        """
        first, end = self.bounds[shard : shard + 2]
        self.counts["short"] += int(self._short[first:end].sum())
        loaded = []
        for number in self._plan.batches_of(shard):
            batch = self._loader(number)
            indices = np.asarray(batch.index)
            positions = (indices[indices != FILLER] - first).tolist()  # rows that fill a batch are its last
            if self._text:
                self.counts["empty"] += int((np.asarray(batch.num_tokens)[: len(positions)] == 0).sum())
            loaded.append((positions, batch))
        return loaded

    def batches(self, data: list[tuple[list[int], Batch]]) -> Iterator[tuple[list[int], Batch]]:
        """Yields positions and batches."""
        yield from data
