"""The encoders of a workdir: which are kept, how they are loaded, and what a model reads of a split."""

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import jax.numpy as jnp
from jax.sharding import Mesh

from emojax.data import BatchInputs, StoredInput
from emojax.encoders import ComputeOptions, Encoder, checkpoint_fingerprint, load_encoder, resolve_layers
from emojax.encoders.checkpoint_files import find_folder
from emojax.encoders.load import read_sizes
from emojax.errors import CheckpointError
from emojax.models import EmotionModelConfig, EncoderViewConfig
from emojax.parallel import first_decides, placed
from emojax.store import STATES, StatesSource, Store, array_of, source_of
from emojax.workdir.kept_encoders import (
    ENCODERS,
    EncoderSource,
    check_kept_encoder,
    keep_encoder,
    read_encoder_source,
)


def keep_encoders(workdir: Path, config: EmotionModelConfig) -> None:
    """Keeps the checkpoints a config names in the workdir, unless they are there.

    The first process alone looks at them. Weights are kept of encoders that compute in training; of those whose states
    are read from a store only where `keep_stored_encoders` says so.

    Raises:
      CheckpointError: a checkpoint cannot be loaded.
    """
    for view in config.encoder_views:
        settings: EncoderViewConfig = getattr(config, view)
        weights = config.keep_stored_encoders or not settings.store

        def keep(view: str = view, settings: EncoderViewConfig = settings, weights: bool = weights) -> None:
            folder = workdir / ENCODERS / view
            try:
                keep_encoder(folder, settings.checkpoint, settings.revision, _MODALITY[view], weights)
            except CheckpointError as error:
                raise CheckpointError(f"config.model.{view}.checkpoint: {error}") from error

        first_decides(keep, f"{workdir / ENCODERS / view}")


def load_encoders(workdir: Path, config: EmotionModelConfig, mesh: Mesh, online: tuple[str, ...]) -> dict[str, Encoder]:
    """Loads the workdir's encoders.

    Args:
      workdir: where `keep_encoders` put them.
      config: of the model.
      mesh: parameters are laid out over it as they arrive.
      online: views that compute; the others read a store, and get no parameters.

    Raises:
      CheckpointError: a file of an encoder was changed since it was kept; or its weights were not kept, and the
        checkpoint they come from is gone or another one now.
    """
    encoders = {}
    for view in config.encoder_views:
        settings: EncoderViewConfig = getattr(config, view)
        options = ComputeOptions(jnp.dtype(config.dtype), settings.remat, settings.scan_layers)
        folder = workdir / ENCODERS / view
        source = check_kept_encoder(folder, weights=view in online)
        if view in online and not source.has_weights:
            folder = _found_again(folder, source)
        encoders[view] = load_encoder(folder, options, place=placed(mesh), params=view in online)
    return encoders


def _found_again(folder: Path, source: EncoderSource) -> Path:
    """The checkpoint of an encoder that was kept without weights, if it is still the same."""
    place = f"{folder}: its weights were not kept, because training read its states from a store"
    try:
        found = find_folder(source.checkpoint, source.revision or None)
        fingerprint = checkpoint_fingerprint(found)
    except CheckpointError as error:
        raise CheckpointError(f"{place}; needed now is {source.checkpoint}: {error}") from error
    if fingerprint != source.fingerprint:
        raise CheckpointError(f"{place}; {source.checkpoint} is now another one (its SHA-256 differs)")
    return found


def batch_inputs(
    workdir: Path, config: EmotionModelConfig, corpus: str, split: str, max_tokens: int, online: tuple[str, ...]
) -> BatchInputs:
    """What a model reads of a split.

    Args:
      workdir: where its encoders are.
      config: of the model.
      corpus: TFDS name with config and version.
      split: its name.
      max_tokens: tokens of a transcript.
      online: encoder views that compute; the others read their store.

    Raises:
      CheckpointError: a store is absent, unfinished, or was made by another checkpoint, from another corpus, or with
        other layers.
    """
    stored = {
        view: _stored(workdir, view, getattr(config, view), corpus, split, max_tokens)
        for view in config.encoder_views
        if view not in online
    }
    heard = "log_mel" in config.views or "acoustic" in online
    tokenizer = str(workdir / ENCODERS / "lexical") if "lexical" in online else ""
    return BatchInputs(audio=heard, tokenizer=tokenizer, stored=stored)


def stored_views(config: EmotionModelConfig) -> tuple[str, ...]:
    """Encoder views whose states come from a store in training."""
    return tuple(view for view in config.encoder_views if getattr(config, view).store)


_MODALITY = {"acoustic": "speech", "lexical": "text"}


def _stored(
    workdir: Path, view: str, settings: EncoderViewConfig, corpus: str, split: str, max_tokens: int
) -> StoredInput:
    store = Store(Path(settings.store).expanduser())
    place = f"config.model.{view}.store: {settings.store}"
    made_with = source_of(store.facts, StatesSource, store.directory)
    folder = workdir / ENCODERS / view
    sizes = read_sizes(folder)
    wanted: Mapping[str, Any] = {
        "checkpoint": read_encoder_source(folder).fingerprint,
        "layers": resolve_layers(settings.layers, sizes.num_layers, f"config.model.{view}.layers"),
        "combine": "mean" if made_with.combine == settings.combine == "mean" else "stack",
        "max_tokens": max_tokens if view == "lexical" else None,
        "samples_per_frame": math.prod(sizes.convolution.strides) if view == "acoustic" else None,
    }
    if store.facts.corpus != corpus:
        raise CheckpointError(f"{place} was made from corpus {store.facts.corpus}, not {corpus}")
    for key, value in wanted.items():
        if getattr(made_with, key) != value:
            raise CheckpointError(f"{place} was made with {key} {getattr(made_with, key)!r}, not {value!r}")
    shape = array_of(store.facts, STATES, store.directory).shape
    if shape != (expected := made_with.row_shape(sizes.hidden_size)):
        raise CheckpointError(f"{place}: rows must have shape {expected} (layers, features), got {shape}")
    pooled = made_with.pooling != "none"
    network = settings.network
    if pooled and (network.gru_layers or network.conv_channels or network.pooling != "mean"):
        raise CheckpointError(
            f"{place} has one row per utterance; allowed: a network with gru_layers 0, conv_channels 0, pooling 'mean'"
        )
    rows: Literal["frames", "tokens", "utterance"] = (
        "utterance" if pooled else "tokens" if view == "lexical" else "frames"
    )
    return StoredInput(store.split(split), STATES, rows, made_with.samples_per_frame or 0)
