"""Pre-trained encoders of a workdir: saving, sharing between workdirs, verification and loading."""

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
from emojax.data.transcripts import find_transcripts
from emojax.encoders import ComputeOptions, Encoder, checkpoint_fingerprint, load_encoder, resolve_layers, save_encoder
from emojax.encoders.checkpoint_files import find_folder
from emojax.encoders.pretrained import read_sizes
from emojax.encoders.whisper_encoder import padded_encoder
from emojax.errors import CheckpointError, ConfigError
from emojax.feature_store import STATES, StatesSource, Store, parse_source, single_array
from emojax.files import atomic_write, check_sha256, sha256_of, write_json
from emojax.models import EmotionModelConfig, EncoderInputConfig
from emojax.models.encoder_input import AcousticInputConfig
from emojax.parallel import device_put_fn, run_on_first_process
from emojax.schema import MaxLen, MinLen, read_settings, settings, to_tree

ENCODERS = "encoders"
"""Folder of a workdir with one folder per encoder modality."""

SHARED_FOLDER = "EMOJAX_ENCODERS"
"""Environment variable: folder of shared weights, instead of `.encoders` beside the workdirs."""

_SHARED, _SOURCE, _WEIGHTS = ".encoders", "source.json", "model.safetensors"
_STALE_SECONDS = 24 * 3600


@settings
class EncoderSource:
    """Content of `source.json`: origin and files of a saved encoder."""

    checkpoint: Annotated[str, "Folder or hub name of the checkpoint."]
    fingerprint: Annotated[str, MinLen(1), MaxLen(128), "SHA-256 of the checkpoint (`checkpoint_fingerprint`)."]
    revision: Annotated[str, "Branch, tag or commit on the hub; empty: the main branch."] = ""
    files: Annotated[Mapping[str, str], MaxLen(100), "SHA-256 by file name; empty in the first workdirs."] = (
        dataclasses.field(default_factory=dict)
    )

    def __post_init__(self):
        """Checks that all files are in the encoder's folder.

        Raises:
          ConfigError: a name contains a folder.
        """
        for name in self.files:
            if Path(name).name != name:
                raise ConfigError(f"files must be names without folders, got {name[:100]!r}")

    @property
    def has_weights(self) -> bool:
        """Whether the weights are saved, as in all workdirs without a list of files."""
        return not self.files or _WEIGHTS in self.files


def read_encoder_source(folder: Path) -> EncoderSource:
    """Reads the `source.json` of a saved encoder.

    Raises:
      CheckpointError: the file is missing or damaged.
    """
    return read_settings(EncoderSource, folder / _SOURCE, error=CheckpointError, unknown="ignore", missing="default")


def write_encoder_source(folder: Path, checkpoint: str, fingerprint: str, revision: str = "") -> None:
    """Writes `source.json` with the digests of the encoder's files; its presence marks the encoder as complete."""
    files = {path.name: sha256_of(path) for path in sorted(folder.iterdir()) if _is_encoder_file(path)}
    write_json(folder / _SOURCE, to_tree(EncoderSource(checkpoint, fingerprint, revision, files)))


