"""Results of a prediction that goes on, in a file beside its output, from which the same command continues.

The journal is a file of JSON lines, `OUTPUT.partial`: first what the results depend on, then one line per clip, in the
order in which they are computed; results of a file that has changed since are not used. Embeddings are rows of float32
in a second file. A killed command leaves at most one incomplete line, which is removed.
"""

import contextlib
import dataclasses
import fcntl
import json
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, BinaryIO, Self

import numpy as np
from jaxtyping import Float32

from emojax.errors import EmojaxError
from emojax.files import atomic_write
from emojax.inference.sources import Clip
from emojax.inference.tables import Format, Row, write_failures, write_table

_VERSION_KEY, _VERSION = "version of emojax predictions", 2

_ROWS_AT_ONCE = 4096
"""Embeddings that are copied at a time."""

Stamp = tuple[int, int] | None
"""Size in bytes and time of change (ns) of a file; None: there is no file."""

Key = tuple[str, float, float | None, str | None, Stamp]
"""File as given, start, end and transcript of a clip, and the state of its file."""


@dataclasses.dataclass(frozen=True)
class Outputs:
    """Files of a command.

    Attributes:
      table: file of rows.
      format: its format.
      embeddings: .npy or .npz file; None: none.
      failures: CSV file of the clips that failed; it exists only if there are any.
    """

    table: Path
    format: Format
    embeddings: Path | None
    failures: Path

    @property
    def journal(self) -> Path:
        """Results so far."""
        return self.table.with_name(f"{self.table.name}.partial")

    @property
    def journal_embeddings(self) -> Path:
        """Embeddings so far."""
        return self.table.with_name(f"{self.table.name}.embeddings.partial")


