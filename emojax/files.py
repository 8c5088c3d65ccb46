"""Files that are always complete, and JSON that is read with bounds: what everything on disk is written and read by."""

import contextlib
import hashlib
import io
import json
import os
import re
import secrets
import stat
import time
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


LOCK = ".lock"
"""File of a workdir or store that a process is writing in (see `emojax.workdir.lock`)."""

_TEMPORARY = re.compile(r"\..+\.\d+(\.[0-9a-f]{8})?\.tmp")
"""Names of files that `atomic_write` has not finished: .NAME.PROCESS.RANDOM.tmp."""

_ABANDONED_SECONDS = 3600.0
"""A temporary file that was not written to for so long is of a process that was killed."""


@contextlib.contextmanager
def atomic_write(path: Path) -> Iterator[Path]:
    """Gives a path beside `path` to write to, which replaces `path` when the block ends without an error.

    A reader, or a crash at any moment, finds the old file or the new one, never a part. What a killed process left of
    an earlier attempt at the same file is removed after an hour (in a workdir: at the next start, see
    `remove_temporaries`).

    Raises:
      EmojaxError: it cannot be written (full disk, no permission); what was there is intact.
    """
    # The random part keeps apart threads, and containers on one disk, where process ids are small and the same.
    temporary = path.with_name(f".{path.name}.{os.getpid()}.{secrets.token_hex(4)}.tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        _remove_abandoned(path)
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


def is_vacant(folder: Path) -> bool:
    """Whether a folder is absent, or holds nothing but the lock of who is about to use it."""
    return not folder.exists() or (folder.is_dir() and all(path.name == LOCK for path in folder.iterdir()))


def is_temporary(name: str) -> bool:
    """Whether a file's name is one that `atomic_write` gives to what it has not finished."""
    return _TEMPORARY.fullmatch(name) is not None


def remove_temporaries(folder: Path, depth: int = 2) -> None:
    """Removes what killed processes left of `atomic_write`; links are not followed, what cannot be removed stays.

    Args:
      folder: that no other process writes in.
      depth: levels of folders below it that are looked through too.
    """
    with contextlib.suppress(OSError):
        for entry in list(os.scandir(folder)):
            if entry.is_dir(follow_symlinks=False):
                if depth:
                    remove_temporaries(Path(entry.path), depth - 1)
            elif is_temporary(entry.name):
                with contextlib.suppress(OSError):
                    os.unlink(entry.path)


def _remove_abandoned(path: Path) -> None:
    with contextlib.suppress(OSError):
        for entry in os.scandir(path.parent):
            if entry.name.startswith(f".{path.name}.") and is_temporary(entry.name):
                with contextlib.suppress(OSError):
                    if time.time() - entry.stat(follow_symlinks=False).st_mtime > _ABANDONED_SECONDS:
                        os.unlink(entry.path)


def write_all(file: io.FileIO, data: bytes) -> None:
    """Writes to an unbuffered file: the system may take a part of the data, e.g. where a disk becomes full.

    Raises:
      OSError: not all of it could be written.
    """
    rest = memoryview(data)
    while rest:
        rest = rest[file.write(rest) :]


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


def user_cache() -> Path:
    """Returns the folder for what can be computed again: `$XDG_CACHE_HOME/emojax`, else `~/.cache/emojax`."""
    return Path(os.environ.get("XDG_CACHE_HOME", "~/.cache")).expanduser() / "emojax"
