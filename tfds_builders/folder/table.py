"""Reader of the user's tables: CSV or JSON lines, one row per clip; several tables are joined."""

import collections
import dataclasses
import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from emojax.errors import CorpusError
from emojax.segment_times import check_segment, parse_end, parse_seconds
from emojax.tables import is_unicode, parse_csv, parse_json_lines, parse_number
from emojax.text_files import read_text
from tfds_builders.folder.columns import match_columns, unused_columns
from tfds_builders.folder.description import DESCRIPTION, LABELS, VOTES, Description

NO_CONSENSUS = "-1"
"""Value of `emotion` without consensus."""

_TEXT_TABLES = (".csv", ".tsv")
_JSON_TABLES = (".jsonl",)


@dataclasses.dataclass(slots=True)
class Row:
    """A row of the table.

    Attributes:
      context: file and line, for error messages.
      values: stripped text by schema column; "" where missing; columns that the table does not have are absent.
      start: start of the clip (s).
      end: end of the clip (s); None for the end of the file.
    """

    context: str
    values: dict[str, str]
    start: float
    end: float | None

    def text(self, name: str) -> str:
        """Returns the text of a column with normalised whitespace; "" where missing."""
        return " ".join(self.values.get(name, "").split())

    def number(self, name: str) -> float:
        """Returns the number in a column; NaN where missing.

        Raises:
          CorpusError: the value is not a finite number.
        """
        text = self.values.get(name, "")
        if not text:
            return float("nan")
        try:
            return parse_number(text)
        except ValueError as error:
            raise CorpusError(f"{self.context}: {name} {text!r:.60} {error}") from error

    @property
    def segment(self) -> tuple[str, float, float | None]:
        """Key of the row: file, start and end."""
        return self.values["path"], self.start, self.end


@dataclasses.dataclass(frozen=True)
class Table:
    """The joined tables of a user.

    Attributes:
      paths: table files.
      rows: rows in the order of the first table; at least one.
      columns: schema columns that at least one table has.
      remarks: one-line remarks on how the tables were read.
    """

    paths: tuple[Path, ...]
    rows: list[Row]
    columns: frozenset[str]
    remarks: tuple[str, ...]


@dataclasses.dataclass(frozen=True)
class _File:
    path: Path
    header: list[str]
    columns: dict[str, str]
    rows: list[Row]
    remarks: list[str]


def read_table(folder: Path, description: Description) -> Table:
    """Reads and joins the tables of a folder.

    Raises:
      CorpusError: a table is missing, invalid, or has no path or rows; a row is invalid, occurs twice or contradicts
        another; or there are no labels and `unlabelled` is not set.
    """
    files = [_read_file(folder / name, description) for name in description.tables]
    for ours, theirs in description.columns.items():
        if not any(ours in file.columns for file in files):
            header = ", ".join(dict.fromkeys(name for file in files for name in file.header))
            raise CorpusError(f"{files[0].path}: has no column {theirs!r}; its columns are {header}")
    first, *others = files
    remarks = [f"{file.path.name}: {line}" for file in files for line in file.remarks]
    for other in others:
        remarks += _join(first, other)
    table = Table(
        paths=tuple(file.path for file in files),
        rows=first.rows,
        columns=frozenset(name for file in files for name in file.columns),
        remarks=tuple(remarks),
    )
    if not description.unlabelled:
        _check_labels(table, files)
    return table


def _read_file(path: Path, description: Description) -> _File:
    if not path.is_file():
        raise CorpusError(f"{path}: no such file, named in {DESCRIPTION}")
    text, is_unicode = read_text(path)
    header, raw = _raw_rows(text, path)
    if not header:
        raise CorpusError(f"{path}: has no rows")
    columns = match_columns(header, description.columns, str(path))
    remarks = unused_columns(header, columns.values(), columns)
    if "path" not in columns:
        wanted = description.columns.get("path", "path")
        near = "".join(f"; {line}" for line in remarks if "did you mean" in line)
        raise CorpusError(f"{path}: has no column {wanted!r}; its columns are {', '.join(header)}{near}")
    missing: collections.Counter[tuple[str, str]] = collections.Counter()
    rows: dict[tuple[str, float, float | None], Row] = {}
    empty = 0
    for line, values in raw:
        row = _row(f"{path}, line {line}", values, columns, description.missing, missing)
        if row is None:
            empty += 1
        elif row.segment in rows:
            raise CorpusError(f"{row.context}: {row.values['path']!r} occurs twice, first: {rows[row.segment].context}")
        else:
            rows[row.segment] = row
    if not rows:
        raise CorpusError(f"{path}: has no rows")
    if missing:
        listed = ", ".join(f"{value!r} in {name} ({count})" for (name, value), count in sorted(missing.items()))
        remarks.append(f"read as missing: {listed}")
    if empty:
        remarks.append(f"empty rows skipped: {empty}")
    if not is_unicode:
        remarks.append("not UTF-8; read as Windows-1252")
    return _File(path, header, columns, list(rows.values()), remarks)


