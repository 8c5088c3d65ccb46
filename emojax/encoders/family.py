"""What defines an encoder family, and how its published config is read."""

import dataclasses
from collections.abc import Callable, Mapping
from typing import Annotated, Any, Literal

import flax.linen as nn
import jax.numpy as jnp

from emojax.encoders.tensor_table import TensorTable
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


@dataclasses.dataclass(frozen=True)
class ComputeOptions:
    """How a module computes, as opposed to what; results differ by rounding only.

    Attributes:
      dtype: type of the operands of matrix products, `float32` or `bfloat16`; sums, statistics (norms, softmax) and
        states are float32, and parameters stay float32.
      remat: keep only the input of each layer for the backward pass and compute the rest again.
      scan_layers: one compiled layer, run by `nn.scan` over parameters stacked on a leading axis (shorter compilation).
    """

    dtype: Any = jnp.float32
    remat: bool = False
    scan_layers: bool = False


@dataclasses.dataclass(frozen=True)
class Family:
    """One `model_type` of `config.json`.

    Attributes:
      model_type: as in `config.json`.
      modality: decides the pre-processing: waveforms or tokens.
      architecture: class name of the bare encoder in transformers, written to `config.json` on export.
      build_module: (config, names of the stored tensors after renames, options) -> module. Called as
        `module.apply({"params": params}, inputs, lengths, train=False, hidden_states=False, rngs={"dropout": key})`
        with waveform float (B, S) and num_samples int (B,), or tokens int (B, L) and num_tokens int (B,); returns
        an `EncoderOutput`. The names decide about optional parts (a pooler). The options are fields of the module.
      tensor_table: (config, scan_layers) -> table of published names and parameter paths.
      axes: (regular expression on the whole parameter path, one logical axis name or None per dimension).
      settings: made by `emojax.schema.settings`; what is read of `config.json`, with types, bounds and allowed values.
    """

    model_type: str
    modality: Literal["speech", "text"]
    architecture: str
    build_module: Callable[[Mapping[str, Any], frozenset[str], ComputeOptions], nn.Module]
    tensor_table: Callable[[Mapping[str, Any], bool], TensorTable]
    axes: tuple[tuple[str, tuple[str | None, ...]], ...]
    settings: type
