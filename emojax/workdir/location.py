"""Where the checkpoints of a workdir are: inside it, or in a folder or bucket of their own that names the workdir.

A workdir that came from elsewhere must not make this machine read any place its config names. So a run that keeps its
checkpoints outside its workdir writes one random id to both; only a place with the workdir's id is read.
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
from emojax.parallel import is_first, wait_for_all
from emojax.schema import MaxLen, MinLen, parse, settings
from emojax.workdir.files import CHECKPOINTS, METRICS, write_json

OWNER = "workdir.json"
"""File of a checkpoint folder outside its workdir, with the id of the workdir."""

ELSEWHERE = "checkpoints.json"
"""File of a workdir whose checkpoints are elsewhere, with the same id."""

_SCHEMES = ("gs://", "s3://", "az://")


@settings
class _Id:
    id: Annotated[str, MinLen(32), MaxLen(32)]


def own_checkpoint_directory(workdir: Path, named: str) -> epath.Path:
    """Finds, for a run that writes, where its checkpoints go, and marks a place outside the workdir as this workdir's.

    Args:
      workdir: of the run.
      named: `training.checkpoint_dir`; may be on a bucket, which is read and written by the library for it.

    Raises:
      CheckpointError: the place cannot be reached, or has the checkpoints of another run.
    """
    directory = _place(workdir, named)
    if not named:
        return directory
    own = _read_id(workdir / ELSEWHERE)
    theirs = _read_id(directory / OWNER)
    used = theirs is None and _has_checkpoints(directory)
    if (theirs is not None and theirs != own) or (used and not (workdir / METRICS).exists()):
        raise CheckpointError(
            f"config.training.checkpoint_dir: {named} has the checkpoints of another workdir; "
            "allowed: a folder for this one alone"
        )
    wait_for_all(f"{directory} was looked at")
    if is_first():
        own = own or uuid.uuid4().hex
        write_json(workdir / ELSEWHERE, {"id": own})
        if theirs is None:
            _write_owner(directory, own)
    return directory


def find_checkpoint_directory(workdir: Path, named: str) -> epath.Path:
    """Finds, for reading, where the checkpoints of a workdir are: in the workdir, or where its config says.

    Args:
      workdir: of a run, perhaps from elsewhere.
      named: `training.checkpoint_dir` of its config.

    Raises:
      CheckpointError: the place outside does not name this workdir.
    """
    inside = _place(workdir, "")
    if not named:
        return inside
    own = _read_id(workdir / ELSEWHERE)
    if own is None and inside.is_dir():
        return inside
    directory = _place(workdir, named)
    if own is None or _read_id(directory / OWNER) != own:
        also = f" and remove {workdir / ELSEWHERE}" if own else ""
        raise CheckpointError(
            f"{workdir}: its config names {named} for its checkpoints, which has no {OWNER} with the id of this "
            "workdir and so is not read; if it is your own run, continue it once with its training command, or copy "
            f"them to {inside}{also}"
        )
    return directory


def _place(workdir: Path, named: str) -> epath.Path:
    if "://" in named:
        if not named.startswith(_SCHEMES):
            raise CheckpointError(
                f"config.training.checkpoint_dir: {named} is not allowed; allowed: a folder, {', '.join(_SCHEMES)}"
            )
        return epath.Path(named)
    try:
        # Orbax refuses a relative path, and only when it saves.
        return epath.Path(Path(named).expanduser().absolute() if named else (workdir / CHECKPOINTS).absolute())
    except (RuntimeError, ValueError) as error:  # no such user
        raise CheckpointError(f"config.training.checkpoint_dir: {named}: {error}") from error


def _read_id(path: Path | epath.Path) -> str | None:
    """Reads the id in a file; None where there is none."""
    outside = "://" in str(path)

    def read() -> Any:
        if not path.exists():
            return None
        return parse_json(path.read_text(), str(path)) if outside else read_json_object(Path(path))

    tree = _reach(path, read)
    if isinstance(tree, dict):
        tree = checked_content(tree, str(path))
    return None if tree is None else parse(_Id, tree, f"{path}: file", error=CheckpointError).id


def _write_owner(directory: epath.Path, own: str) -> None:
    content = with_digest({"id": own})
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
    """Runs an action on a place whose library may be missing, or that may not be there."""
    try:
        return action()
    except EmojaxError:
        raise
    except Exception as error:  # each library of a bucket raises its own kinds
        raise CheckpointError(f"{path}: cannot be reached ({reason(error)})") from error
