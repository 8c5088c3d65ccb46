"""A loaded encoder: module, parameters, input adapter; it encodes lists of waveforms or texts."""

import dataclasses
import functools
from collections.abc import Mapping, Sequence
from typing import Any, overload

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from emojax.encoders.families import EncoderOutput, Family, family_of
from emojax.encoders.inputs import InputAdapter
from emojax.encoders.parameters import logical_axes
from emojax.errors import ConfigError
from emojax.parallel import check_not_forked


@dataclasses.dataclass(frozen=True, eq=False)
class Encoder:
    """A published encoder.

    Attributes:
      module: `module.apply({"params": params}, inputs, lengths)` is a pure function that returns `EncoderOutput`.
      params: nested dict of float32 parameters.
      config: content of `config.json`.
      inputs: adapter that converts items to the module's inputs.
    """

    module: nn.Module
    params: Mapping[str, Any]
    config: Mapping[str, Any]
    inputs: InputAdapter

    @property
    def family(self) -> Family:
        """Family that `config` selects."""
        return family_of(self.config)

    @property
    def num_features(self) -> int:
        """D, the width of the hidden states."""
        return int(self.module.config.hidden_size)

    @property
    def num_layers(self) -> int:
        """Transformer layers; there is one more hidden state than layers."""
        return int(self.module.config.num_layers)

    @property
    def min_samples(self) -> int:
        """Fewest samples at 16 kHz that give one frame; 0 for a text encoder."""
        return self.inputs.min_samples

    def logical_axes(self) -> dict[str, Any]:
        """Makes a tree like `params` of logical axis names."""
        return logical_axes(self.params, self.family.axes)

    @overload
    def encode(self, items: np.ndarray | str, hidden_states: bool = False) -> np.ndarray: ...

    @overload
    def encode(
        self, items: list[np.ndarray] | list[str] | tuple[Any, ...], hidden_states: bool = False
    ) -> list[np.ndarray]: ...

    def encode(self, items: Any, hidden_states: bool = False) -> Any:
        """Computes the hidden states of recordings or texts; each result is that of the item alone.

        Items are padded to one of few lengths and computed together, so that few shapes are compiled.

        Args:
          items: one item, or a list or tuple of items: waveforms, float (S_i,), 16 kHz mono, full scale 1.0; for a
            text encoder, texts.
          hidden_states: return the hidden states of all layers.

        Returns:
          For one item float32 (T, D), or (layers + 1, T, D) with `hidden_states`; for several a list of those.

        Raises:
          AudioError: an item is not a mono floating-point waveform, has samples that are not finite or far above full
            scale, or is too short for one frame.
          CorpusError: an item is not a text or has more tokens than the encoder takes.
          EmojaxError: JAX cannot compute in this process (`check_not_forked`).
        """
        check_not_forked()
        single = not isinstance(items, (list, tuple))
        encoded = self._encode([items] if single else items, hidden_states)
        return encoded[0] if single else encoded

    def _encode(self, items: Sequence[Any], hidden_states: bool) -> list[np.ndarray]:
        sequences = self.inputs.prepare(items)
        encoded: list[np.ndarray] = [np.empty(0)] * len(sequences)
        for rows, inputs, lengths in self.inputs.batches(sequences):
            output = _apply(self.module, self.inputs, self.params, inputs, lengths, hidden_states)
            states = jnp.stack(output.hidden_states) if hidden_states else output.last_hidden_state
            host_states, num_valid = np.asarray(states, np.float32), np.asarray(output.mask).sum(axis=1)
            for row, index in enumerate(rows):
                # A copy, so that one item does not keep its whole batch in memory.
                encoded[index] = host_states[..., row, : num_valid[row], :].copy()
        return encoded


@functools.partial(jax.jit, static_argnums=(0, 1, 5))
def _apply(
    module: nn.Module,
    adapter: InputAdapter,
    params: Mapping[str, Any],
    inputs: Float[Array, "B S"] | Int[Array, "B L"],
    lengths: Int[Array, "B"],
    hidden_states: bool,
) -> EncoderOutput:
    inputs = adapter(inputs, lengths)
    output: Any = module.apply({"params": params}, inputs, lengths, hidden_states=hidden_states)
    return output


def resolve_layers(layers: Sequence[int], num_layers: int, field: str) -> tuple[int, ...]:
    """Converts layer numbers to 0 (input of the first layer), ..., `num_layers` (the encoder's last hidden states).

    Args:
      layers: numbers; negative ones count from the end (-1 is the last). (): all, from 0 to the last.
      num_layers: transformer layers of the encoder.
      field: config field with the numbers, for messages.

    Raises:
      ConfigError: one does not exist.
    """
    if not layers:
        return tuple(range(num_layers + 1))
    for layer in layers:
        if not -num_layers - 1 <= layer <= num_layers:
            raise ConfigError(f"{field} must be layer numbers, {-num_layers - 1} to {num_layers}, got {layer}")
    return tuple(layer % (num_layers + 1) for layer in layers)


def select_layers(output: EncoderOutput, layers: Sequence[int], num_layers: int) -> Float[Array, "B T L D"]:
    """Stacks the hidden states of the chosen layers.

    Number `num_layers` means `last_hidden_state`, which in encoders whose norms come first is after the final norm.

    Args:
      output: with `hidden_states`, unless only the last layer is chosen.
      layers: from `resolve_layers`.
      num_layers: transformer layers of the encoder.
    """
    chosen = []
    for layer in layers:
        if layer == num_layers:
            chosen.append(output.last_hidden_state)
        else:
            assert output.hidden_states is not None
            chosen.append(output.hidden_states[layer])
    return jnp.stack(chosen, axis=2)
