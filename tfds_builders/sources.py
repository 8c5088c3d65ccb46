"""Which files of a user's copy a corpus was built from, kept beside it, so that a later build sees what has changed."""

import collections
import json
import stat
from collections.abc import Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

from emojax.errors import CorpusError
from emojax.files import read_json, sha256_of
from emojax.progress import Progress

_FILE = "sources.json"

_SHOWN = 3


class Stamp(NamedTuple):
    """What tells cheaply that a file is still the same.

    Attributes:
      size: bytes.
      mtime_ns: date of the last change.
    """

    size: int
    mtime_ns: int


def stamp_files(root: Path, paths: Iterable[Path]) -> dict[str, Stamp | None]:
    """Stamps of files, None of those that are not there; by their path in `root`, absolute if they lie elsewhere."""
    return {_name(root, path): _stamp(path) for path in dict.fromkeys(paths)}


def write_sources(directory: Path, root: Path, stamps: Mapping[str, Stamp | None], processes: int) -> None:
    """Writes `sources.json` into a corpus's folder: size, date and digest of every file. Nothing for no files.

    Every file is read once more, after it was decoded, while the system still holds many of them in memory.

    Args:
      directory: of the corpus.
      root: the user's copy.
      stamps: from `stamp_files`, taken before the corpus was built.
      processes: how many files are read at a time.

    Raises:
      CorpusError: a file has changed since its stamp was taken.
    """
    if not stamps:
        return
    digests = _digests(root, [name for name, stamp in stamps.items() if stamp], processes)
    for name, stamp in stamps.items():
        if _stamp(root / name) != stamp:
            raise CorpusError(f"{root / name}: changed while the corpus was being built; build it again")
    files = {name: [*stamp, digests[name]] if stamp else None for name, stamp in stamps.items()}
    (directory / _FILE).write_text(json.dumps({"files": files}), encoding="utf-8")


def changed_sources(directory: Path, root: Path, processes: int) -> str | None:
    """What has changed in the user's copy since the corpus in `directory` was built; "" if nothing has.

    A file of the same size and date is taken for the same; one of the same size and another date is read.

    Args:
      directory: of the corpus.
      root: the user's copy.
      processes: how many files are read at a time.

    Returns:
      One line; None where nothing is known about the files of this corpus.
    """
    try:
        files = read_json(directory / _FILE, CorpusError)["files"]
        known = {str(name): value and (Stamp(*value[:2]), str(value[2])) for name, value in files.items()}
    except (CorpusError, KeyError, TypeError, AttributeError, IndexError):
        return None
    found: dict[str, list[str]] = collections.defaultdict(list)
    redated = []
    for name, value in known.items():
        now = _stamp(root / name)
        if now is None or value is None:
            kind = "missing" if value else "new" if now else ""
            found[kind].append(name)
        elif now.size != value[0].size:
            found["changed"].append(name)
        elif now != value[0]:
            redated.append(name)
    digests = _digests(root, redated, processes)
    found["changed"] += [name for name in redated if digests[name] != known[name][1]]
    return "; ".join(f"{kind}: {_listed(found[kind])}" for kind in ("changed", "missing", "new") if found[kind])


def _name(root: Path, path: Path) -> str:
    return path.relative_to(root).as_posix() if path.is_relative_to(root) else str(path.absolute())


def _stamp(path: Path) -> Stamp | None:
    try:
        status = path.stat()
    except (OSError, ValueError):
        return None
    return Stamp(status.st_size, status.st_mtime_ns) if stat.S_ISREG(status.st_mode) else None


def _digests(root: Path, names: list[str], processes: int) -> dict[str, str]:
    # Threads are enough: both reading and hashing release the interpreter's lock.
    with Progress("digests of files", len(names), "files") as progress, ThreadPoolExecutor(processes) as threads:
        digests = {}
        for name, digest in zip(names, threads.map(_digest, (root / name for name in names)), strict=True):
            digests[name] = digest
            progress.advance()
    return digests


def _digest(path: Path) -> str:
    try:
        return sha256_of(path)
    except OSError as error:  # the build has left such a file out and counted it
        return f"cannot be read ({error.strerror})"


def _listed(names: list[str]) -> str:
    more = f" and {len(names) - _SHOWN} more files" if len(names) > _SHOWN else ""
    return ", ".join(names[:_SHOWN]) + more
