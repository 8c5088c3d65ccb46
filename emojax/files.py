"""Files that are always complete, and JSON that is read with bounds: what everything on disk is written and read by."""

import contextlib
import hashlib
import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from emojax.errors import CheckpointError, EmojaxError

MAX_JSON_BYTES = 256 * 2**20
"""A JSON file larger than this is refused: vocabularies have a few MB, indices of sharded checkpoints less."""


@contextlib.contextmanager
def atomic_write(path: Path) -> Iterator[Path]:
    """Gives a path beside `path` to write to, which replaces `path` when the block ends without an error.

    A reader, or a crash at any moment, finds the old file or the new one, never a part.

    Raises:
      EmojaxError: it cannot be written (full disk, no permission); what was there is intact.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary.touch()
        mode = temporary.stat().st_mode
        yield temporary
        os.chmod(temporary, mode)  # some libraries leave files that nobody else may read
        os.replace(temporary, path)
    except OSError as error:
        raise EmojaxError(f"{path}: cannot be written ({error.strerror or error})") from error
    finally:
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)


def write_json(path: Path, tree: Any) -> None:
    """Writes a tree as strict JSON, atomically.

    Raises:
      EmojaxError: it cannot be written; what was there is intact.
      ValueError: NaN or infinity in the tree, which JSON does not have.
    """
    with atomic_write(path) as temporary, temporary.open("w", encoding="utf-8") as file:
        json.dump(tree, file, indent=2, allow_nan=False)
        file.write("\n")


def read_json(path: Path, error: type[EmojaxError] = CheckpointError, *, missing: str = "no such file") -> Any:
    """Reads a JSON file that may come from a stranger.

    Args:
      path: file.
      error: raised for whatever is wrong with it.
      missing: what the message says where there is no such file.

    Raises:
      EmojaxError: of class `error`: the file is missing, too large, not UTF-8, not JSON, or nested too deeply.
    """
    try:
        size = path.stat().st_size
        if size > MAX_JSON_BYTES:
            raise error(f"{path}: has {size} bytes; a JSON file must have at most {MAX_JSON_BYTES}")
        return parse_json(path.read_text(encoding="utf-8"), str(path), error)
    except FileNotFoundError as problem:
        raise error(f"{path}: {missing}") from problem
    except (OSError, UnicodeDecodeError) as problem:
        raise error(f"{path}: cannot be read ({problem})") from problem


def parse_json(text: str, place: str, error: type[EmojaxError] = CheckpointError, **options: Any) -> Any:
    """Parses JSON that may come from a stranger.

    Args:
      text: JSON.
      place: file, or file and line, for messages.
      error: raised for whatever is wrong with it.
      **options: passed to `json.loads`.
    """
    try:
        return json.loads(text, **options)
    except RecursionError as problem:
        raise error(f"{place}: is nested too deeply") from problem
    except ValueError as problem:
        raise error(f"{place}: is not valid JSON ({problem})") from problem


def read_json_object(
    path: Path, error: type[EmojaxError] = CheckpointError, *, missing: str = "no such file"
) -> dict[str, Any]:
    """Reads a JSON file whose content must be an object.

    Raises:
      EmojaxError: of class `error`, as `read_json`, or it holds something else than an object.
    """
    tree = read_json(path, error, missing=missing)
    if not isinstance(tree, dict):
        raise error(f"{path}: must hold a JSON object, found {type(tree).__name__}")
    return tree


def sha256_of(path: Path) -> str:
    """Computes the SHA-256 of a file's content, in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


SKIP_DIGESTS = "EMOJAX_SKIP_DIGESTS"
"""Environment variable: where it is 1, files are not compared with the digests written with them."""


def check_sha256(path: Path, digest: str, remedy: str, error: type[EmojaxError] = CheckpointError) -> None:
    """Compares a file with the SHA-256 that was written with it.

    Args:
      path: file.
      digest: hexadecimal.
      remedy: what can be done about another file, for the message.
      error: raised for one.

    Raises:
      EmojaxError: of class `error`: the file is absent, cannot be read, or is another one.
    """
    if not path.is_file():
        raise error(f"{path}: no such file; {remedy}")
    if os.environ.get(SKIP_DIGESTS) == "1":
        return
    try:
        found = sha256_of(path)
    except OSError as problem:
        raise error(f"{path}: cannot be read ({problem})") from problem
    if found != digest:
        raise error(f"{path}: was changed or damaged since it was written (SHA-256 {found[:12]}…); {remedy}")