def _raw_rows(text: str, path: Path) -> tuple[list[str], Iterable[tuple[int, dict[str, Any]]]]:
    if path.suffix.lower() in _JSON_TABLES:
        rows = list(parse_json_lines(text, path))
        return list(dict.fromkeys(name for _, row in rows for name in row)), rows
    if path.suffix.lower() in _TEXT_TABLES:
        header, records = parse_csv(text, path)
        return header, ((line, dict(zip(header, fields, strict=True))) for line, fields in records)
    raise CorpusError(f"{path}: must be a {', '.join((*_TEXT_TABLES, *_JSON_TABLES))} file")


def _row(
    context: str,
    raw: dict[str, Any],
    columns: dict[str, str],
    missing_values: frozenset[str],
    missing: collections.Counter[tuple[str, str]],
) -> Row | None:
    values = {}
    for ours, theirs in columns.items():
        text = _text(raw.get(theirs), theirs, context)
        if text in missing_values:
            missing.update([(ours, text)] if text else [])
            text = ""
        values[ours] = text
    if not any(values.values()):
        return None
    if not values["path"]:
        raise CorpusError(f"{context}: path is missing")
    times: dict[str, float | None] = {"start": 0.0, "end": None}
    for name, parse in (("start", parse_seconds), ("end", parse_end)):
        try:
            times[name] = parse(values[name]) if values.get(name) else times[name]
        except ValueError as error:
            raise CorpusError(f"{context}: {name} {values[name]!r:.60} {error}") from error
    start, end = times["start"] or 0.0, times["end"]
    try:
        check_segment(start, end)
    except ValueError as error:
        raise CorpusError(f"{context}: {error}") from error
    return Row(context, values, start, end)


def _text(value: Any, name: str, context: str) -> str:
    if value is None:
        return ""
    if not isinstance(value, str):
        raise CorpusError(f"{context}: {name} must be text, a number or null, got {json.dumps(value)[:60]}")
    if not is_unicode(value):
        raise CorpusError(f"{context}: {name} must be text, got {json.dumps(value)[:60]}")
    return value.strip()


def _join(first: _File, other: _File) -> list[str]:
    """Adds the values of another table to rows of the first; a table without times applies to all clips of a file."""
    by_path = not {"start", "end"} & set(other.columns)
    partners: dict[Any, list[Row]] = collections.defaultdict(list)
    for row in first.rows:
        partners[row.values["path"] if by_path else row.segment].append(row)
    unmatched, joined = 0, set()
    for row in other.rows:
        key = row.values["path"] if by_path else row.segment
        unmatched += key not in partners
        joined.add(key)
        for partner in partners.get(key, ()):
            _merge(partner, row)
    if unmatched == len(other.rows):
        raise CorpusError(f"{other.path}: no row has path, start and end of a row of {first.path.name}")
    alone = sum(len(rows) for key, rows in partners.items() if key not in joined)
    remarks = [f"{other.path.name}: rows without match in {first.path.name}: {unmatched}"] if unmatched else []
    return remarks + ([f"{first.path.name}: rows without match in {other.path.name}: {alone}"] if alone else [])


def _merge(row: Row, other: Row) -> None:
    for name, value in other.values.items():
        existing = row.values.get(name, "")
        if name in ("path", "start", "end") or not value:
            continue
        if existing not in ("", value):
            raise CorpusError(f"{other.context}: {name} {value!r} contradicts {existing!r} in {row.context}")
        row.values[name] = value


def _check_labels(table: Table, files: list[_File]) -> None:
    labels = [name for name in table.columns if name in LABELS or name.startswith(VOTES)]
    if any(row.values.get(name, "") not in ("", NO_CONSENSUS) for row in table.rows for name in labels):
        return
    names = ", ".join(file.path.name for file in files)
    fault = f"every value of {', '.join(sorted(labels))} is missing" if labels else "has no column of labels"
    near = "".join(f"; {line}" for line in table.remarks if "did you mean" in line or "unused" in line)
    raise CorpusError(
        f"{files[0].path.parent}: {names}: {fault} ({', '.join(LABELS)}, {VOTES}CATEGORY){near}; "
        f'for a corpus without labels set "unlabelled": true in {DESCRIPTION}'
    )
