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
from emojax.encoders.logical_axes import Axes, parameter_axes
from emojax.encoders.preprocess import (
    TextPreprocess,
    WaveformPreprocess,
    read_text_preprocess,
    read_waveform_preprocess,
)
from emojax.encoders.registry import family_of
from emojax.encoders.tensor_table import convert, renamed_names
from emojax.files import read_json_object
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
      params: False leaves the parameters out (`{}`), for those who need only the module and its pre-processing.

    Raises:
      CheckpointError: the checkpoint is absent, damaged, of another kind, or does not fit its own `config.json`.
    """
    folder = find_folder(os.fspath(name_or_path), revision)
    config = read_json_object(folder / "config.json")
    family = family_of(config)
    file, stored = read_tensors(folder)
    table = family.tensor_table(config, options.scan_layers)
    module = family.build_module(config, renamed_names(stored, table), options)
    shapes = parameter_shapes(module, family)
    put = None
    if place is not None:
        put = lambda path, array: place(array, parameter_axes(path, array.ndim, family.axes))  # noqa: E731
    values = convert(stored, table, shapes, put, origin=str(file)) if params else {}
    return Encoder(module, values, config, _read_preprocess(folder, config, family, module))


def parameter_shapes(module: nn.Module, family: Family) -> Mapping[str, Any]:
    """Tree of shapes and dtypes of a module's parameters; nothing is computed."""
    if family.modality == "speech":
        inputs = jax.ShapeDtypeStruct((1, SAMPLE_RATE), jnp.float32)
    else:
        inputs = jax.ShapeDtypeStruct((1, 2), jnp.int32)
    lengths = jax.ShapeDtypeStruct((1,), jnp.int32)
    return jax.eval_shape(module.init, jax.random.key(0), inputs, lengths)["params"]


def _read_preprocess(
    folder: Path, config: Mapping[str, Any], family: Family, module: nn.Module
) -> WaveformPreprocess | TextPreprocess:
    if family.modality == "speech":
        return read_waveform_preprocess(folder)
    return read_text_preprocess(folder, config["vocab_size"], module.config.max_tokens)
