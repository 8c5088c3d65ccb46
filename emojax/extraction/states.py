"""Which utterances form a batch of an extraction, and the states computed of them."""

import functools
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec
from jaxtyping import Int

from emojax.encoders import Encoder, resolve_layers, select_layers
from emojax.extraction.config import StatesConfig
from emojax.feature_store import DTYPES, STATES, ArraySpec
from emojax.models.pooling import pool
from emojax.types import SAMPLE_RATE

_SHARD_BYTES = 64 * 2**20
"""Of states: what a shard holds in memory until it is written."""

_SHARD_SAMPLES = 20 * 60 * SAMPLE_RATE
"""Of audio to compute: what a kill can cost."""

_SHARD_UTTERANCES = 2048


def shard_bounds(num_samples: Int[np.ndarray, "N"], num_bytes: Int[np.ndarray, "N"], audio: bool) -> tuple[int, ...]:
    """First utterance of each shard, and N.

    Args:
      num_samples: length of each utterance.
      num_bytes: most that is stored of each.
      audio: whether the encoder hears the audio, which bounds a shard's duration too.
    """
    heard = num_samples if audio else np.zeros_like(num_samples)
    bounds, size, samples = [0], 0, 0
    for position, (more_size, more_samples) in enumerate(zip(num_bytes.tolist(), heard.tolist(), strict=True)):
        full = position - bounds[-1] == _SHARD_UTTERANCES
        if position > bounds[-1] and (
            full or size + more_size > _SHARD_BYTES or samples + more_samples > _SHARD_SAMPLES
        ):
            bounds.append(position)
            size = samples = 0
        size, samples = size + more_size, samples + more_samples
    return (*bounds, len(num_samples))


class StateComputer:
    """Computes the kept states of padded batches, rows divided over this host's devices."""

    def __init__(self, encoder: Encoder, config: StatesConfig, mesh: Mesh):
        """Compiles nothing yet.

        Raises:
          ConfigError: a layer does not exist.
        """
        self.layers = resolve_layers(config.layers, encoder.num_layers, "config.states.layers")
        width = encoder.num_features * (2 if config.pooling == "statistics" else 1)
        self.spec = ArraySpec(STATES, config.dtype, (1 if config.combine == "mean" else len(self.layers), width))
        self.num_devices = mesh.size
        self._rows = NamedSharding(mesh, PartitionSpec(mesh.axis_names))
        self._compute = jax.jit(functools.partial(_kept_states, encoder, self.layers, config))
        self._params = encoder.params

    def __call__(self, inputs: np.ndarray, lengths: np.ndarray) -> tuple[jax.Array, jax.Array]:
        """Starts the computation of one batch.

        Args:
          inputs: waveforms int16 (B, S) or tokens int32 (B, L).
          lengths: valid ones per row.

        Returns:
          States (B, T, L, D) in the stored type, and how many of the T are valid (B,).
        """
        return self._compute(self._params, *jax.device_put((inputs, lengths), self._rows))


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
        pooled = [pool(config.pooling, states[:, :, layer], output.mask) for layer in range(states.shape[2])]
        states, counts = jnp.stack(pooled, axis=1)[:, None], jnp.minimum(counts, 1)
    return states.astype(DTYPES[config.dtype]), counts
