"""Chooses states of an encoder by layer number."""

from collections.abc import Sequence

import jax.numpy as jnp
from jaxtyping import Array, Float

from emojax.encoders.encoder_output import EncoderOutput
from emojax.errors import ConfigError


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
