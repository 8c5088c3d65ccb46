"""Encoders of a workdir: which are kept, where, and how they are loaded."""

import contextlib
import dataclasses
import os
import shutil
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

import jax.numpy as jnp
from jax.sharding import Mesh

from emojax.data import BatchInputs, StoredInput
from emojax.encoders import ComputeOptions, Encoder, checkpoint_fingerprint, load_encoder, resolve_layers, save_encoder
from emojax.encoders.checkpoint_files import find_folder
from emojax.encoders.pretrained import read_sizes
from emojax.errors import CheckpointError, ConfigError
from emojax.feature_store import STATES, StatesSource, Store, array_of, source_of
from emojax.files import atomic_write, check_sha256, sha256_of, write_json
from emojax.models import EmotionModelConfig, EncoderInputConfig
from emojax.parallel import first_decides, placed
from emojax.schema import MaxLen, MinLen, read_settings, settings, to_tree

ENCODERS = "encoders"
"""Folder of a workdir with one folder per encoder modality."""

SHARED_FOLDER = "EMOJAX_ENCODERS"
"""Environment variable: where kept weights lie, in place of `.encoders` beside the workdirs."""

_SHARED, _SOURCE, _WEIGHTS = ".encoders", "source.json", "model.safetensors"
_STALE_SECONDS = 24 * 3600


@settings
class EncoderSource:
    """Content of `source.json`: where a kept encoder comes from, and what it consists of."""

    checkpoint: Annotated[str, "Folder or hub name it was kept from."]
    fingerprint: Annotated[str, MinLen(1), MaxLen(128), "SHA-256 of that checkpoint (`checkpoint_fingerprint`)."]
    revision: Annotated[str, "Branch, tag or commit on the hub; empty: the main branch."] = ""
    files: Annotated[Mapping[str, str], MaxLen(100), "SHA-256 by file name; empty in the first workdirs."] = (
        dataclasses.field(default_factory=dict)
    )

    def __post_init__(self):
        """Checks that files lie in the encoder's own folder.

        Raises:
          ConfigError: one does not.
        """
        for name in self.files:
            if Path(name).name != name:
                raise ConfigError(f"files must be names of files beside it, has {name[:100]!r}")

    @property
    def has_weights(self) -> bool:
        """Whether its weights are kept; the first workdirs always did."""
        return not self.files or _WEIGHTS in self.files


def read_encoder_source(folder: Path) -> EncoderSource:
    """Reads the `source.json` of a kept encoder.

    Raises:
      CheckpointError: it is absent or damaged.
    """
    return read_settings(EncoderSource, folder / _SOURCE, error=CheckpointError, unknown="ignore", missing="default")


def write_encoder_source(folder: Path, checkpoint: str, fingerprint: str, revision: str = "") -> None:
    """Notes where a kept encoder comes from, with digests of its files; that it is there says that it is complete."""
    files = {path.name: sha256_of(path) for path in sorted(folder.iterdir()) if _is_kept(path)}
    write_json(folder / _SOURCE, to_tree(EncoderSource(checkpoint, fingerprint, revision, files)))


def keep_encoder(folder: Path, checkpoint: str, revision: str, modality: str, weights: bool) -> None:
    """Keeps a checkpoint in a folder of a workdir, unless it is there.

    Args:
      folder: `WORKDIR/encoders/VIEW`.
      checkpoint: folder or hub name.
      revision: branch, tag or commit on the hub; "" for the main branch.
      modality: what the encoder must read, `speech` or `text`.
      weights: whether its weights are needed; without them nothing but its settings is loaded.

    Raises:
      CheckpointError: the checkpoint cannot be read, is of another modality, or is not the one that was kept.
    """
    kept = read_encoder_source(folder) if (folder / _SOURCE).exists() else None
    if kept and (kept.has_weights or not weights):
        return
    found = find_folder(checkpoint, revision or None)
    described = load_encoder(found, params=False)
    if described.family.modality != modality:
        raise CheckpointError(
            f"{checkpoint}: must be a {modality} encoder, is a {described.family.modality} encoder "
            f"({described.family.model_type})"
        )
    fingerprint = checkpoint_fingerprint(found)
    if kept and kept.fingerprint != fingerprint:
        raise CheckpointError(f"{folder}: was kept from another version of {checkpoint}")
    if not weights:
        save_encoder(described, folder, weights=False)
    elif (shared := _shared_folder(folder)) is None:
        save_encoder(load_encoder(found), folder)
    else:
        _share(found, shared / fingerprint)
        _link(shared / fingerprint, folder)
    write_encoder_source(folder, checkpoint, fingerprint, revision)