def keep_encoder(
    folder: Path, checkpoint: str, revision: str, modality: str, weights: bool, keep_layers: int = 0
) -> None:
    """Saves an encoder in a workdir, unless it is there.

    Args:
      folder: `WORKDIR/encoders/MODALITY`.
      checkpoint: folder or hub name.
      revision: branch, tag or commit on the hub; "" for the main branch.
      modality: required modality of the encoder, `speech` or `text`.
      weights: whether to save the weights; otherwise only config and pre-processing are saved.
      keep_layers: transformer layers that are saved, counted from the input; 0: all.

    Raises:
      CheckpointError: the checkpoint cannot be read, is of another modality, or differs from the one saved earlier.
    """
    saved = read_encoder_source(folder) if (folder / _SOURCE).exists() else None
    if saved and (saved.has_weights or not weights):
        return
    source_folder = find_folder(checkpoint, revision or None)
    encoder = load_encoder(source_folder, params=False, keep_layers=keep_layers)
    if encoder.family.modality != modality:
        raise CheckpointError(
            f"{checkpoint}: must be a {modality} encoder, got a {encoder.family.modality} encoder "
            f"({encoder.family.model_type})"
        )
    fingerprint = checkpoint_fingerprint(source_folder)
    if saved and saved.fingerprint != fingerprint:
        raise CheckpointError(f"{folder}: was saved from another version of {checkpoint}")
    if not weights:
        save_encoder(encoder, folder, weights=False)
    elif (shared := _shared_folder(folder)) is None:
        save_encoder(load_encoder(source_folder, keep_layers=keep_layers), folder)
    else:
        whole = shared / (f"{fingerprint}-{keep_layers}" if keep_layers else fingerprint)
        _share(source_folder, whole, keep_layers)
        _link(whole, folder)
    write_encoder_source(folder, checkpoint, fingerprint, revision)


def copy_without_weights(workdir: Path, target: Path, modality: str) -> None:
    """Copies the files of a saved encoder to another workdir, except its weights."""
    folder, copy = workdir / ENCODERS / modality, target / ENCODERS / modality
    copy.mkdir(parents=True, exist_ok=True)
    for path in sorted(folder.iterdir()):
        if _is_encoder_file(path) and path.name != _WEIGHTS:
            with atomic_write(copy / path.name) as temporary:
                shutil.copyfile(path, temporary)
    source = read_encoder_source(folder)
    write_encoder_source(copy, source.checkpoint, source.fingerprint, source.revision)


def check_kept_encoder(folder: Path, weights: bool) -> EncoderSource:
    """Compares the files of a saved encoder with their digests.

    Args:
      folder: `WORKDIR/encoders/MODALITY`.
      weights: whether to compare the weights too.

    Raises:
      CheckpointError: a file is missing or was changed.
    """
    source = read_encoder_source(folder)
    for name, digest in source.files.items():
        if weights or name != _WEIGHTS:
            check_sha256(folder / name, digest, f"delete {folder}; training then saves {source.checkpoint} again")
    return source


def _is_encoder_file(path: Path) -> bool:
    return path.is_file() and path.name != _SOURCE and not path.name.startswith(".")


def _shared_folder(folder: Path) -> Path | None:
    """Returns the folder of weights shared by workdirs; None if it is not writable."""
    named = os.environ.get(SHARED_FOLDER)
    shared = Path(named).expanduser() if named else folder.resolve().parents[2] / _SHARED
    try:
        shared.mkdir(parents=True, exist_ok=True)
        for temporary in shared.glob(".*.tmp"):  # left by killed processes
            if time.time() - temporary.stat().st_mtime > _STALE_SECONDS:
                shutil.rmtree(temporary, ignore_errors=True)
    except OSError:
        return None
    return shared if os.access(shared, os.W_OK) else None


def _share(checkpoint: Path, target: Path, keep_layers: int) -> None:
    """Converts a checkpoint into a shared folder, unless an intact copy exists."""
    try:
        check_kept_encoder(target, weights=True)
        return
    except CheckpointError:
        shutil.rmtree(target, ignore_errors=True)
    temporary = target.with_name(f".{target.name}.{os.getpid()}.tmp")
    try:
        save_encoder(load_encoder(checkpoint, keep_layers=keep_layers), temporary)
        write_encoder_source(temporary, str(checkpoint), target.name)
        with contextlib.suppress(OSError):  # another process created it first
            temporary.rename(target)
        check_kept_encoder(target, weights=False)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def _link(shared: Path, folder: Path) -> None:
    """Hard-links the weights of a shared encoder into a workdir, and copies its other files."""
    folder.mkdir(parents=True, exist_ok=True)
    for path in sorted(shared.iterdir()):
        target = folder / path.name
        if not _is_encoder_file(path):
            continue
        target.unlink(missing_ok=True)
        if path.name == _WEIGHTS:
            with contextlib.suppress(OSError):  # different file systems, or no hard links
                os.link(path, target)
                continue
        with atomic_write(target) as temporary:
            shutil.copyfile(path, temporary)


