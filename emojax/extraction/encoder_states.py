"""Hidden states of an encoder: its inputs of a split, and the states that are kept of each layer."""

import collections
import dataclasses
import functools
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh

from emojax.bucketing import padded_batches
from emojax.data import Corpus, SplitIndex, open_split
from emojax.data.corpus import read_utterances
from emojax.data.transcripts import RecognisedTranscripts, find_transcripts
from emojax.encoders import (
    ComputeOptions,
    Encoder,
    checkpoint_fingerprint,
    load_encoder,
    resolve_layers,
    select_layers,
)
from emojax.encoders.whisper_encoder import padded_encoder
from emojax.evaluation.windows import Windows
from emojax.extraction.config import ExtractConfig, ExtractEncoderConfig, StatesConfig
from emojax.extraction.shards import shard_bounds
from emojax.feature_store import DTYPES, STATES, ArraySpec, StatesSource
from emojax.models import pool_layers
from emojax.parallel import MeshConfig, batch_sharding, check_not_forked, make_mesh, replicated, with_mesh
from emojax.types import SAMPLE_RATE


class EncoderComputer:
    """Computes the kept hidden states of padded batches; see `emojax.extraction.shards.Computer`."""

    def __init__(self, config: ExtractConfig):
        """Loads the encoder; compiles nothing yet.

        Raises:
          CheckpointError: the encoder is absent or damaged.
          ConfigError: a layer does not exist.
        """
        self._mesh = _local_mesh()
        whole = replicated(self._mesh)
        self._config = config
        encoder = load_encoder(
            config.encoder.checkpoint,
            ComputeOptions(dtype=jnp.dtype(config.encoder.dtype)),
            revision=config.encoder.revision or None,
            to_device=lambda values, _: jax.device_put(values, whole),
        )
        padded = config.encoder.padded
        self.encoder = padded_encoder(encoder, "config.encoder.padded") if padded else encoder
        states = config.states
        layers = resolve_layers(states.layers, self.encoder.num_layers, "config.states.layers")
        width = self.encoder.num_features * (2 if states.pooling == "statistics" else 1)
        self.spec = ArraySpec(STATES, states.dtype, (1 if states.combine == "mean" else len(layers), width))
        self.source = _source(config, self.encoder, layers)
        self.default = np.zeros((0, *self.spec.shape), np.float32)
        self._rows = batch_sharding(self._mesh)
        compute = functools.partial(_kept_states, self.encoder, layers)
        self._compute = jax.jit(with_mesh(functools.partial(compute, states), self._mesh))
        frames = dataclasses.replace(states, pooling="none", dtype="float32")
        self._compute_frames = jax.jit(with_mesh(functools.partial(compute, frames), self._mesh))

    def open(self, corpus: Corpus, split: str, index: SplitIndex) -> "EncoderReader":
        """Opens a split; nothing is read yet.

        Raises:
          CheckpointError: the transcripts are not those of the corpus.
        """
        transcripts = find_transcripts(
            self._config.encoder.transcripts, corpus.info.name, split, "config.encoder.transcripts"
        )
        if transcripts:
            transcripts = transcripts.for_split(index)
            index = transcripts.replaced(index)
        hop, rows = _resolution(self._config, self.encoder)["samples_per_frame"], np.ones_like(index.num_samples)
        if self._config.states.pooling == "none":
            rows = index.num_samples // hop if hop else rows * self._config.encoder.max_tokens
            if self._config.encoder.padded:
                rows = -(-index.num_samples // self.encoder.inputs.longest) * self.encoder.module.config.max_frames
        audio = self.encoder.inputs.field == "audio"
        bounds = shard_bounds(index.num_samples, rows * self.spec.bytes_per_row, audio)
        return EncoderReader(
            corpus, split, index, transcripts, self.encoder, self._config.encoder, bounds, self._mesh.size
        )

    def __call__(self, inputs: "EncoderBatch") -> tuple[jax.Array, jax.Array]:
        """Starts the computation of one batch.

        Returns:
          States (B, T, L, D) in the stored type, of windows float32 and not pooled; how many of the T are valid (B,).
        """
        compute = self._compute_frames if inputs.windows else self._compute
        return compute(self.encoder.params, *jax.device_put((inputs.values, inputs.lengths), self._rows))

    def join(self, parts: Sequence[np.ndarray]) -> np.ndarray:
        """Concatenates the hidden states of the windows of a clip, and pools them as those of other clips."""
        frames, pooling = np.concatenate(parts), self._config.states.pooling
        if pooling == "none":
            return frames
        mask = jnp.ones((1, len(frames)), bool)
        pooled, _ = pool_layers(pooling, jnp.asarray(frames[None]), mask)
        return np.asarray(pooled[0])


class EncoderBatch(NamedTuple):
    """Padded inputs of an encoder.

    Attributes:
      values: waveforms int16 (B, S) or tokens int32 (B, L).
      lengths: valid samples or tokens per row, int32 (B,).
      windows: whether rows are windows of one clip that is longer than the encoder's longest input.
    """

    values: np.ndarray
    lengths: np.ndarray
    windows: bool = False


class EncoderReader:
    """Inputs of an encoder, of a split's utterances; see `emojax.extraction.shards.ShardReader`."""

    def __init__(
        self,
        corpus: Corpus,
        split: str,
        index: SplitIndex,
        transcripts: RecognisedTranscripts | None,
        encoder: Encoder,
        config: ExtractEncoderConfig,
        bounds: tuple[int, ...],
        devices: int,
    ):
        """Opens the split; nothing is read yet."""
        self.index, self.bounds = index, bounds
        self.features = (encoder.inputs.field,)
        self.counts: collections.Counter[str] = collections.Counter()
        self._adapter, self._config, self._devices = encoder.inputs, config, devices
        self._hop = encoder.inputs.resolution(encoder.module.config, config.max_tokens)["samples_per_frame"] or 1
        self._transcripts = transcripts
        self._place, self._source = corpus.describe(split), open_split(corpus, split)

    def read(self, shard: int) -> list[np.ndarray]:
        """Waveforms int16 (S_i,) or tokens int32 (L_i,) of a shard's utterances.

        An empty transcript has no tokens; a longer one than allowed is cut as in training. A recording too short for
        one frame has no samples.

        Raises:
          CorpusError: an utterance cannot be read; the message names it.
        """
        adapter, positions = self._adapter, range(self.bounds[shard], self.bounds[shard + 1])
        utterances: list[Any]
        if self._transcripts:
            utterances = [self._transcripts.texts[position] for position in positions]
        else:
            examples = read_utterances(self._source, positions, self._place, audio=adapter.field == "audio")
            utterances = [example[adapter.field] for example in examples]
        sequences, counts = adapter.prepare_utterances(utterances, self._config.max_tokens)
        self.counts.update(counts)
        return sequences

    def batches(self, data: list[np.ndarray]) -> Iterator[tuple[list[int], EncoderBatch]]:
        """Yields positions and padded inputs; a position occurs once per window of a clip that is too long."""
        adapter, config = self._adapter, self._config
        if adapter.field == "transcript":
            limits: Any = {"batch_size": config.batch_tokens, "longest": config.max_tokens}
            for rows, padded, lengths in adapter.batches(data, **limits, devices=self._devices, fill=True):
                yield rows, EncoderBatch(padded, lengths)
            return
        longest, size = adapter.longest or 0, round(config.batch_seconds * SAMPLE_RATE)
        whole = [position for position, clip in enumerate(data) if not longest or len(clip) <= longest]
        shortest = longest if config.padded else adapter.shortest_bucket
        clips = [data[position] for position in whole]
        for rows, padded, lengths in padded_batches(clips, shortest, size, adapter.longest, self._devices, fill=True):
            yield [whole[row] for row in rows], EncoderBatch(padded, lengths)
        for position in sorted(set(range(len(data))) - set(whole)):
            bounds = clip_windows(len(data[position]), longest, self._hop)
            count = max(size // longest, 1) * self._devices
            for start in range(0, len(bounds), count):
                chosen = bounds[start : start + count]
                values, lengths = np.zeros((count, longest), np.int16), np.zeros(count, np.int32)
                for row, (first, end) in enumerate(chosen):
                    lengths[row] = end - first
                    values[row, : end - first] = data[position][first:end]
                yield [position] * len(chosen), EncoderBatch(values, lengths, windows=True)


def clip_windows(num_samples: int, longest: int, hop: int) -> list[tuple[int, int]]:
    """Divides a clip into as few windows of equal length as possible, as evaluation does (`Windows.equal`).

    Borders are at multiples of the frame shift, so that frame i of the concatenated hidden states is that of sample
    i * hop, as in a clip that is not divided; the last window has the remaining samples. No frame is computed from
    samples of two windows.

    Args:
      num_samples: length of the clip.
      longest: longest window, a multiple of `hop`.
      hop: samples per frame.

    Returns:
      First sample of each window, and the first after it.
    """
    starts, lengths = Windows(longest // hop, equal=True).bounds(np.array([-(-num_samples // hop)]))
    ends = np.minimum((starts + lengths) * hop, num_samples)
    return list(zip((starts[0] * hop).tolist(), ends[0].tolist(), strict=True))


def _local_mesh() -> Mesh:
    """This host's devices, as many as a power of two."""
    check_not_forked()  # JAX would hang before the mesh is made
    devices = jax.local_devices()
    devices = devices[: 1 << (len(devices).bit_length() - 1)]
    return make_mesh(MeshConfig(), devices)


def _source(config: ExtractConfig, encoder: Encoder, layers: tuple[int, ...]) -> StatesSource:
    return StatesSource(
        checkpoint=checkpoint_fingerprint(config.encoder.checkpoint, config.encoder.revision or None),
        model_type=encoder.config["model_type"],
        layers=layers,
        combine=config.states.combine,
        pooling=config.states.pooling,
        dtype=config.encoder.dtype,
        padded=config.encoder.padded,
        **_resolution(config, encoder),
    )


def _resolution(config: ExtractConfig, encoder: Encoder) -> dict[str, int | None]:
    return encoder.inputs.resolution(encoder.module.config, config.encoder.max_tokens)


def _kept_states(
    encoder: Encoder,
    layers: tuple[int, ...],
    config: StatesConfig,
    params: Mapping[str, Any],
    inputs: jax.Array,
    lengths: jax.Array,
) -> tuple[jax.Array, jax.Array]:
    inputs = encoder.inputs(inputs, lengths)
    earlier = any(layer != encoder.num_layers for layer in layers)
    output: Any = encoder.module.apply({"params": params}, inputs, lengths, hidden_states=earlier)
    states = select_layers(output, layers, encoder.num_layers).astype(jnp.float32)
    if config.combine == "mean":
        states = states.mean(axis=2, keepdims=True)
    counts = output.mask.sum(axis=1)
    if config.pooling != "none":
        states, mask = pool_layers(config.pooling, states, output.mask)
        counts = mask.sum(axis=1)
    return states.astype(DTYPES[config.dtype]), counts
