"""Tables of corpora, CSV or JSON lines: the csv and json modules get unsplit text, and errors name the line."""

import csv
import io
import json
import math
import re
from collections.abc import Collection, Iterator, Sequence
from pathlib import Path
from typing import Any

from emojax.errors import CorpusError
from emojax.files import parse_json
from tfds_builders.text_files import read_text

MISSING_VALUES = frozenset(
    {
        *("", "#N/A", "#N/A N/A", "#NA", "-1.#IND", "-1.#QNAN", "-NaN", "-nan", "1.#IND", "1.#QNAN", "<NA>"),
        *("N/A", "NA", "NULL", "NaN", "None", "n/a", "nan", "null"),
        *("NaT", "none"),
    }
)
"""Values that mean "missing" in any column of any corpus: those of `pandas.read_csv`, its `NaT`, and `none`."""

_NUMBER = re.compile(r"[+-]?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?")

_NO_TEXT = re.compile("[\0\ud800-\udfff]")

_DELIMITERS = (",", ";", "\t", "|")


def parse_csv(text: str, path: Path) -> tuple[list[str], Iterator[tuple[int, list[str]]]]:
    """Parses CSV; its delimiter, comma, semicolon, tab or bar, is the one that divides the header most.

    Args:
      text: the whole file.
      path: where it is from, for messages.

    Returns:
      The header, and the rows, each with the line it begins in and as many fields as the header; all fields stripped.
      Empty lines are skipped.

    Raises:
      CorpusError: it has no header or two columns of one name, or (while rows are read) is no CSV or has a row of
        another number of fields than the header.
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
    return header, _checked(path, records, len(header))


def read_table(
    path: Path, needed: Sequence[str], optional: Sequence[str] = (), missing: Collection[str] = MISSING_VALUES
) -> Iterator[tuple[int, dict[str, str]]]:
    """Rows of a CSV file of known columns, each with its line; upper and lower case in the header are the same.

    Args:
      path: the file.
      needed: columns that must be there.
      optional: columns that are read where they are there.
      missing: values that are read as "".

    Raises:
      CorpusError: as `parse_csv`; the file cannot be read, or a column is missing.
    """
    header, rows = parse_csv(read_text(path)[0], path)
    folded = [name.casefold() for name in header]
    for name in needed:
        if name.casefold() not in folded:
            raise CorpusError(f"{path}: has no column {name!r}; its columns are {', '.join(header)}")
    columns = [(name, folded.index(name.casefold())) for name in (*needed, *optional) if name.casefold() in folded]
    for line, fields in rows:
        yield line, {name: "" if fields[place] in missing else fields[place] for name, place in columns}


def parse_json_lines(text: str, path: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    """Objects of JSON lines, each with its line; numbers are text, as they are written, and NaN is None.

    Args:
      text: the whole file.
      path: where it is from, for messages.

    Raises:
      CorpusError: a line holds no JSON object.
    """
    for line, row in enumerate(text.split("\n"), start=1):
        if row.strip():
            yield line, json_object(row, f"{path}, line {line}", numbers_as_text=True)


def json_object(text: str, place: str, numbers_as_text: bool = False) -> dict[str, Any]:
    """Parses a JSON object.

    Args:
      text: JSON.
      place: where it is from, for messages.
      numbers_as_text: whether numbers are text, as they are written, and NaN is None.

    Raises:
      CorpusError: it is no JSON, no object, or has a key twice.
    """

    def unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        found: dict[str, Any] = {}
        for name, value in pairs:
            if name in found:
                raise CorpusError(f"{place}: has the key {name!r} twice")
            found[name] = value
        return found

    options: dict[str, Any] = {"object_pairs_hook": unique}
    if numbers_as_text:
        options |= {"parse_int": str, "parse_float": str, "parse_constant": _json_constant}
    found = parse_json(text, place, CorpusError, **options)
    if not isinstance(found, dict):
        raise CorpusError(f"{place}: must hold a JSON object, got {type(found).__name__}")
    return found


def parse_number(text: str) -> float:
    """A finite number in decimal digits; `float` would also take `inf`, `nan` and `1_000`.

    Raises:
      ValueError: it is none; the message says so without the text.
    """
    if not _NUMBER.fullmatch(text) or not math.isfinite(float(text)):
        raise ValueError("is no finite number" + ("; decimals have a point" if "," in text else ""))
    return float(text)


def is_unicode(value: Any) -> bool:
    """Whether a value from JSON can be stored as text: JSON can hold halves of surrogate pairs, and NUL."""
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
    # newline="" leaves line ends as they are: within quotes they belong to the field.
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, skipinitialspace=True, strict=True)
    while True:
        line = reader.line_num + 1
        try:
            fields = next(reader)
        except StopIteration:
            return
        except csv.Error as error:
            raise CorpusError(
                f'{path}, line {line}: is no CSV ({error}); a quote within a quoted field is written ""'
            ) from error
        if fields:
            yield line, [field.strip() for field in fields]


def _checked(path: Path, records: Iterator[tuple[int, list[str]]], width: int) -> Iterator[tuple[int, list[str]]]:
    for line, fields in records:
        if len(fields) != width:
            raise CorpusError(f"{path}, line {line}: has not as many fields as the header ({len(fields)}, not {width})")
        yield line, fields