def keep_encoders(workdir: Path, config: EmotionModelConfig) -> None:
    """Saves the encoders of a config in the workdir, unless they are there; done by the first process.

    Weights are saved for encoders that run in training; for encoders whose hidden states are read from a feature store
    only if `keep_stored_encoders` is set.

    Raises:
      CheckpointError: a checkpoint cannot be loaded.
    """
    for modality in config.encoder_modalities:
        settings: EncoderInputConfig = getattr(config, modality)
        weights = config.keep_stored_encoders or not settings.store

        def keep(modality: str = modality, settings: EncoderInputConfig = settings, weights: bool = weights) -> None:
            folder = workdir / ENCODERS / modality
            try:
                keep_encoder(
                    folder, settings.checkpoint, settings.revision, _MODALITY[modality], weights, settings.keep_layers
                )
            except CheckpointError as error:
                raise CheckpointError(f"config.model.{modality}.checkpoint: {error}") from error

        run_on_first_process(keep, f"{workdir / ENCODERS / modality}")


def load_encoders(workdir: Path, config: EmotionModelConfig, mesh: Mesh, online: tuple[str, ...]) -> dict[str, Encoder]:
    """Loads the workdir's encoders.

    Args:
      workdir: folder of the run, see `keep_encoders`.
      config: config of the model.
      mesh: mesh that parameters are sharded over.
      online: modalities whose encoder runs; the others read a feature store, and are loaded without parameters.

    Raises:
      CheckpointError: a file was changed; or the weights were not saved, and the original checkpoint is missing or has
        changed.
    """
    encoders = {}
    for modality in config.encoder_modalities:
        settings: EncoderInputConfig = getattr(config, modality)
        options = ComputeOptions(jnp.dtype(config.dtype), settings.remat, settings.scan_layers, settings.remat_saves)
        folder = workdir / ENCODERS / modality
        source = check_kept_encoder(folder, weights=modality in online)
        if modality in online and not source.has_weights:
            folder = _find_original(folder, source)
        encoder = load_encoder(
            folder,
            options,
            to_device=device_put_fn(mesh),
            params=modality in online,
            keep_layers=settings.keep_layers,
        )
        if isinstance(settings, AcousticInputConfig) and settings.padded:
            encoder = padded_encoder(encoder, "config.model.acoustic.padded")
        encoders[modality] = encoder
    return encoders


def _find_original(folder: Path, source: EncoderSource) -> Path:
    """Finds the original checkpoint of an encoder saved without weights, and verifies its fingerprint."""
    context = f"{folder}: its weights were not saved, because training read its hidden states from a store"
    try:
        found = find_folder(source.checkpoint, source.revision or None)
        fingerprint = checkpoint_fingerprint(found)
    except CheckpointError as error:
        raise CheckpointError(f"{context}; the original {source.checkpoint} is needed: {error}") from error
    if fingerprint != source.fingerprint:
        raise CheckpointError(f"{context}; the original {source.checkpoint} has changed (its SHA-256 differs)")
    return found


def batch_inputs(
    workdir: Path, config: EmotionModelConfig, corpus: str, split: str, max_tokens: int, online: tuple[str, ...]
) -> BatchInputs:
    """Determines the inputs that batches of a split must contain for a model.

    Args:
      workdir: folder of the run, with its encoders.
      config: config of the model.
      corpus: TFDS name with config and version.
      split: name of the split.
      max_tokens: maximal number of tokens of a transcript.
      online: modalities whose encoder runs; the others read their feature store.

    Raises:
      CheckpointError: a store is missing, unfinished, or was computed with another checkpoint, corpus or other layers.
    """
    stored = {
        modality: stored_input(workdir, modality, getattr(config, modality), corpus, split, max_tokens)
        for modality in config.encoder_modalities
        if modality not in online
    }
    audio = "log_mel" in config.modalities or "acoustic" in online
    tokenizer, transcripts = str(workdir / ENCODERS / "lexical") if "lexical" in online else "", None
    if "lexical" in config.modalities:
        transcripts = find_transcripts(config.lexical.transcripts, corpus, split, "config.model.lexical.transcripts")
    return BatchInputs(audio=audio, tokenizer=tokenizer, stored=stored, transcripts=transcripts)


