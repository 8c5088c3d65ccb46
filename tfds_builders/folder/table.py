"""The user's table: CSV or JSON lines, one row per clip, joined and checked."""

import collections
import csv
import json
import math
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from emojax.errors import CorpusError
from tfds_builders.folder.description import COLUMNS, Description
from tfds_builders.text_files import read_text

Row = dict[str, str]
"""Values by our column names, as text, stripped; a column the table lacks is absent."""

_ALIASES = {"path": "file", "activation": "arousal", "split": "partition", "gender": "sex"}
"""Columns that are called so in audformat and elsewhere, taken where ours is not there."""

_TIME = re.compile(r"(?:(\d+) days?,? )?(?:(\d+):)?(\d+):(\d+(?:\.\d+)?)")


def read_rows(folder: Path, description: Description) -> list[tuple[str, Row]]:
    """Rows of all tables, joined by path, start and end, each with its place for messages.

    Raises:
      CorpusError: a table is missing or of another form, or lacks the path.
    """
    joined: dict[tuple[str, str, str], tuple[str, Row]] = {}
    for number, name in enumerate(description.tables):
        path = folder / name
        if not path.is_file():
            raise CorpusError(f"{path}: no such file, but corpus.json names it")
        for place, raw in _rows(path):
            row = _named(raw, description.columns, place)
            if "path" not in row:
                wanted = description.columns.get("path", "path")
                raise CorpusError(f"{place}: has no column {wanted!r}; its columns are {', '.join(raw)}")
            key = row["path"], row.get("start", ""), row.get("end", "")
            if number == 0:
                if key in joined:
                    raise CorpusError(f"{place}: {row['path']!r} occurs twice")
                joined[key] = place, row
            elif key in joined:
                joined[key][1].update(row)
    if not joined:
        raise CorpusError(f"{folder / description.tables[0]}: has no rows")
    return list(joined.values())


def _rows(path: Path) -> Iterator[tuple[str, dict[str, str]]]:
    lines = read_text(path)[0].splitlines()
    if path.suffix.lower() == ".jsonl":
        for number, line in enumerate(lines, start=1):
            if line.strip():
                yield f"{path}, line {number}", _json_row(line, f"{path}, line {number}")
    elif path.suffix.lower() == ".csv":
        reader = csv.DictReader(lines)
        for row in reader:
            if None in row or None in row.values():
                raise CorpusError(f"{path}, line {reader.line_num}: has not as many fields as the header")
            yield f"{path}, line {reader.line_num}", row
    else:
        raise CorpusError(f"{path}: is not allowed; allowed: a .csv or .jsonl file")


def _json_row(line: str, place: str) -> dict[str, str]:
    try:
        row = json.loads(line)
    except ValueError as error:
        raise CorpusError(f"{place}: is no JSON ({error})") from error
    if not isinstance(row, dict):
        raise CorpusError(f"{place}: holds no JSON object")
    return {name: "" if value is None else str(value) for name, value in row.items()}


def _named(raw: Mapping[str, str], columns: Mapping[str, str], place: str) -> Row:
    row = {}
    for ours, theirs in columns.items():
        if theirs not in raw:
            raise CorpusError(f"{place}: has no column {theirs!r}; its columns are {', '.join(raw)}")
        row[ours] = raw[theirs].strip()
    for name in (*COLUMNS, *(name for name in raw if name.startswith("votes_"))):
        written = name if name in raw else _ALIASES.get(name, "")
        if name not in row and written in raw and written not in columns.values():
            row[name] = raw[written].strip()
    return row


def number(row: Row, name: str, place: str) -> float:
    """A number of a row; NaN where it is missing.

    Raises:
      CorpusError: it is no number.
    """
    text = row.get(name, "")
    if text.lower() in ("", "nan", "none", "null"):
        return math.nan
    try:
        return float(text)
    except ValueError as error:
        raise CorpusError(f"{place}: {name} {text!r} is no number") from error


def seconds(row: Row, name: str, place: str) -> float | None:
    """A time of a row in seconds, written as a number or as `0 days 00:00:01.5`; None where it is missing.

    Raises:
      CorpusError: it is no time.
    """
    text = row.get(name, "")
    if text.lower() in ("", "nat", "nan"):
        return None
    match = _TIME.fullmatch(text)
    if match:
        days, hours, minutes, rest = match.groups()
        return int(days or 0) * 86_400 + int(hours or 0) * 3_600 + int(minutes) * 60 + float(rest)
    return number(row, name, place)


def speaker_splits(speakers: collections.Counter[str], seed: int) -> dict[str, str]:
    """A split for every speaker, about 70, 15 and 15 % of the clips to train, dev and test.

    Raises:
      CorpusError: there are fewer than three speakers.
    """
    import random

    if len(speakers) < 3:
        raise CorpusError(f"the table has no column 'split' and {len(speakers)} speakers; allowed: at least 3 speakers")
    order = sorted(speakers)
    random.Random(seed).shuffle(order)
    order.sort(key=lambda speaker: -speakers[speaker])  # the largest first, so that the shares come out
    total, filled, splits = speakers.total(), collections.Counter[str](), {}
    shares: dict[str, Any] = {"train": 0.7, "dev": 0.15, "test": 0.15}
    for speaker in order:
        split = min(shares, key=lambda name: filled[name] / (shares[name] * total))
        splits[speaker] = split
        filled[split] += speakers[speaker]
    return splits
