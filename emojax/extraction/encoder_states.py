"""Hidden states of an encoder: its inputs of a split, and the states that are kept of each layer."""

import collections
import functools
import math
from collections.abc import Iterator, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

from emojax.data import Corpus, SplitIndex, open_split
from emojax.data.corpus import read_utterances
from emojax.encoders import (
    ComputeOptions,
    Encoder,
    checkpoint_fingerprint,
    load_encoder,
    resolve_layers,
    select_layers,
)
from emojax.encoders.encoder import SHORTEST_BUCKET, padded_batches
from emojax.encoders.preprocess import TextPreprocess, WaveformPreprocess
from emojax.extraction.config import ExtractConfig, ExtractEncoderConfig, StatesConfig
from emojax.extraction.shards import shard_bounds
from emojax.feature_store import DTYPES, STATES, ArraySpec, StatesSource
from emojax.models import pool
from emojax.parallel import check_not_forked
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
        whole = NamedSharding(self._mesh, PartitionSpec())
        self._config = config
        self.encoder = load_encoder(
            config.encoder.checkpoint,
            ComputeOptions(dtype=jnp.dtype(config.encoder.dtype)),
            revision=config.encoder.revision or None,
            place=lambda values, _: jax.device_put(values, whole),
        )
        states = config.states
        layers = resolve_layers(states.layers, self.encoder.num_layers, "config.states.layers")
        width = self.encoder.num_features * (2 if states.pooling == "statistics" else 1)
        self.spec = ArraySpec(STATES, states.dtype, (1 if states.combine == "mean" else len(layers), width))
        self.source = _source(config, self.encoder, layers)
        self.default = np.zeros((0, *self.spec.shape), np.float32)
        self._rows = NamedSharding(self._mesh, PartitionSpec(self._mesh.axis_names))
        self._compute = jax.jit(functools.partial(_kept_states, self.encoder, layers, states))

    def open(self, corpus: Corpus, split: str, index: SplitIndex) -> "EncoderReader":
        """Opens a split; nothing is read yet."""
        speech, rows = self.encoder.family.modality == "speech", np.ones_like(index.num_samples)
        if self._config.states.pooling == "none":
            rows = index.num_samples // _samples_per_frame(self.encoder) if speech else rows * self._max_tokens
        bounds = shard_bounds(index.num_samples, rows * self.spec.bytes_per_row, speech)
        return EncoderReader(corpus, split, self.encoder, self._config.encoder, bounds, self._mesh.size)

    def __call__(self, inputs: tuple[np.ndarray, np.ndarray]) -> tuple[jax.Array, jax.Array]:
        """Starts the computation of one batch.

        Args:
          inputs: waveforms int16 (B, S) or tokens int32 (B, L), and valid ones per row (B,).

        Returns:
          States (B, T, L, D) in the stored type, and how many of the T are valid (B,).
        """
        return self._compute(self.encoder.params, *jax.device_put(inputs, self._rows))

    @property
    def _max_tokens(self) -> int:
        return self._config.encoder.max_tokens


