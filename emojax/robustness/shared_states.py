"""Hidden states of a frozen speech encoder, computed once per batch for all models that have it."""

import functools
import hashlib
import json
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh

from emojax.encoders import resolve_layers, select_layers
from emojax.models import EncoderInputConfig, EncoderPart, pool_layers
from emojax.parallel import to_host, with_mesh
from emojax.robustness.degrade import ClipBatch
from emojax.types import StoredRows
from emojax.workdir import TrainedModel

_MODALITY = "acoustic"


def states_key(trained: TrainedModel) -> str:
    """Digest of everything that the hidden states of a model's speech encoder depend on; "" if it is not frozen.

    Args:
      trained: model whose encoder is computed from the waveform, if it has one.
    """
    if _MODALITY not in trained.online or trained.config.model.acoustic.train != "nothing":
        return ""
    config = trained.config.model.acoustic
    part = trained.model.encoders[_MODALITY]
    settings = (resolve_layers(config.layers, part.num_layers, "layers"), config.pooling, repr(part.module))
    digest = hashlib.sha256(json.dumps(settings).encode())
    for path, leaf in jax.tree_util.tree_leaves_with_path(trained.variables["params"][_MODALITY]["encoder"]):
        digest.update(jax.tree_util.keystr(path).encode() + np.ascontiguousarray(to_host(leaf)).tobytes())
    return digest.hexdigest()


class SharedStates:
    """Computes the hidden states of batches and keeps those of the last batch of each encoder."""

    def __init__(self, mesh: Mesh):
        """Computes nothing yet; batches are sharded over the mesh."""
        self._mesh = mesh
        self._compute: dict[str, Any] = {}
        self._last: dict[str, tuple[ClipBatch, StoredRows]] = {}

    def __call__(self, key: str, trained: TrainedModel, batch: ClipBatch) -> dict[str, StoredRows]:
        """Hidden states as a feature store would have them, by modality.

        Args:
          key: result of `states_key`, not empty.
          trained: model with the encoder, whose utterances are not divided into windows.
          batch: clips.
        """
        known = self._last.get(key)
        if known is None or known[0] is not batch:
            if key not in self._compute:
                part = trained.model.encoders[_MODALITY]
                function = functools.partial(_states, trained.config.model.acoustic, part)
                self._compute[key] = jax.jit(with_mesh(function, self._mesh))
            params = trained.variables["params"][_MODALITY]["encoder"]
            states = self._compute[key](params, batch.waveform, jnp.asarray(batch.num_samples))
            known = self._last[key] = (batch, states)
        return {_MODALITY: known[1]}


def _states(
    config: EncoderInputConfig, part: EncoderPart, params: Any, waveform: jax.Array, num_samples: jax.Array
) -> StoredRows:
    inputs = part.inputs(waveform, num_samples)
    output: Any = part.module.apply({"params": params}, inputs, num_samples, train=False, hidden_states=True)
    layers = resolve_layers(config.layers, part.num_layers, "layers")
    states, mask = select_layers(output, layers, part.num_layers), output.mask
    if config.pooling != "none":
        states, mask = pool_layers(config.pooling, states, mask)
    return StoredRows(states, mask.sum(axis=1, dtype=jnp.int32))