def check_kept_encoder(folder: Path, weights: bool) -> EncoderSource:
    """Compares the files of a kept encoder with the digests that were written with them.

    Args:
      folder: `WORKDIR/encoders/VIEW`.
      weights: whether the weights are compared, too.

    Raises:
      CheckpointError: one is absent or was changed.
    """
    source = read_encoder_source(folder)
    for name, digest in source.files.items():
        if weights or name != _WEIGHTS:
            check_sha256(folder / name, digest, f"delete {folder}; training then keeps {source.checkpoint} anew")
    return source


def _is_kept(path: Path) -> bool:
    return path.is_file() and path.name != _SOURCE and not path.name.startswith(".")


def _shared_folder(folder: Path) -> Path | None:
    """Where weights are kept once; None where nothing can be written there."""
    named = os.environ.get(SHARED_FOLDER)
    shared = Path(named).expanduser() if named else folder.resolve().parents[2] / _SHARED
    try:
        shared.mkdir(parents=True, exist_ok=True)
        for left in shared.glob(".*.tmp"):  # of a process that was killed
            if time.time() - left.stat().st_mtime > _STALE_SECONDS:
                shutil.rmtree(left, ignore_errors=True)
    except OSError:
        return None
    return shared if os.access(shared, os.W_OK) else None


def _share(checkpoint: Path, target: Path) -> None:
    """Converts a checkpoint into a shared folder, unless it is there intact."""
    try:
        check_kept_encoder(target, weights=True)
        return
    except CheckpointError:
        shutil.rmtree(target, ignore_errors=True)
    temporary = target.with_name(f".{target.name}.{os.getpid()}.tmp")
    try:
        save_encoder(load_encoder(checkpoint), temporary)
        write_encoder_source(temporary, str(checkpoint), target.name)
        with contextlib.suppress(OSError):  # another process was faster
            temporary.rename(target)
        check_kept_encoder(target, weights=False)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def _link(shared: Path, folder: Path) -> None:
    """Links the weights of a shared encoder into a workdir, and copies its small files."""
    folder.mkdir(parents=True, exist_ok=True)
    for path in sorted(shared.iterdir()):
        target = folder / path.name
        if not _is_kept(path):
            continue
        target.unlink(missing_ok=True)
        if path.name == _WEIGHTS:
            with contextlib.suppress(OSError):  # another file system, or one without hard links
                os.link(path, target)
                continue
        with atomic_write(target) as temporary:
            shutil.copyfile(path, temporary)


def keep_encoders(workdir: Path, config: EmotionModelConfig) -> None:
    """Keeps the checkpoints a config names in the workdir, unless they are there.

    The first process alone looks at them. Weights are kept of encoders that compute in training; of those whose states
    are read from a store only where `keep_stored_encoders` says so.

    Raises:
      CheckpointError: a checkpoint cannot be loaded.
    """
    for modality in config.encoder_modalities:
        settings: EncoderInputConfig = getattr(config, modality)
        weights = config.keep_stored_encoders or not settings.store

        def keep(modality: str = modality, settings: EncoderInputConfig = settings, weights: bool = weights) -> None:
            folder = workdir / ENCODERS / modality
            try:
                keep_encoder(folder, settings.checkpoint, settings.revision, _MODALITY[modality], weights)
            except CheckpointError as error:
                raise CheckpointError(f"config.model.{modality}.checkpoint: {error}") from error

        first_decides(keep, f"{workdir / ENCODERS / modality}")


