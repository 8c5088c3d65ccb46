"""What every encoder module returns, speech and text alike."""

from typing import Any

import flax.struct


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