class Journal:
    """Results of clips on disk; a context manager."""

    def __init__(self, outputs: Outputs, identity: Mapping[str, Any]):
        """Opens the journal of outputs, and reads what an earlier command has left.

        Args:
          outputs: files of the command.
          identity: what results depend on: model, recognizer, options.

        Raises:
          EmojaxError: the journal belongs to another model or other options, another process writes it, or it cannot
            be read or written.
        """
        self._outputs, self._identity = outputs, {_VERSION_KEY: _VERSION, **identity}
        self._offsets: dict[Key, int] = {}
        self._stamps: dict[Path, Stamp] = {}
        self._embedding_size, self._rows = 0, 0
        with self._reported():
            outputs.table.parent.mkdir(parents=True, exist_ok=True)
            self._file: BinaryIO = outputs.journal.open("a+b")
            self._embeddings: BinaryIO | None = None
        try:
            self._lock()
            with self._reported():
                self._load()
                if outputs.embeddings is not None:
                    self._embeddings = outputs.journal_embeddings.open("a+b")
                    self._embeddings.truncate(4 * self._rows * self._embedding_size)
        except BaseException:
            self._file.close()
            raise

    def __enter__(self) -> Self:
        """Returns itself."""
        return self

    def __exit__(self, *exception: object) -> None:
        """Closes the files."""
        for file in (self._file, self._embeddings):
            if file is not None:
                with contextlib.suppress(OSError):
                    file.close()

    def __contains__(self, clip: Clip) -> bool:
        """Whether a clip has a result, of the file as it is now."""
        return self._key(clip) in self._offsets

    def write(self, clip: Clip, row: Row, embedding: Float32[np.ndarray, "E"]) -> None:
        """Adds the prediction of a clip.

        Raises:
          EmojaxError: it cannot be written.
        """
        tree: dict[str, Any] = {"row": row.json_tree()}
        if self._embeddings is not None:
            with self._reported():
                self._embeddings.write(embedding.astype("<f4").tobytes())
                self._embeddings.flush()
            tree["embedding"] = [self._rows, len(embedding)]
            self._rows, self._embedding_size = self._rows + 1, len(embedding)
        self._append(self._key(clip), tree)

    def fail(self, clip: Clip, message: str) -> None:
        """Adds a clip that failed.

        Raises:
          EmojaxError: it cannot be written.
        """
        self._append(self._key(clip), {"failed": message})

    def finish(self, clips: Sequence[Clip]) -> int:
        """Writes the outputs in the order of the clips, and removes the journal.

        Args:
          clips: every clip; each has a result.

        Returns:
          Number of clips that failed.

        Raises:
          EmojaxError: an output cannot be written; the journal is kept.
        """
        entries = ((clip, self._entry(clip)) for clip in clips)
        failures = [(c.file, c.start, c.end, tree["failed"]) for c, tree in entries if "failed" in tree]
        kept = [clip for clip in clips if not self._is_failure(clip)]
        if self._outputs.embeddings is not None:
            self._write_embeddings(self._outputs.embeddings, kept)
        rows = (Row.from_json(self._entry(clip)["row"]) for clip in kept)
        write_table(self._outputs.table, rows, self._outputs.format)
        with self._reported():
            if failures:
                write_failures(self._outputs.failures, failures)
            else:
                self._outputs.failures.unlink(missing_ok=True)
            self._outputs.journal_embeddings.unlink(missing_ok=True)
            self._outputs.journal.unlink()
        return len(failures)

    def _write_embeddings(self, path: Path, clips: Sequence[Clip]) -> None:
        with atomic_write(path) as temporary:
            if path.suffix == ".npy":
                self._copy_embeddings(temporary, clips)
                return
            array = path.with_name(f".{path.name}.array.tmp")
            try:
                rows = [self._entry(clip)["row"] for clip in clips]
                columns = {"embeddings": self._copy_embeddings(array, clips), "file": np.array([], str)}
                columns |= {name: np.array([row[name] for row in rows]) for name in ("start", "end")}
                if rows:
                    columns["file"] = np.array([row["file"] for row in rows])
                with zipfile.ZipFile(temporary, "w") as archive:
                    for name, values in columns.items():
                        with archive.open(f"{name}.npy", "w", force_zip64=True) as file:
                            np.lib.format.write_array(file, values, allow_pickle=False)
            finally:
                array.unlink(missing_ok=True)

    def _copy_embeddings(self, path: Path, clips: Sequence[Clip]) -> np.ndarray:
        """Writes a .npy file of the embeddings in the order of the clips; returns its array, on disk."""
        size = self._embedding_size
        if not clips:
            with path.open("wb") as file:
                np.save(file, np.zeros((0, size), np.float32))
            return np.zeros((0, size), np.float32)
        computed = np.memmap(self._outputs.journal_embeddings, "<f4", mode="r", shape=(self._rows, size))
        ordered = np.lib.format.open_memmap(path, mode="w+", dtype=np.float32, shape=(len(clips), size))
        for start in range(0, len(clips), _ROWS_AT_ONCE):
            part = clips[start : start + _ROWS_AT_ONCE]
            ordered[start : start + len(part)] = computed[[self._entry(clip)["embedding"][0] for clip in part]]
        ordered.flush()
        return ordered

    def _entry(self, clip: Clip) -> dict[str, Any]:
        self._file.seek(self._offsets[self._key(clip)])
        return json.loads(self._file.readline())

    def _key(self, clip: Clip) -> Key:
        """Key of a clip; the state of its file is read once, before it is decoded: a later change is noticed."""
        if clip.path not in self._stamps:
            try:
                status = clip.path.stat()
                self._stamps[clip.path] = status.st_size, status.st_mtime_ns
            except OSError:
                self._stamps[clip.path] = None
        return clip.file, clip.start, clip.end, clip.transcript, self._stamps[clip.path]

    def _is_failure(self, clip: Clip) -> bool:
        return "failed" in self._entry(clip)

    def _append(self, key: Key, tree: dict[str, Any]) -> None:
        with self._reported():
            self._offsets[key] = self._file.seek(0, 2)
            self._file.write(json.dumps({"key": key, **tree}, allow_nan=False).encode() + b"\n")
            self._file.flush()

    def _load(self) -> None:
        """Reads the entries, and removes an incomplete one at the end."""
        end = self._file.seek(0, 2)
        if end == 0:
            self._file.write(json.dumps(self._identity).encode() + b"\n")
            self._file.flush()
            return
        self._file.seek(0)
        position = 0
        for number, line in enumerate(iter(self._file.readline, b"")):
            tree = _parsed(line)
            if number == 0:
                self._check_identity(tree or {})
            elif tree is None or not self._add(tree, position):
                break
            position += len(line)
        self._file.truncate(position)

    def _add(self, tree: dict[str, Any], position: int) -> bool:
        """Adds an entry; False if its embedding is missing: the two files are not written at the same instant."""
        if "embedding" in tree:
            row, size = tree["embedding"]
            path = self._outputs.journal_embeddings
            if not path.exists() or path.stat().st_size < 4 * (row + 1) * size:
                return False
            self._rows, self._embedding_size = row + 1, size
        file, start, end, transcript, stamp = tree["key"]
        self._offsets[file, start, end, transcript, stamp and tuple(stamp)] = position
        return True

    def _check_identity(self, found: dict[str, Any]) -> None:
        if _VERSION_KEY not in found:
            raise EmojaxError(f"{self._outputs.journal}: is not a file of unfinished predictions; delete it")
        differing = [name for name in {**self._identity, **found} if self._identity.get(name) != found.get(name)]
        if differing:
            raise EmojaxError(
                f"{self._outputs.journal}: has results of another {', '.join(differing)}; delete it to start again"
            )

    def _lock(self) -> None:
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise EmojaxError(f"{self._outputs.journal}: another process writes it") from None
        except OSError:
            pass  # a file system without locks

    @contextlib.contextmanager
    def _reported(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise EmojaxError(f"{self._outputs.journal}: cannot be written ({error.strerror or error})") from error


def _parsed(line: bytes) -> dict[str, Any] | None:
    """A complete line; None for one that was cut."""
    if not line.endswith(b"\n"):
        return None
    try:
        tree = json.loads(line)
    except ValueError:
        return None
    return tree if isinstance(tree, dict) else None
