"""Record of the user's files that a corpus was built from, which detects changes when it is built again."""

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
    """File status that detects most changes cheaply.

    Attributes:
      size: size in bytes.
      mtime_ns: time of the last modification (ns).
    """

    size: int
    mtime_ns: int


def stamp_files(root: Path, paths: Iterable[Path]) -> dict[str, Stamp | None]:
    """Returns the stamps of files (None for missing ones) by path relative to `root`, or absolute outside of it."""
    return {_name(root, path): _stamp(path) for path in dict.fromkeys(paths)}


def write_sources(directory: Path, root: Path, stamps: Mapping[str, Stamp | None], processes: int) -> None:
    """Writes `sources.json` with size, date and digest of every file into a corpus's folder; nothing without files.

    Every file is read once more after decoding, when many files are still in the page cache.

    Args:
      directory: folder of the corpus.
      root: folder of the user's copy.
      stamps: from `stamp_files`, taken before the build.
      processes: number of files read in parallel.

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
    """Describes the changes of the user's copy since the corpus was built.

    A file of the same size and date counts as unchanged; a file of the same size with another date is read.

    Args:
      directory: folder of the corpus.
      root: folder of the user's copy.
      processes: number of files read in parallel.

    Returns:
      One line, "" without changes; None if the corpus has no valid `sources.json`.
    """
    try:
        files = read_json(directory / _FILE, CorpusError)["files"]
        saved = {str(name): value and (Stamp(*value[:2]), str(value[2])) for name, value in files.items()}
    except (CorpusError, KeyError, TypeError, AttributeError, IndexError):
        return None
    found: dict[str, list[str]] = collections.defaultdict(list)
    touched = []
    for name, value in saved.items():
        now = _stamp(root / name)
        if now is None or value is None:
            kind = "missing" if value else "new" if now else ""
            found[kind].append(name)
        elif now.size != value[0].size:
            found["changed"].append(name)
        elif now != value[0]:
            touched.append(name)
    digests = _digests(root, touched, processes)
    found["changed"] += [name for name in touched if digests[name] != saved[name][1]]
    return "; ".join(f"{kind}: {_format_list(found[kind])}" for kind in ("changed", "missing", "new") if found[kind])


def _name(root: Path, path: Path) -> str:
    return path.relative_to(root).as_posix() if path.is_relative_to(root) else str(path.absolute())


def _stamp(path: Path) -> Stamp | None:
    try:
        status = path.stat()
    except (OSError, ValueError):
        return None
    return Stamp(status.st_size, status.st_mtime_ns) if stat.S_ISREG(status.st_mode) else None


def _digests(root: Path, names: list[str], processes: int) -> dict[str, str]:
    # Threads suffice: reading and hashing release the interpreter lock.
    with Progress("digests of files", len(names), "files") as progress, ThreadPoolExecutor(processes) as threads:
        digests = {}
        for name, digest in zip(names, threads.map(_digest, (root / name for name in names)), strict=True):
            digests[name] = digest
            progress.advance()
    return digests


def _digest(path: Path) -> str:
    try:
        return sha256_of(path)
    except OSError as error:  # the build has skipped and counted such a file
        return f"cannot be read ({error.strerror})"


def _format_list(names: list[str]) -> str:
    more = f" and {len(names) - _SHOWN} more files" if len(names) > _SHOWN else ""
    return ", ".join(names[:_SHOWN]) + more
