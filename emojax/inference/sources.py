"""Clips to predict: files, folders, lists and tables with segments, standard input."""

import contextlib
import dataclasses
import os
import re
import shutil
import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, BinaryIO

from emojax.errors import AudioError, CorpusError
from emojax.evaluation.predictions import read_cell
from emojax.segment_times import check_segment, parse_end, parse_seconds
from emojax.tables import MISSING_VALUES, parse_csv, parse_json_lines
from emojax.text_files import decode_text, read_text

AUDIO_SUFFIXES = (
    *(".aac", ".aif", ".aiff", ".amr", ".au", ".caf", ".flac", ".m4a", ".mp3"),
    *(".mp4", ".oga", ".ogg", ".opus", ".w64", ".wav", ".webm", ".wma"),
)
"""Suffixes of the files in a folder that are predicted."""

TABLE_SUFFIXES = (".csv", ".tsv", ".jsonl", ".parquet", ".txt")
"""Suffixes of tables (`file`, optional `start`, `end`, `transcript`) and of lists, one path per line (.txt)."""

STDIN = "-"

_FILE_COLUMNS = ("file", "path")
_OPTIONAL = ("start", "end", "transcript")

_HEAD = 4096
"""Bytes of standard input that tell text from audio."""


@dataclasses.dataclass(frozen=True)
class Clip:
    """A file, or a segment of it.

    Attributes:
      file: file as it was given, in outputs and messages.
      path: path that is opened.
      start: start of the segment (s).
      end: end of the segment (s); None: end of the file.
      transcript: words; None: unknown.
    """

    file: str
    path: Path
    start: float = 0.0
    end: float | None = None
    transcript: str | None = None

    @property
    def name(self) -> str:
        """Name in messages."""
        if self.end is None:
            return self.file if self.start == 0 else f"{self.file} [{self.start:.15g} s to its end]"
        return f"{self.file} [{self.start:.15g} to {self.end:.15g} s]"


@contextlib.contextmanager
def open_sources(inputs: Sequence[str], root: Path | None, stdin: BinaryIO) -> Iterator[list[Clip]]:
    """Lists the clips of the arguments of a command; audio from standard input is a temporary file until the end.

    Args:
      inputs: audio files, folders (searched recursively), tables, lists, or "-": standard input, which is a list of
        files, a table, or the content of an audio file.
      root: folder of the relative paths in tables; None: the table's own (standard input: the current folder).
      stdin: standard input.

    Raises:
      AudioError: a path does not exist, a folder has no audio file, or there is no clip.
      CorpusError: a table is invalid; the message names its line.
    """
    clips: list[Clip] = []
    plain: set[Path] = set()  # files that were given twice, e.g. in a folder and by name, are predicted once
    with contextlib.ExitStack() as stack:
        for text in inputs:
            path = Path(text)
            if text == STDIN:
                clips += stack.enter_context(_standard_input(stdin, root))
            elif path.suffix.lower() in TABLE_SUFFIXES and not path.is_dir():
                clips += read_clip_table(path, root)
            else:
                found = [file for file in find_audio(path) if file not in plain]
                plain |= set(found)
                clips += [Clip(str(file), file) for file in found]
        if not clips:
            raise AudioError(f"{', '.join(inputs)}: no clip to predict")
        yield clips


def find_audio(path: Path) -> list[Path]:
    """A file, or the files of a folder with an audio suffix, sorted by path, links without a file included.

    Raises:
      AudioError: the path does not exist, or the folder has no audio file.
    """
    if not path.is_dir():
        if not path.exists():
            raise AudioError(f"{path}: no such file or folder")
        return [path]
    found = sorted(
        file
        for file in path.rglob("*")
        if file.suffix.lower() in AUDIO_SUFFIXES and not file.name.startswith(".") and not file.is_dir()
    )
    if not found:
        raise AudioError(f"{path}: has no audio file ({', '.join(AUDIO_SUFFIXES)})")
    return found


def read_clip_table(path: Path, root: Path | None) -> list[Clip]:
    """Reads a table or list.

    Tables are CSV, JSON lines or Parquet with a column `file` (or `path`), and optionally `start` and `end`, in seconds
    or as times of pandas and audformat (`0 days 00:00:01.5`; empty, NaT: start or end of the file), and `transcript`.
    Other columns are ignored. A list (.txt) has one path per line.

    Args:
      path: file.
      root: folder of relative paths; None: that of the file.

    Raises:
      CorpusError: the table cannot be read, has no column `file`, or a row is invalid; the message names the line.
    """
    root = path.parent if root is None else root
    suffix = path.suffix.lower()
    if suffix == ".parquet":
        return _clips_of_rows(_parquet_rows(path), path, root)
    text, _ = read_text(path)
    if suffix == ".txt":
        return _clips_of_list(text, root)
    if suffix == ".jsonl":
        return _clips_of_rows(parse_json_lines(text, path), path, root)
    return _clips_of_rows(_csv_rows(text, path), path, root)