def load_encoders(workdir: Path, config: EmotionModelConfig, mesh: Mesh, online: tuple[str, ...]) -> dict[str, Encoder]:
    """Loads the workdir's encoders.

    Args:
      workdir: where `keep_encoders` put them.
      config: of the model.
      mesh: parameters are laid out over it as they arrive.
      online: modalities that compute; the others read a store, and get no parameters.

    Raises:
      CheckpointError: a file of an encoder was changed since it was kept; or its weights were not kept, and the
        checkpoint they come from is gone or another one now.
    """
    encoders = {}
    for modality in config.encoder_modalities:
        settings: EncoderInputConfig = getattr(config, modality)
        options = ComputeOptions(jnp.dtype(config.dtype), settings.remat, settings.scan_layers)
        folder = workdir / ENCODERS / modality
        source = check_kept_encoder(folder, weights=modality in online)
        if modality in online and not source.has_weights:
            folder = _found_again(folder, source)
        encoders[modality] = load_encoder(folder, options, to_device=placed(mesh), params=modality in online)
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
      online: encoder modalities that compute; the others read their store.

    Raises:
      CheckpointError: a store is absent, unfinished, or was made by another checkpoint, from another corpus, or with
        other layers.
    """
    stored = {
        modality: _stored(workdir, modality, getattr(config, modality), corpus, split, max_tokens)
        for modality in config.encoder_modalities
        if modality not in online
    }
    heard = "log_mel" in config.modalities or "acoustic" in online
    tokenizer = str(workdir / ENCODERS / "lexical") if "lexical" in online else ""
    return BatchInputs(audio=heard, tokenizer=tokenizer, stored=stored)


def stored_modalities(config: EmotionModelConfig) -> tuple[str, ...]:
    """Encoder modalities whose states come from a store in training."""
    return tuple(modality for modality in config.encoder_modalities if getattr(config, modality).store)


_MODALITY = {"acoustic": "speech", "lexical": "text"}


def _stored(
    workdir: Path, modality: str, settings: EncoderInputConfig, corpus: str, split: str, max_tokens: int
) -> StoredInput:
    store = Store(Path(settings.store).expanduser())
    place = f"config.model.{modality}.store: {settings.store}"
    made_with = source_of(store.metadata, StatesSource, store.directory)
    folder = workdir / ENCODERS / modality
    sizes, family = read_sizes(folder)
    wanted: Mapping[str, Any] = {
        "checkpoint": read_encoder_source(folder).fingerprint,
        "layers": resolve_layers(settings.layers, sizes.num_layers, f"config.model.{modality}.layers"),
        "combine": "mean" if made_with.combine == settings.combine == "mean" else "stack",
        **family.inputs.resolution(sizes, max_tokens),
    }
    if store.metadata.corpus != corpus:
        raise CheckpointError(f"{place} was made from corpus {store.metadata.corpus}, not {corpus}")
    for key, value in wanted.items():
        if getattr(made_with, key) != value:
            raise CheckpointError(f"{place} was made with {key} {getattr(made_with, key)!r}, not {value!r}")
    shape = array_of(store.metadata, STATES, store.directory).shape
    if shape != (expected := made_with.row_shape(sizes.hidden_size)):
        raise CheckpointError(f"{place}: rows must have shape {expected} (layers, features), got {shape}")
    pooled = made_with.pooling != "none"
    network = settings.network
    if pooled and (network.gru_layers or network.conv_channels or network.pooling != "mean"):
        raise CheckpointError(
            f"{place} has one row per utterance; allowed: a network with gru_layers 0, conv_channels 0, pooling 'mean'"
        )
    rows: Literal["frames", "tokens", "utterance"] = (
        "utterance" if pooled else "tokens" if modality == "lexical" else "frames"
    )
    return StoredInput(store.split(split), STATES, rows, made_with.samples_per_frame or 0)
