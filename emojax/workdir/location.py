"""Location of a workdir's checkpoints: inside it, or in an external folder or bucket that holds the workdir's id.

An untrusted workdir must not make this machine read arbitrary paths named in its config. A run with external
checkpoints therefore writes one random id to both folders, and only a folder with the workdir's id is read.
"""

import json
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

from etils import epath

from emojax import files
from emojax.errors import CheckpointError, EmojaxError, reason
from emojax.files import checked_content, parse_json, read_json_object, with_digest
from emojax.parallel import is_first_process, sync_processes
from emojax.schema import MaxLen, MinLen, parse, settings
from emojax.workdir.files import CHECKPOINTS, METRICS, write_json

OWNER = "workdir.json"
"""File of an external checkpoint folder with the id of its workdir."""

EXTERNAL = "checkpoints.json"
"""File with the same id in a workdir with external checkpoints."""

_SCHEMES = ("gs://", "s3://", "az://")


@settings
class _Id:
    id: Annotated[str, MinLen(32), MaxLen(32)]


def own_checkpoint_directory(workdir: Path, named: str) -> epath.Path:
    """Returns the checkpoint folder of a run that writes; an external folder is marked with the workdir's id.

    Args:
      workdir: folder of the run.
      named: `training.checkpoint_dir`; may be on a bucket, which is accessed by its client library.

    Raises:
      CheckpointError: the folder cannot be reached, or has the checkpoints of another run.
    """
    directory = _directory(workdir, named)
    if not named:
        return directory
    own_id = _read_id(workdir / EXTERNAL)
    owner_id = _read_id(directory / OWNER)
    used = owner_id is None and _has_checkpoints(directory)
    if (owner_id is not None and owner_id != own_id) or (used and not (workdir / METRICS).exists()):
        raise CheckpointError(
            f"config.training.checkpoint_dir must not be shared by workdirs; {named} has the checkpoints of another one"
        )
    sync_processes(f"{directory} was checked")
    if is_first_process():
        own_id = own_id or uuid.uuid4().hex
        write_json(workdir / EXTERNAL, {"id": own_id})
        if owner_id is None:
            _write_owner(directory, own_id)
    return directory


def find_checkpoint_directory(workdir: Path, named: str) -> epath.Path:
    """Returns the checkpoint folder of a workdir for reading.

    Args:
      workdir: folder of a run; may be untrusted.
      named: `training.checkpoint_dir` of its config.

    Raises:
      CheckpointError: the external folder does not have this workdir's id.
    """
    inside = _directory(workdir, "")
    if not named:
        return inside
    own_id = _read_id(workdir / EXTERNAL)
    if own_id is None and inside.is_dir():
        return inside
    directory = _directory(workdir, named)
    if own_id is None or _read_id(directory / OWNER) != own_id:
        removal = f" and remove {workdir / EXTERNAL}" if own_id else ""
        raise CheckpointError(
            f"{workdir}: training.checkpoint_dir of its config is {named}, which has no {OWNER} with the id of this "
            "workdir and is not read; if it is your own run, continue it once with its training command, or copy "
            f"the checkpoints to {inside}{removal}"
        )
    return directory


def _directory(workdir: Path, named: str) -> epath.Path:
    if "://" in named:
        if not named.startswith(_SCHEMES):
            raise CheckpointError(
                f"config.training.checkpoint_dir must be a folder, {', '.join(_SCHEMES)}, got {named}"
            )
        return epath.Path(named)
    try:
        # Orbax rejects relative paths, but only when saving.
        return epath.Path(Path(named).expanduser().absolute() if named else (workdir / CHECKPOINTS).absolute())
    except (RuntimeError, ValueError) as error:  # no such user
        raise CheckpointError(f"config.training.checkpoint_dir: {named}: {error}") from error


def _read_id(path: Path | epath.Path) -> str | None:
    """Reads the id in a file; None if the file does not exist."""
    outside = "://" in str(path)

    def read() -> Any:
        if not path.exists():
            return None
        return parse_json(path.read_text(), str(path)) if outside else read_json_object(Path(path))

    tree = _reach(path, read)
    if isinstance(tree, dict):
        tree = checked_content(tree, str(path))
    return None if tree is None else parse(_Id, tree, f"{path}: file", error=CheckpointError).id


def _write_owner(directory: epath.Path, own_id: str) -> None:
    content = with_digest({"id": own_id})
    if "://" in str(directory):
        _reach(directory, lambda: (directory / OWNER).write_text(json.dumps(content)))
    else:
        files.write_json(Path(directory / OWNER), content)


def _has_checkpoints(directory: epath.Path) -> bool:
    found: bool = _reach(
        directory, lambda: directory.is_dir() and any(path.name.isdigit() for path in directory.iterdir())
    )
    return found


def _reach(path: Path | epath.Path, action: Callable[[], Any]) -> Any:
    """Runs an action on a path that may not exist or whose client library may be missing."""
    try:
        return action()
    except EmojaxError:
        raise
    except Exception as error:  # client libraries of buckets raise various exceptions
        raise CheckpointError(f"{path}: cannot be reached ({reason(error)})") from error
