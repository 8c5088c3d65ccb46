"""Hidden states of an encoder and the choice of layers among them."""

from collections.abc import Sequence
from typing import Any

import flax.struct
import jax.numpy as jnp
from jaxtyping import Array, Float

from emojax.errors import ConfigError


@flax.struct.dataclass
class EncoderOutput:
    """States of one batch. The annotations stay open because JAX rebuilds this tree with leaves that are no arrays.

    Attributes:
      last_hidden_state: float32 (B, T, D), whatever the compute dtype; T counts frames (speech) or tokens (text).
      mask: bool (B, T), True on valid frames; valid frames come first. States where it is False are finite but void.
      hidden_states: tuple of layers + 1 arrays (B, T, D), or None when not asked for. The meaning is that of
        `output_hidden_states=True` in transformers: the input of the first layer, then the output of every layer. The
        last one equals `last_hidden_state`, but for speech models with `do_stable_layer_norm`, where it is the state
        before the final layer norm.
      pooled: float (B, D) of the family's own pooler, or None where it has none.
    """

    last_hidden_state: Any
    mask: Any
    hidden_states: tuple[Any, ...] | None = None
    pooled: Any = None


def resolve_layers(layers: Sequence[int], num_layers: int, field: str) -> tuple[int, ...]:
    """Layer numbers counted from 0, the input of the first layer, to `num_layers`, the encoder's last states.

    Args:
      layers: numbers; negative ones count from the end (-1 is the last).
      num_layers: transformer layers of the encoder.
      field: config field they come from, for messages.

    Raises:
      ConfigError: none, or one that does not exist.
    """
    if not layers:
        raise ConfigError(f"{field}: () is not allowed; allowed: layer numbers, 0 to {num_layers} or negative")
    for layer in layers:
        if not -num_layers - 1 <= layer <= num_layers:
            raise ConfigError(f"{field}: {layer} is not allowed; allowed: {-num_layers - 1} to {num_layers}")
    return tuple(layer % (num_layers + 1) for layer in layers)


def select_layers(output: EncoderOutput, layers: Sequence[int], num_layers: int) -> Float[Array, "B T L D"]:
    """States of the chosen layers, side by side.

    Number `num_layers` means `last_hidden_state`, which in encoders whose norms come first is after the final norm.

    Args:
      output: with `hidden_states`, unless only the last layer is wanted.
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
