"""Files that are always complete, and JSON that is read with bounds: what everything on disk is written and read by."""

import contextlib
import hashlib
import json
import os
import stat
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from emojax.errors import CheckpointError, EmojaxError

DIGEST = "sha256"
"""Key of a JSON object that holds the digest of the others."""

MAX_JSON_DEPTH = 100
"""JSON nested more deeply is refused; what is written here has less than ten levels."""

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


def with_digest(tree: Mapping[str, Any]) -> dict[str, Any]:
    """Adds the SHA-256 of a JSON object's content to it, which `checked_content` compares.

    It is a digest of the values, not of the bytes: another indentation or order of keys does not matter.
    """
    return {**tree, DIGEST: _digest(tree)}


def checked_content(tree: dict[str, Any], place: str, error: type[EmojaxError] = CheckpointError) -> dict[str, Any]:
    """Removes the digest that `with_digest` added; an object without one (written before there were any) is returned
    as it is.

    Raises:
      EmojaxError: of class `error`: the content is not what was written.
    """
    if DIGEST not in tree:
        return tree
    content = {key: value for key, value in tree.items() if key != DIGEST}
    if tree[DIGEST] != _digest(content):
        raise error(
            f"{place}: is damaged or was edited (its {DIGEST} does not match); "
            f"if the edit is wanted, remove the key {DIGEST!r}"
        )
    return content


def _digest(content: Mapping[str, Any]) -> str:
    written = json.loads(json.dumps(content))  # tuples become lists, keys text, as in the file
    text = json.dumps(written, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()


def read_json(path: Path, error: type[EmojaxError] = CheckpointError, *, missing: str = "no such file") -> Any:
    """Reads a JSON file that may come from a stranger.

    Args:
      path: file.
      error: raised for whatever is wrong with it.
      missing: what the message says where there is no such file.

    Raises:
      EmojaxError: of class `error`: the file is missing, no regular file, too large, not UTF-8, not JSON, or nested
        too deeply.
    """
    try:
        status = path.stat()
        if not stat.S_ISREG(status.st_mode):  # reading a pipe or a device would wait, or never end
            raise error(f"{path}: is not a regular file")
        size = status.st_size
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
        tree = json.loads(text, **options)
    except RecursionError as problem:
        raise error(f"{place}: is nested too deeply") from problem
    except ValueError as problem:
        raise error(f"{place}: is not valid JSON ({problem})") from problem
    if text.count("[") + text.count("{") > MAX_JSON_DEPTH and _depth(tree) > MAX_JSON_DEPTH:
        raise error(f"{place}: is nested too deeply")
    return tree


def _depth(tree: Any) -> int:
    """Counts the levels of a tree, without recursion, no further than needed."""
    depth, level = 0, [tree]
    while level and depth <= MAX_JSON_DEPTH:
        containers = [item for item in level if isinstance(item, dict | list)]
        level = [child for item in containers for child in (item.values() if isinstance(item, dict) else item)]
        depth += bool(containers)
    return depth


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
