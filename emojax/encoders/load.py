"""Loads a published encoder: files -> configuration -> module -> parameters."""

import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from emojax.encoders.checkpoint_files import find_folder, read_tensors
from emojax.encoders.encoder import Encoder
from emojax.encoders.family import ComputeOptions, Family
from emojax.encoders.parameters import Axes, parameter_axes
from emojax.encoders.preprocess import (
    TextPreprocess,
    WaveformPreprocess,
    read_text_preprocess,
    read_waveform_preprocess,
)
from emojax.encoders.registry import family_of
from emojax.encoders.tensor_table import check_layers, convert, renamed_names
from emojax.encoders.weight_files import StoredTensor
from emojax.files import read_json_object
from emojax.parallel import check_not_forked
from emojax.types import SAMPLE_RATE

_DEFAULT_OPTIONS = ComputeOptions()


def load_encoder(
    name_or_path: str | os.PathLike[str],
    options: ComputeOptions = _DEFAULT_OPTIONS,
    *,
    revision: str | None = None,
    place: Callable[[np.ndarray, Axes], jax.Array] | None = None,
    params: bool = True,
) -> Encoder:
    """Loads HuBERT, wav2vec 2.0, WavLM, BERT or RoBERTa, as published or as a task checkpoint whose head is left out.

    Parameters are float32. They are read one tensor at a time; beside them no more than one further copy of the largest
    one exists (`pytorch_model.bin` lies in a memory map beside that).

    Args:
      name_or_path: a folder, or a name on the Hugging Face hub, looked up in the cache when offline.
      options: how the module computes.
      revision: branch, tag or commit on the hub; the main branch if not given.
      place: puts the values of a parameter, given the logical names of its axes, on its device(s), e.g. with a
        sharding; default: the default device.
      params: False leaves the parameters out (`{}`), for those who need only the module and its pre-processing; the
        folder then needs no weights.

    Raises:
      CheckpointError: the checkpoint is absent, damaged, of another kind, or does not fit its own `config.json`.
    """
    check_not_forked()
    folder = find_folder(os.fspath(name_or_path), revision)
    config, family = read_config(folder)
    if not params:
        module = family.build_module(config, frozenset(), options)
        return Encoder(module, {}, config, _read_preprocess(folder, family, module))
    file, stored = read_tensors(folder)
    put = None
    if place is not None:
        put = lambda path, array: place(array, parameter_axes(path, array.ndim, family.axes))  # noqa: E731
    module, values = read_parameters(config, stored, options, put, origin=str(file))
    return Encoder(module, values, config, _read_preprocess(folder, family, module))


def read_config(folder: Path) -> tuple[dict[str, Any], Family]:
    """The checked content of a checkpoint's `config.json`, and its family.

    Raises:
      CheckpointError: it is absent, damaged, or asks for something that is not computed.
    """
    file = folder / "config.json"
    config = read_json_object(file)
    return config, family_of(config, str(file))


def read_sizes(folder: Path) -> Any:
    """Reads the sizes of a checkpoint (`SpeechEncoderConfig`, `TextTransformerConfig`) from its `config.json` alone.

    Raises:
      CheckpointError: as `read_config`.
    """
    config, family = read_config(folder)
    module: Any = family.build_module(config, frozenset(), _DEFAULT_OPTIONS)
    return module.config


def read_parameters(
    config: Mapping[str, Any],
    stored: Mapping[str, StoredTensor],
    options: ComputeOptions,
    place: Callable[[str, np.ndarray], jax.Array] | None,
    origin: str,
) -> tuple[nn.Module, dict[str, Any]]:
    """Module and parameters of an encoder.

    Args:
      config: checked content of `config.json`.
      stored: tensors by published name.
      options: how the module computes.
      place: puts the values of a parameter, given its path, on its device(s).
      origin: what to call the tensors in errors.

    Raises:
      CheckpointError: they do not fit the configuration. Its size is compared with theirs before anything is built.
    """
    family = family_of(config)
    table = family.tensor_table(config, options.scan_layers)
    names = renamed_names(stored, table)
    module = family.build_module(config, names, options)
    check_layers(names, table, module.config.num_layers, origin)
    return module, convert(stored, table, parameter_shapes(module, family), place, origin=origin)


def parameter_shapes(module: nn.Module, family: Family) -> Mapping[str, Any]:
    """Tree of shapes and dtypes of a module's parameters; nothing is computed."""
    if family.modality == "speech":
        inputs = jax.ShapeDtypeStruct((1, SAMPLE_RATE), jnp.float32)
    else:
        inputs = jax.ShapeDtypeStruct((1, 2), jnp.int32)
    lengths = jax.ShapeDtypeStruct((1,), jnp.int32)
    return jax.eval_shape(module.init, jax.random.key(0), inputs, lengths)["params"]


def _read_preprocess(folder: Path, family: Family, module: nn.Module) -> WaveformPreprocess | TextPreprocess:
    if family.modality == "speech":
        return read_waveform_preprocess(folder)
    return read_text_preprocess(folder, module.config.vocab_size, module.config.max_tokens)