@contextlib.contextmanager
def _standard_input(stdin: BinaryIO, root: Path | None) -> Iterator[list[Clip]]:
    head = stdin.read(_HEAD)
    if not head:
        raise AudioError("standard input: is empty")
    if _is_audio(head):
        with tempfile.NamedTemporaryFile(prefix="emojax-") as file:
            file.write(head)
            shutil.copyfileobj(stdin, file)
            file.flush()
            yield [Clip(STDIN, Path(file.name))]
        return
    name, root = Path("standard input"), Path() if root is None else root
    text = decode_text(head + stdin.read())[0]
    first = text.lstrip().split("\n", 1)[0].strip()
    if first.startswith("{"):
        yield _clips_of_rows(parse_json_lines(text, name), name, root)
    elif set(_FILE_COLUMNS) & {cell.strip(' "').casefold() for cell in re.split(r"[,;\t|]", first)}:
        yield _clips_of_rows(_csv_rows(text, name), name, root)
    else:
        yield _clips_of_list(text, root)


def _is_audio(head: bytes) -> bool:
    """Whether bytes are not text; the last character may be cut."""
    if b"\0" in head:
        return True
    try:
        head.decode()
    except UnicodeDecodeError as error:
        return error.start < len(head) - 3
    return False


def _clips_of_list(text: str, root: Path) -> list[Clip]:
    files = [line.strip() for line in text.split("\n")]
    return [Clip(file, root / file) for file in files if file]


def _csv_rows(text: str, path: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    header, records = parse_csv(text, path)
    _file_column(header, path)
    return ((line, dict(zip(header, map(read_cell, fields), strict=True))) for line, fields in records)


def _parquet_rows(path: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    from emojax.inference.tables import import_pyarrow

    pyarrow, parquet = import_pyarrow()
    try:
        with parquet.ParquetFile(path) as file:
            names = [name for name in file.schema_arrow.names if name.casefold() in {*_FILE_COLUMNS, *_OPTIONAL}]
            _file_column(names or file.schema_arrow.names, path)
            line = 0
            for batch in file.iter_batches(columns=names):
                columns = {name: _texts(batch.column(name)) for name in names}
                for number in range(batch.num_rows):
                    line += 1
                    yield line, {name: values[number] for name, values in columns.items()}
    except (OSError, pyarrow.ArrowException) as error:
        raise CorpusError(f"{path}: cannot be read as Parquet ({str(error).splitlines()[0][:200]})") from error


def _texts(column: Any) -> list[str | None]:
    """Values of a column as text; durations in seconds."""
    from emojax.inference.tables import import_pyarrow

    pyarrow, _ = import_pyarrow()
    if pyarrow.types.is_duration(column.type):
        values = column.cast(pyarrow.duration("ns")).cast(pyarrow.int64()).to_pylist()
        return [None if value is None else repr(value / 1e9) for value in values]
    return [None if value is None else str(value) for value in column.to_pylist()]


def _file_column(header: Iterable[str], path: Path) -> str:
    folded = {name.casefold(): name for name in header}
    for name in _FILE_COLUMNS:
        if name in folded:
            return folded[name]
    raise CorpusError(f"{path}: has no column 'file'; its columns are {', '.join(folded.values())}")


def _clips_of_rows(rows: Iterable[tuple[int, Mapping[str, Any]]], path: Path, root: Path) -> list[Clip]:
    return [_clip(row, f"{path}, line {line}", path, root) for line, row in rows]


def _clip(row: Mapping[str, Any], context: str, path: Path, root: Path) -> Clip:
    column = _file_column(row, path)
    folded = {name.casefold(): name for name in row}
    values = {"file": _text(row[column], context, "file")}
    values |= {name: _text(row[folded[name]], context, name) for name in _OPTIONAL if name in folded}
    if not values["file"]:
        raise CorpusError(f"{context}: file is missing")
    times: dict[str, float | None] = {}
    for name, parse in (("start", parse_seconds), ("end", parse_end)):
        text = values.get(name, "")
        try:
            times[name] = None if text in MISSING_VALUES else parse(text)
        except ValueError as error:
            raise CorpusError(f"{context}: {name} {text!r:.60} {error}") from error
    start, end = times["start"] or 0.0, times["end"]
    try:
        check_segment(start, end)
    except ValueError as error:
        raise CorpusError(f"{context}: {error}") from error
    return Clip(values["file"], root / os.path.expanduser(values["file"]), start, end, values.get("transcript") or None)


def _text(value: Any, context: str, name: str) -> str:
    if value is None:
        return ""
    if not isinstance(value, str):
        raise CorpusError(f"{context}: {name} must be text, a number or null, got {str(value)[:60]}")
    return value.strip()
