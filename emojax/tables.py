"""Parsers of CSV and JSON-lines tables, with errors that name the line."""

import csv
import io
import json
import math
import re
from collections.abc import Collection, Iterator, Sequence
from pathlib import Path
from typing import Any

from emojax.errors import CorpusError, EmojaxError, reason
from emojax.files import parse_json
from emojax.text_files import read_text

MISSING_VALUES = frozenset(
    {
        *("", "#N/A", "#N/A N/A", "#NA", "-1.#IND", "-1.#QNAN", "-NaN", "-nan", "1.#IND", "1.#QNAN", "<NA>"),
        *("N/A", "NA", "NULL", "NaN", "None", "n/a", "nan", "null"),
        *("NaT", "none"),
    }
)
"""Missing values in any column: those of `pandas.read_csv`, `NaT` and `none`."""

_NUMBER = re.compile(r"[+-]?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?")

_NO_TEXT = re.compile("[\0\ud800-\udfff]")

_DELIMITERS = (",", ";", "\t", "|")


def parse_csv(text: str, path: Path) -> tuple[list[str], Iterator[tuple[int, list[str]]]]:
    """Parses CSV; the delimiter (comma, semicolon, tab or bar) is the one that gives the most columns.

    Args:
      text: content of the file.
      path: path in error messages.

    Returns:
      Header, and rows with the number of their first line and as many fields as the header; all fields stripped. Empty
      lines are skipped.

    Raises:
      CorpusError: the header is missing or has duplicate names, or (while rows are read) the CSV is invalid or a row
        has another number of fields.
    """
    if "\0" in text:
        raise CorpusError(f"{path}, line {text.count(chr(10), 0, text.index(chr(0))) + 1}: holds a NUL byte")
    records = _records(path, text, _delimiter(text))
    _, header = next(records, (0, []))
    if not any(header):
        raise CorpusError(f"{path}: has no header")
    for name in header:
        if name and header.count(name) > 1:
            raise CorpusError(f"{path}: has {header.count(name)} columns {name!r}")
    return header, _check_widths(path, records, len(header))


def read_rows(path: Path, context: str, error: type[EmojaxError]) -> tuple[list[dict[str, Any]], list[str]]:
    """Reads all rows of a comma-separated file with a header, as `csv.DictReader` does.

    Args:
      path: file, UTF-8.
      context: name of the file in error messages.
      error: class of the error raised.

    Returns:
      Rows by column, and the columns. A field that a row lacks is None.

    Raises:
      EmojaxError: of class `error`: the file cannot be read, or is not CSV.
    """
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            reader = csv.DictReader(file, strict=True)
            return list(reader), list(reader.fieldnames or ())
    except OSError as problem:
        raise error(f"{context}: cannot be read ({problem.strerror or problem})") from problem
    except (ValueError, csv.Error) as problem:
        raise error(f"{context}: cannot be read ({reason(problem)})") from problem


def read_table(
    path: Path, needed: Sequence[str], optional: Sequence[str] = (), missing: Collection[str] = MISSING_VALUES
) -> Iterator[tuple[int, dict[str, str]]]:
    """Reads the rows of a CSV file with their line numbers; column names are case-insensitive.

    Args:
      path: CSV file.
      needed: required columns.
      optional: columns that are read if present.
      missing: values that are read as "".

    Raises:
      CorpusError: as for `parse_csv`; the file cannot be read, or a column is missing.
    """
    header, rows = parse_csv(read_text(path)[0], path)
    folded = [name.casefold() for name in header]
    for name in needed:
        if name.casefold() not in folded:
            raise CorpusError(f"{path}: has no column {name!r}; its columns are {', '.join(header)}")
    columns = [(name, folded.index(name.casefold())) for name in (*needed, *optional) if name.casefold() in folded]
    for line, fields in rows:
        yield line, {name: "" if fields[index] in missing else fields[index] for name, index in columns}


def parse_json_lines(text: str, path: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    """Parses JSON lines to objects with their line numbers; numbers are kept as text, and NaN is None.

    Args:
      text: content of the file.
      path: path in error messages.

    Raises:
      CorpusError: a line is not a JSON object.
    """
    for line, row in enumerate(text.split("\n"), start=1):
        if row.strip():
            yield line, json_object(row, f"{path}, line {line}", numbers_as_text=True)


def json_object(text: str, context: str, numbers_as_text: bool = False) -> dict[str, Any]:
    """Parses a JSON object.

    Args:
      text: JSON.
      context: file, or file and line, named in error messages.
      numbers_as_text: whether numbers are kept as text, and NaN is None.

    Raises:
      CorpusError: the text is not JSON, not an object, or has a duplicate key.
    """

    def unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        found: dict[str, Any] = {}
        for name, value in pairs:
            if name in found:
                raise CorpusError(f"{context}: has the key {name!r} twice")
            found[name] = value
        return found

    options: dict[str, Any] = {"object_pairs_hook": unique}
    if numbers_as_text:
        options |= {"parse_int": str, "parse_float": str, "parse_constant": _json_constant}
    found = parse_json(text, context, CorpusError, **options)
    if not isinstance(found, dict):
        raise CorpusError(f"{context}: must hold a JSON object, got {type(found).__name__}")
    return found


def parse_number(text: str) -> float:
    """Parses a finite decimal number; unlike `float`, rejects `inf`, `nan` and `1_000`.

    Raises:
      ValueError: the text is not a number; the message does not contain the text.
    """
    if not _NUMBER.fullmatch(text) or not math.isfinite(float(text)):
        raise ValueError("is not a finite number" + ("; decimals have a point" if "," in text else ""))
    return float(text)


def is_unicode(value: Any) -> bool:
    """Whether a value from JSON can be stored as text: it contains no lone surrogates and no NUL."""
    return not _NO_TEXT.search(json.dumps(value, ensure_ascii=False) if not isinstance(value, str) else value)


def _json_constant(name: str) -> str | None:
    return None if name == "NaN" else name


def _delimiter(text: str) -> str:
    def width(delimiter: str) -> int:
        reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, skipinitialspace=True)
        try:
            return len(next((row for row in reader if row), ()))
        except csv.Error:
            return 0

    return max(_DELIMITERS, key=width)


def _records(path: Path, text: str, delimiter: str) -> Iterator[tuple[int, list[str]]]:
    # newline="" keeps line ends, which are part of quoted fields.
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, skipinitialspace=True, strict=True)
    while True:
        line = reader.line_num + 1
        try:
            fields = next(reader)
        except StopIteration:
            return
        except csv.Error as error:
            raise CorpusError(
                f'{path}, line {line}: is not valid CSV ({error}); a quote within a quoted field is written ""'
            ) from error
        if fields:
            yield line, [field.strip() for field in fields]


def _check_widths(path: Path, records: Iterator[tuple[int, list[str]]], width: int) -> Iterator[tuple[int, list[str]]]:
    for line, fields in records:
        if len(fields) != width:
            raise CorpusError(f"{path}, line {line}: must have {width} fields like the header, got {len(fields)}")
        yield line, fields
