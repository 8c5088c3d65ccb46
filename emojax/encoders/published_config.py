"""Types and rules that the `config.json` of speech and text encoders have in common."""

from typing import Annotated

from emojax.errors import ConfigError
from emojax.schema import Ge, Le

Size = Annotated[int, Ge(1), Le(2**20)]
"""Channels, units, rows of a table."""

Width = Annotated[int, Ge(1), Le(2**16)]
"""D, the width of the hidden states."""

LayerCount = Annotated[int, Ge(1), Le(256)]
"""Transformer layers; the largest published encoders have 48."""

Rate = Annotated[float, Ge(0), Le(1)]
"""A probability."""


def check_heads(num_heads: int, width: int) -> None:
    """Checks that attention heads share the width evenly.

    Raises:
      ConfigError: they do not.
    """
    if width % num_heads:
        raise ConfigError(f"num_attention_heads must divide hidden_size ({width}), got {num_heads}")
