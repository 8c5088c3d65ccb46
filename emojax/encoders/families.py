"""Encoder families: what one provides, and which one the `model_type` of a `config.json` selects.

A family is a module with a dict `FAMILIES` of the model types it defines, and their lines in `MODULES` here.
"""

import dataclasses
import importlib
from collections.abc import Callable, Mapping
from typing import Annotated, Any, Literal

import flax.linen as nn
import flax.struct
import jax.numpy as jnp

from emojax.encoders.inputs import InputAdapter
from emojax.encoders.layers import RematSaves
from emojax.encoders.parameters import AxesTable
from emojax.encoders.tensor_table import TensorTable
from emojax.errors import CheckpointError, ConfigError
from emojax.schema import Ge, Le, parse

MODULES: Mapping[str, str] = {
    "bert": "emojax.encoders.bert",
    "roberta": "emojax.encoders.bert",
    "data2vec-audio": "emojax.encoders.data2vec_audio",
    "distilbert": "emojax.encoders.distilbert",
    "hubert": "emojax.encoders.hubert",
    "wav2vec2": "emojax.encoders.hubert",
    "wavlm": "emojax.encoders.hubert",
    "whisper": "emojax.encoders.whisper",
    "xlm-roberta": "emojax.encoders.bert",
}
"""`model_type` -> module with its family; imported when a checkpoint needs it."""

Size = Annotated[int, Ge(1), Le(2**20)]
"""Channels, units, rows of a table."""

Width = Annotated[int, Ge(1), Le(2**16)]
"""D, the width of the hidden states."""

LayerCount = Annotated[int, Ge(1), Le(256)]
"""Transformer layers; the largest published encoders have 48."""

Rate = Annotated[float, Ge(0), Le(1)]
"""A probability."""


def check_heads(
    num_heads: int, width: int, heads_key: str = "num_attention_heads", width_key: str = "hidden_size"
) -> None:
    """Checks that the width is a multiple of the number of attention heads.

    Args:
      num_heads: attention heads.
      width: width of the hidden states.
      heads_key: key of `num_heads` in `config.json`.
      width_key: key of `width` in `config.json`.

    Raises:
      ConfigError: it is not.
    """
    if width % num_heads:
        raise ConfigError(f"{heads_key} must divide {width_key} ({width}), got {num_heads}")


@dataclasses.dataclass(frozen=True)
class ComputeOptions:
    """How a module computes, as opposed to what; results differ by rounding only.

    Attributes:
      dtype: type of the operands of matrix products, `float32` or `bfloat16`; sums, statistics (norms, softmax) and
        hidden states are float32, and parameters stay float32.
      remat: keep only the input of each layer, and `remat_saves`, for the backward pass and compute the rest again.
      scan_layers: one compiled layer, run by `nn.scan` over parameters stacked on a leading axis (shorter compilation).
      remat_saves: with `remat`, what is kept of each layer beside its input: key of `layers.REMAT_SAVES`.
    """

    dtype: Any = jnp.float32
    remat: bool = False
    scan_layers: bool = False
    remat_saves: RematSaves = "nothing"


@flax.struct.dataclass
class EncoderOutput:
    """Hidden states of one batch.

    The annotations stay open because JAX rebuilds this tree with leaves that are no arrays.

    Attributes:
      last_hidden_state: float32 (B, T, D), whatever the compute dtype; T counts frames (speech) or tokens (text).
      mask: bool (B, T), True on valid frames, which come first. Hidden states elsewhere are finite but meaningless.
      hidden_states: tuple of layers + 1 arrays (B, T, D), or None where not requested. The meaning is that of
        `output_hidden_states=True` in transformers: the input of the first layer, then the output of every layer. The
        last one equals `last_hidden_state`, except in speech models with `do_stable_layer_norm`, where it is the
        state before the final layer norm.
      pooled: float (B, D) of the family's own pooler, or None where it has none.
    """

    last_hidden_state: Any
    mask: Any
    hidden_states: tuple[Any, ...] | None = None
    pooled: Any = None


@dataclasses.dataclass(frozen=True)
class Family:
    """One `model_type` of `config.json`.

    Attributes:
      model_type: value in `config.json`.
      architecture: class name of the bare encoder in transformers, written to `config.json` on export.
      settings: class made by `emojax.schema.settings`: keys of `config.json` that are read, with types, bounds and
        allowed values.
      inputs: adapter class: waveforms or tokens.
      build_module: (config, names of the stored tensors after renames, options) -> module. Called as
        `module.apply({"params": params}, inputs, lengths, train=False, hidden_states=False, rngs={"dropout": key})`
        with float (B, S) or int (B, L) inputs and int (B,) lengths; returns an `EncoderOutput`. The names decide about
        optional parts (a pooler). `module.config` has at least `hidden_size` and `num_layers`.
      tensor_table: (config, scan_layers) -> table of published names and parameter paths.
      axes: logical axis names of the parameters.
      layers_key: key of `config.json` with the number of transformer layers.
      optional_names: names of optional tensors that published checkpoints usually have, for modules without weights.
    """

    model_type: str
    architecture: str
    settings: type
    inputs: type[InputAdapter]
    build_module: Callable[[Mapping[str, Any], frozenset[str], ComputeOptions], nn.Module]
    tensor_table: Callable[[Mapping[str, Any], bool], TensorTable]
    axes: AxesTable
    layers_key: str = "num_hidden_layers"
    optional_names: frozenset[str] = frozenset()

    @property
    def modality(self) -> Literal["speech", "text"]:
        """Kind of input."""
        return self.inputs.modality


def find_family(config: Mapping[str, Any]) -> Family | None:
    """Looks up the family of a `config.json` by its `model_type`; None where there is none."""
    model_type = config.get("model_type")
    if not isinstance(model_type, str) or model_type not in MODULES:
        return None
    family: Family = importlib.import_module(MODULES[model_type]).FAMILIES[model_type]
    return family


def family_of(config: Mapping[str, Any], label: str = "config.json") -> Family:
    """Looks up the family of a checkpoint and checks that its configuration is supported.

    Args:
      config: content of `config.json`.
      label: name of the file in error messages.

    Raises:
      CheckpointError: `model_type` is unknown, or a key has a value that is not supported.
    """
    family = find_family(config)
    if family is None:
        found = str(config.get("model_type"))[:100]
        raise CheckpointError(f"{label}: model_type must be one of {', '.join(sorted(MODULES))}, got {found!r}")
    parse_published(family.settings, config, label)
    return family


def keep_first_layers(config: Mapping[str, Any], count: int, label: str = "config.json") -> Mapping[str, Any]:
    """Changes a `config.json` to that of the encoder's first transformer layers.

    Args:
      config: checked content of `config.json`.
      count: layers to keep; 0: all.
      label: name of the file in error messages.

    Raises:
      CheckpointError: the encoder has fewer layers.
    """
    if not count:
        return config
    family = family_of(config, label)
    num_layers = getattr(parse_published(family.settings, config, label), family.layers_key)
    if count > num_layers:
        raise CheckpointError(f"{label}: keep_layers must be <= {num_layers}, got {count}")
    return {**config, family.layers_key: count}


def parse_published(settings: type[Any], config: Mapping[str, Any], label: str = "config.json") -> Any:
    """Reads a published `config.json` as settings; absent keys have their defaults, unknown ones are ignored.

    Args:
      settings: class made by `emojax.schema.settings`.
      config: content of `config.json`.
      label: name of the file in error messages.

    Raises:
      CheckpointError: naming the key, its value, and what is allowed.
    """
    return parse(settings, config, label, error=CheckpointError, unknown="ignore", missing="default")
