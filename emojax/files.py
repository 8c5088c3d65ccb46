"""Atomic file writes, bounded JSON reading, and SHA-256 digests."""

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
"""Key of a JSON object that holds the digest of its other values."""

MAX_JSON_DEPTH = 100
"""Greatest nesting depth of JSON that is read; files written by emojax have less than ten levels."""

MAX_JSON_BYTES = 256 * 2**20
"""Greatest size of a JSON file that is read: vocabularies have a few MB, indices of sharded checkpoints less."""

LOCK = ".lock"
"""Lock file of a workdir or feature store (see `emojax.workdir.lock`)."""

_TEMPORARY = re.compile(r"\..+\.\d+(\.[0-9a-f]{8})?\.tmp")
"""Temporary files of `atomic_write`: .NAME.PROCESS.RANDOM.tmp."""

_ABANDONED_SECONDS = 3600.0
"""Age after which a temporary file is attributed to a killed process (s)."""


@contextlib.contextmanager
def atomic_write(path: Path) -> Iterator[Path]:
    """Yields a temporary path beside `path`, which replaces `path` when the block ends without an error.

    Readers see the old file or the new one, never a part of it. Temporary files that a killed process left are removed
    by a later write of the same file after an hour (in a workdir: at the next start, see `remove_temporaries`).

    Raises:
      EmojaxError: the file cannot be written (full disk, no permission); the previous file is intact.
    """
    # The random part separates threads, and containers on one disk, whose process ids coincide.
    temporary = path.with_name(f".{path.name}.{os.getpid()}.{secrets.token_hex(4)}.tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        _remove_abandoned(path)
        temporary.touch()
        mode = temporary.stat().st_mode
        yield temporary
        os.chmod(temporary, mode)  # some libraries create files that only the owner may read
        os.replace(temporary, path)
    except OSError as error:
        raise EmojaxError(f"{path}: cannot be written ({error.strerror or error})") from error
    finally:
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)


def is_vacant(folder: Path) -> bool:
    """Whether a folder is absent, or empty except for a lock file."""
    return not folder.exists() or (folder.is_dir() and all(path.name == LOCK for path in folder.iterdir()))


def is_temporary(name: str) -> bool:
    """Whether a file name is that of a temporary file of `atomic_write`."""
    return _TEMPORARY.fullmatch(name) is not None


