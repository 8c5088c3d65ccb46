"""The encoders of a workdir as files: kept once for all workdirs of a folder, and checked when they are loaded.

`WORKDIR/encoders/VIEW` is a checkpoint that transformers can read, with `source.json` beside it. Its weights are a hard
link to `WORKDIR/../.encoders/FINGERPRINT/model.safetensors` (or below `$EMOJAX_ENCODERS`), so that a sweep over one
checkpoint converts and holds it once. A workdir is complete without that folder, which may be removed at any time.
"""

import contextlib
import dataclasses
import os
import shutil
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated

from emojax.encoders import checkpoint_fingerprint, load_encoder, save_encoder
from emojax.encoders.checkpoint_files import find_folder
from emojax.errors import CheckpointError, ConfigError
from emojax.files import atomic_write, check_sha256, sha256_of, write_json
from emojax.schema import MaxLen, MinLen, read_settings, settings, to_tree

ENCODERS = "encoders"
"""Folder of a workdir with one folder per encoder view."""

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