class EncoderReader:
    """Inputs of an encoder, of a split's utterances; see `emojax.extraction.shards.ShardReader`."""

    def __init__(
        self,
        corpus: Corpus,
        split: str,
        encoder: Encoder,
        config: ExtractEncoderConfig,
        bounds: tuple[int, ...],
        devices: int,
    ):
        """Opens the split; nothing is read yet."""
        self.bounds = bounds
        self.features = ("audio" if encoder.family.modality == "speech" else "transcript",)
        self.counts: collections.Counter[str] = collections.Counter()
        self._preprocess, self._min_samples = encoder.preprocess, encoder.min_samples
        self._config, self._modality, self._devices = config, encoder.family.modality, devices
        self._place, self._source = corpus.place(split), open_split(corpus, split)

    def read(self, shard: int) -> list[np.ndarray]:
        """Waveforms int16 (S_i,) or tokens int32 (L_i,) of a shard's utterances.

        An empty transcript has no tokens; a longer one than allowed is cut as in training. A recording too short for
        one frame has no samples.

        Raises:
          CorpusError: an utterance cannot be read; the message names it.
        """
        text = isinstance(self._preprocess, TextPreprocess)
        positions = range(self.bounds[shard], self.bounds[shard + 1])
        examples = read_utterances(self._source, positions, self._place, audio=not text)
        if isinstance(self._preprocess, TextPreprocess):
            return self._tokens([example["transcript"] for example in examples], self._preprocess)
        recordings = [example["audio"] for example in examples]
        long_enough = [len(audio) >= self._min_samples for audio in recordings]
        self.counts["short"] += long_enough.count(False)
        return [audio if taken else audio[:0] for audio, taken in zip(recordings, long_enough, strict=True)]

    def batches(self, data: list[np.ndarray]) -> Iterator[tuple[list[int], tuple[np.ndarray, np.ndarray]]]:
        """Yields positions, and padded inputs with their lengths."""
        speech, config = self._modality == "speech", self._config
        size = round(config.batch_seconds * SAMPLE_RATE) if speech else config.batch_tokens
        longest = None if speech else config.max_tokens
        shortest = SHORTEST_BUCKET[self._modality]
        for rows, padded, lengths in padded_batches(data, shortest, size, longest, self._devices, fill=True):
            yield rows, (padded, lengths)

    def _tokens(self, texts: list[str], preprocess: TextPreprocess) -> list[np.ndarray]:
        limit = min(self._config.max_tokens, preprocess.max_tokens)
        whole = preprocess.tokenizer(texts, verbose=False)["input_ids"]
        within = preprocess.tokenizer(texts, truncation=True, max_length=limit)["input_ids"]
        self.counts["cut"] += sum(len(tokens) > limit for tokens in whole)
        self.counts["empty"] += sum(not text.strip() for text in texts)
        return [
            np.asarray(tokens if text.strip() else [], np.int32) for text, tokens in zip(texts, within, strict=True)
        ]


def _local_mesh() -> Mesh:
    """This host's devices, as many as a power of two."""
    check_not_forked()
    devices = jax.local_devices()
    devices = devices[: 1 << (len(devices).bit_length() - 1)]
    return jax.make_mesh((len(devices),), ("data",), axis_types=(AxisType.Auto,), devices=devices)


def _source(config: ExtractConfig, encoder: Encoder, layers: tuple[int, ...]) -> StatesSource:
    text = encoder.family.modality == "text"
    return StatesSource(
        checkpoint=checkpoint_fingerprint(config.encoder.checkpoint, config.encoder.revision or None),
        model_type=encoder.config["model_type"],
        layers=layers,
        combine=config.states.combine,
        pooling=config.states.pooling,
        dtype=config.encoder.dtype,
        max_tokens=config.encoder.max_tokens if text else None,
        samples_per_frame=None if text else _samples_per_frame(encoder),
    )


def _samples_per_frame(encoder: Encoder) -> int:
    return math.prod(encoder.module.config.convolution.strides)


def _kept_states(
    encoder: Encoder,
    layers: tuple[int, ...],
    config: StatesConfig,
    params: Mapping[str, Any],
    inputs: jax.Array,
    lengths: jax.Array,
) -> tuple[jax.Array, jax.Array]:
    if isinstance(encoder.preprocess, WaveformPreprocess):
        inputs = encoder.preprocess(inputs.astype(jnp.float32) / 2**15, lengths)
    earlier = any(layer != encoder.num_layers for layer in layers)
    output: Any = encoder.module.apply({"params": params}, inputs, lengths, hidden_states=earlier)
    states = select_layers(output, layers, encoder.num_layers).astype(jnp.float32)
    if config.combine == "mean":
        states = states.mean(axis=2, keepdims=True)
    counts = output.mask.sum(axis=1)
    if config.pooling != "none":
        pooled = [pool(config.pooling, states[:, :, layer], output.mask) for layer in range(states.shape[2])]
        states, counts = jnp.stack(pooled, axis=1)[:, None], jnp.minimum(counts, 1)
    return states.astype(DTYPES[config.dtype]), counts
