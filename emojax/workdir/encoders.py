"""The encoders of a workdir: kept beside its checkpoints once, so that the workdir alone is the whole model."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import jax.numpy as jnp
from jax.sharding import Mesh

from emojax.data import BatchInputs, StoredInput
from emojax.encoders import ComputeOptions, Encoder, checkpoint_fingerprint, load_encoder, resolve_layers, save_encoder
from emojax.errors import CheckpointError
from emojax.models import EmotionModelConfig, EncoderViewConfig
from emojax.parallel import is_first, placed, wait_for_all
from emojax.store import Store
from emojax.workdir.files import read_json, write_json

ENCODERS = "encoders"
"""Folder with one folder per encoder view, each a checkpoint that transformers can read."""

_SOURCE = "source.json"


def keep_encoders(workdir: Path, config: EmotionModelConfig) -> None:
    """Copies the checkpoints a config names into the workdir, unless they are there.

    Raises:
      CheckpointError: a checkpoint cannot be loaded.
    """
    for view in config.encoder_views:
        folder = workdir / ENCODERS / view
        if (folder / _SOURCE).exists():
            continue
        settings: EncoderViewConfig = getattr(config, view)
        revision = settings.revision or None
        encoder = load_encoder(settings.checkpoint, revision=revision)
        if encoder.family.modality != _MODALITY[view]:
            raise CheckpointError(
                f"config.model.{view}.checkpoint: {settings.checkpoint!r} is a {encoder.family.modality} encoder; "
                f"allowed: a {_MODALITY[view]} encoder"
            )
        if is_first():
            save_encoder(encoder, folder)
            fingerprint = checkpoint_fingerprint(settings.checkpoint, revision)
            write_encoder_source(workdir, view, settings.checkpoint, fingerprint)
    wait_for_all(f"{workdir} has its encoders")


def write_encoder_source(workdir: Path, view: str, checkpoint: str, fingerprint: str) -> None:
    """Notes where a kept encoder comes from; that it is there says that the copy is complete."""
    write_json(workdir / ENCODERS / view / _SOURCE, {"checkpoint": checkpoint, "fingerprint": fingerprint})


def load_encoders(workdir: Path, config: EmotionModelConfig, mesh: Mesh, online: tuple[str, ...]) -> dict[str, Encoder]:
    """Loads the workdir's encoders.

    Args:
      workdir: where `keep_encoders` put them.
      config: of the model.
      mesh: parameters are laid out over it as they arrive.
      online: views that compute; the others read a store, and get no parameters.
    """
    encoders = {}
    for view in config.encoder_views:
        settings: EncoderViewConfig = getattr(config, view)
        options = ComputeOptions(jnp.dtype(config.dtype), settings.remat, settings.scan_layers)
        encoders[view] = load_encoder(workdir / ENCODERS / view, options, place=placed(mesh), params=view in online)
    return encoders


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
    made_with = store.facts.source
    wanted: Mapping[str, Any] = {
        "checkpoint": read_json(workdir / ENCODERS / view / _SOURCE)["fingerprint"],
        "layers": list(_resolved(workdir, view, settings)),
        "combine": "mean" if made_with.get("combine") == "mean" and settings.combine == "mean" else "stack",
    }
    if "max_tokens" in made_with:
        wanted = {**wanted, "max_tokens": max_tokens}
    if store.facts.corpus != corpus:
        raise CheckpointError(f"{place} was made from corpus {store.facts.corpus}, not {corpus}")
    for key, value in wanted.items():
        if made_with.get(key) != value:
            raise CheckpointError(f"{place} was made with {key} {made_with.get(key)!r}, not {value!r}")
    pooled = made_with.get("pooling") != "none"
    network = settings.network
    if pooled and (network.gru_layers or network.conv_channels or network.pooling != "mean"):
        raise CheckpointError(
            f"{place} has one row per utterance; allowed: a network with gru_layers 0, conv_channels 0, pooling 'mean'"
        )
    rows: Literal["frames", "tokens", "utterance"] = (
        "utterance" if pooled else "tokens" if "max_tokens" in made_with else "frames"
    )
    return StoredInput(store.split(split), "states", rows, made_with.get("samples_per_frame", 0))


def _resolved(workdir: Path, view: str, settings: EncoderViewConfig) -> tuple[int, ...]:
    num_layers = read_json(workdir / ENCODERS / view / "config.json")["num_hidden_layers"]
    return resolve_layers(settings.layers, num_layers, f"config.model.{view}.layers")