def stored_modalities(config: EmotionModelConfig) -> tuple[str, ...]:
    """Lists the encoder modalities whose hidden states are read from a feature store in training."""
    return tuple(modality for modality in config.encoder_modalities if getattr(config, modality).store)


_MODALITY = {"acoustic": "speech", "lexical": "text"}


_IN_WORKDIR = "workdir:"


def store_directory(workdir: Path, settings: EncoderInputConfig) -> Path:
    """Folder of the feature store of a modality."""
    if settings.store.startswith(_IN_WORKDIR):
        return workdir / settings.store.removeprefix(_IN_WORKDIR)
    return Path(settings.store).expanduser()


def stored_input(
    workdir: Path, modality: str, settings: EncoderInputConfig, corpus: str, split: str, max_tokens: int
) -> StoredInput:
    """Opens the feature store of a modality, and compares it with the modality's encoder and settings.

    Args:
      workdir: folder of the run, with its encoders.
      modality: encoder modality.
      settings: its settings, with a store.
      corpus: TFDS name with config and version.
      split: name of the split.
      max_tokens: maximal number of tokens of a transcript.

    Raises:
      CheckpointError: the store is missing, unfinished, or was computed with another checkpoint, corpus or layers.
    """
    store = Store(store_directory(workdir, settings))
    context = f"config.model.{modality}.store: {settings.store}"
    source = parse_source(store.metadata, StatesSource, store.directory)
    folder = workdir / ENCODERS / modality
    sizes, family = read_sizes(folder)
    expected: Mapping[str, Any] = {
        "checkpoint": read_encoder_source(folder).fingerprint,
        "layers": resolve_layers(settings.layers, sizes.num_layers, f"config.model.{modality}.layers"),
        "combine": "mean" if source.combine == settings.combine == "mean" else "stack",
        **family.inputs.resolution(sizes, max_tokens),
        "padded": isinstance(settings, AcousticInputConfig) and settings.padded,
    }
    if store.metadata.corpus != corpus:
        raise CheckpointError(f"{context} was made from corpus {store.metadata.corpus}, not {corpus}")
    for key, value in expected.items():
        if getattr(source, key) != value:
            raise CheckpointError(f"{context} was made with {key} {getattr(source, key)!r}, not {value!r}")
    if source.pooling != settings.pooling and (settings.pooling, source.pooling) != ("none", "mean"):
        raise CheckpointError(f"{context} was made with pooling {source.pooling!r}, not {settings.pooling!r}")
    shape = single_array(store.metadata, STATES, store.directory).shape
    if shape != (row_shape := source.row_shape(sizes.hidden_size)):
        raise CheckpointError(f"{context}: rows must have shape {row_shape} (layers, features), got {shape}")
    pooled = source.pooling != "none"
    network = settings.network
    if pooled and (network.gru_layers or network.conv_channels or network.pooling != "mean"):
        raise CheckpointError(
            f"{context} has one row per utterance: the network must have gru_layers 0, conv_channels 0, pooling 'mean'"
        )
    rows: Literal["frames", "tokens", "utterance"] = (
        "utterance" if pooled else "tokens" if modality == "lexical" else "frames"
    )
    if source.padded and rows == "frames":
        return StoredInput(store.split(split), STATES, rows, sizes.max_samples, sizes.max_frames)
    return StoredInput(store.split(split), STATES, rows, source.samples_per_frame or 0)