def remove_temporaries(folder: Path, depth: int = 2) -> None:
    """Removes temporary files of killed processes; links are not followed, files that cannot be removed are skipped.

    Args:
      folder: folder that no other process is writing in.
      depth: levels of subfolders to search.
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
    """Writes all data to an unbuffered file; a single `write` may take only a part, e.g. on a nearly full disk.

    Raises:
      OSError: not all of the data could be written.
    """
    rest = memoryview(data)
    while rest:
        rest = rest[file.write(rest) :]


def write_json(path: Path, tree: Any) -> None:
    """Writes a tree as strict JSON, atomically.

    Raises:
      EmojaxError: the file cannot be written; the previous file is intact.
      ValueError: the tree contains NaN or infinity, which JSON cannot represent.
    """
    with atomic_write(path) as temporary, temporary.open("w", encoding="utf-8") as file:
        json.dump(tree, file, indent=2, allow_nan=False)
        file.write("\n")


def with_digest(tree: Mapping[str, Any]) -> dict[str, Any]:
    """Adds the SHA-256 of a JSON object's values under the key `sha256`; `checked_content` verifies it.

    The digest does not depend on indentation or on the order of keys.
    """
    return {**tree, DIGEST: _digest(tree)}


def checked_content(tree: dict[str, Any], context: str, error: type[EmojaxError] = CheckpointError) -> dict[str, Any]:
    """Verifies and removes the digest that `with_digest` added.

    Args:
      tree: JSON object; without a digest it is returned unchanged.
      context: file or object named in the error message.
      error: class of the error raised.

    Raises:
      EmojaxError: of class `error`: the digest does not match.
    """
    if DIGEST not in tree:
        return tree
    content = {key: value for key, value in tree.items() if key != DIGEST}
    if tree[DIGEST] != _digest(content):
        raise error(
            f"{context}: is damaged or was edited (its {DIGEST} does not match); "
            f"to keep an edit, remove the key {DIGEST!r}"
        )
    return content


def _digest(content: Mapping[str, Any]) -> str:
    written = json.loads(json.dumps(content))  # tuples become lists, keys text, as in the file
    text = json.dumps(written, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()


def read_json(path: Path, error: type[EmojaxError] = CheckpointError, *, missing: str = "no such file") -> Any:
    """Reads an untrusted JSON file.

    Args:
      path: file.
      error: class of the error raised.
      missing: message for a missing file.

    Raises:
      EmojaxError: of class `error`: the file is missing, not a regular file, too large, not UTF-8, not JSON, or nested
        too deeply.
    """
    try:
        status = path.stat()
        if not stat.S_ISREG(status.st_mode):  # reading a pipe or a device could block
            raise error(f"{path}: is not a regular file")
        size = status.st_size
        if size > MAX_JSON_BYTES:
            raise error(f"{path}: has {size} bytes; a JSON file must have at most {MAX_JSON_BYTES}")
        return parse_json(path.read_text(encoding="utf-8"), str(path), error)
    except FileNotFoundError as problem:
        raise error(f"{path}: {missing}") from problem
    except OSError as problem:
        raise error(f"{path}: cannot be read ({problem.strerror or problem})") from problem
    except UnicodeDecodeError as problem:
        raise error(f"{path}: cannot be read ({problem})") from problem


def parse_json(text: str, context: str, error: type[EmojaxError] = CheckpointError, **options: Any) -> Any:
    """Parses untrusted JSON.

    Args:
      text: JSON.
      context: file, or file and line, named in the error message.
      error: class of the error raised.
      **options: passed to `json.loads`.

    Raises:
      EmojaxError: of class `error`: the text is not JSON, or nested too deeply.
    """
    try:
        tree = json.loads(text, **options)
    except RecursionError as problem:
        raise error(f"{context}: is nested too deeply") from problem
    except ValueError as problem:
        raise error(f"{context}: is not valid JSON ({problem})") from problem
    if text.count("[") + text.count("{") > MAX_JSON_DEPTH and _depth(tree) > MAX_JSON_DEPTH:
        raise error(f"{context}: is nested too deeply")
    return tree


def _depth(tree: Any) -> int:
    """Counts the levels of a tree without recursion, up to `MAX_JSON_DEPTH` + 1."""
    depth, level = 0, [tree]
    while level and depth <= MAX_JSON_DEPTH:
        containers = [item for item in level if isinstance(item, dict | list)]
        level = [child for item in containers for child in (item.values() if isinstance(item, dict) else item)]
        depth += bool(containers)
    return depth


def read_json_object(
    path: Path, error: type[EmojaxError] = CheckpointError, *, missing: str = "no such file"
) -> dict[str, Any]:
    """Reads a JSON file that must hold an object; arguments as for `read_json`.

    Raises:
      EmojaxError: of class `error`: as for `read_json`, or the file holds another type.
    """
    tree = read_json(path, error, missing=missing)
    if not isinstance(tree, dict):
        raise error(f"{path}: must hold a JSON object, got {type(tree).__name__}")
    return tree


def sha256_of(path: Path) -> str:
    """Computes the SHA-256 of a file's content, in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


SKIP_DIGESTS = "EMOJAX_SKIP_DIGESTS"
"""Environment variable; 1 disables the comparison of files with their saved digests."""


def check_sha256(path: Path, digest: str, remedy: str, error: type[EmojaxError] = CheckpointError) -> None:
    """Compares a file with its saved SHA-256.

    Args:
      path: file.
      digest: expected SHA-256, hexadecimal.
      remedy: advice appended to the error message.
      error: class of the error raised.

    Raises:
      EmojaxError: of class `error`: the file is missing, cannot be read, or has another digest.
    """
    if not path.is_file():
        raise error(f"{path}: no such file; {remedy}")
    if os.environ.get(SKIP_DIGESTS) == "1":
        return
    try:
        found = sha256_of(path)
    except OSError as problem:
        raise error(f"{path}: cannot be read ({problem.strerror or problem})") from problem
    if found != digest:
        raise error(f"{path}: was changed or damaged since it was written (SHA-256 {found[:12]}…); {remedy}")


def user_cache() -> Path:
    """Returns the cache folder: `$XDG_CACHE_HOME/emojax`, else `~/.cache/emojax`."""
    return Path(os.environ.get("XDG_CACHE_HOME", "~/.cache")).expanduser() / "emojax"
