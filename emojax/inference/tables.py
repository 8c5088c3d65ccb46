"""Rows of predictions, and tables of them: CSV, JSON lines, Parquet."""

import csv
import dataclasses
import itertools
import json
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, Literal, Protocol, TextIO

import numpy as np

from emojax.errors import ConfigError
from emojax.evaluation.predictions import write_cell
from emojax.files import atomic_write
from emojax.inference.distributions import RatingDistribution
from emojax.inference.predictor import Prediction

Format = Literal["csv", "jsonl", "parquet"]

FORMATS: tuple[Format, ...] = ("csv", "jsonl", "parquet")

_ROWS_AT_ONCE = 4096
"""Rows of a Parquet row group."""


@dataclasses.dataclass(frozen=True)
class Row:
    """Prediction of a clip, without its embedding.

    Attributes:
      file: file as it was given.
      start: start in the file (s).
      end: end in the file (s).
      attributes: see `Prediction`.
      emotions: see `Prediction`.
      ratings: see `Prediction`.
      transcript: words the model was given; None if it was given none.
    """

    file: str
    start: float
    end: float
    attributes: dict[str, float]
    emotions: dict[str, float]
    ratings: dict[str, RatingDistribution]
    transcript: str | None = None

    @classmethod
    def of(cls, file: str, start: float, end: float, prediction: Prediction, transcript: str | None) -> "Row":
        """Row of a prediction."""
        return cls(file, start, end, prediction.attributes, prediction.emotions, prediction.ratings, transcript)

    def json_tree(self) -> dict[str, Any]:
        """Tree for a line of JSON: `file`, `start`, `end`, `attributes`, `emotion` (null without categories),
        `emotions`, `ratings` and `transcript` where there are any."""
        prediction = Prediction(self.attributes, self.emotions, np.zeros(0, np.float32), self.ratings)
        tree = {"file": self.file, "start": self.start, "end": self.end, **prediction.json_tree()}
        return tree | ({} if self.transcript is None else {"transcript": self.transcript})

    @classmethod
    def from_json(cls, tree: dict[str, Any]) -> "Row":
        """Row of `json_tree`."""
        ratings = {
            name: RatingDistribution(tuple(each["values"]), tuple(each["probabilities"]))
            for name, each in tree.get("ratings", {}).items()
        }
        names = ("file", "start", "end", "attributes", "emotions", "transcript")
        fields: dict[str, Any] = {name: tree.get(name) for name in names}
        return cls(**fields, ratings=ratings)

    def columns(self) -> dict[str, str | float]:
        """Values by column: `file`, `start`, `end`, each attribute, those of `RatingDistribution.columns`, `emotion`
        (the most probable category) and `probability_CATEGORY`, `transcript`."""
        values: dict[str, str | float] = {"file": self.file, "start": self.start, "end": self.end, **self.attributes}
        for name, distribution in self.ratings.items():
            values |= distribution.columns(name)
        if self.emotions:
            values["emotion"] = max(self.emotions, key=lambda name: self.emotions[name])
            values |= {f"probability_{name}": value for name, value in self.emotions.items()}
        return values | ({} if self.transcript is None else {"transcript": self.transcript})


class RowWriter(Protocol):
    """Writes rows to a text stream."""

    def __call__(self, row: Row) -> None:
        """Writes a row."""


def csv_writer(out: TextIO) -> RowWriter:
    """Writes rows as CSV; numbers in full precision, text that a spreadsheet would run with an apostrophe in front."""
    writer = csv.writer(out, lineterminator="\n")
    header: list[str] = []

    def write(row: Row) -> None:
        values = row.columns()
        if not header:
            header.extend(values)
            writer.writerow(map(write_cell, header))
        writer.writerow(write_cell(value) if isinstance(value, str) else repr(value) for value in values.values())

    return write


def json_writer(out: TextIO) -> RowWriter:
    """Writes rows as JSON lines (`Row.json_tree`)."""
    return lambda row: print(json.dumps(row.json_tree(), ensure_ascii=False, allow_nan=False), file=out)


ROW_WRITERS = {"csv": csv_writer, "jsonl": json_writer}


def write_table(path: Path, rows: Iterable[Row], format: Format) -> None:
    """Writes a file of rows, atomically; rows are read one after the other.

    Raises:
      EmojaxError: the file cannot be written; a previous file is intact.
      ConfigError: Parquet needs pyarrow, which is not installed.
    """
    with atomic_write(path) as temporary:
        if format == "parquet":
            _write_parquet(temporary, iter(rows))
            return
        with temporary.open("w", encoding="utf-8", newline="") as file:
            write = ROW_WRITERS[format](file)
            for row in rows:
                write(row)
            if format == "csv" and file.tell() == 0:
                file.write("file,start,end\n")


def write_failures(path: Path, failures: Iterable[tuple[str, float, float | None, str]]) -> None:
    """Writes a CSV file with file, start, end and error of the clips that failed; a table that `predict` reads.

    Raises:
      EmojaxError: the file cannot be written; a previous file is intact.
    """
    with atomic_write(path) as temporary, temporary.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(["file", "start", "end", "error"])
        for name, start, end, message in failures:
            writer.writerow([write_cell(name), repr(start), "" if end is None else repr(end), write_cell(message)])


def import_pyarrow() -> tuple[Any, Any]:
    """The modules `pyarrow` and `pyarrow.parquet`.

    Raises:
      ConfigError: pyarrow is not installed.
    """
    try:
        import pyarrow
        import pyarrow.parquet
    except ImportError as error:
        raise ConfigError("Parquet needs pyarrow, which is not installed (pip install pyarrow)") from error
    return pyarrow, pyarrow.parquet


def _write_parquet(path: Path, rows: Iterator[Row]) -> None:
    pyarrow, parquet = import_pyarrow()
    names = ["file", "start", "end"]
    schema = pyarrow.schema([("file", pyarrow.string()), ("start", pyarrow.float64()), ("end", pyarrow.float64())])
    writer = None
    while True:
        group = [row.columns() for row in itertools.islice(rows, _ROWS_AT_ONCE)]
        if group:
            names = list(group[0])
        arrays = {name: [values[name] for values in group] for name in names}
        table = pyarrow.table(arrays) if group else schema.empty_table()
        if writer is None:
            writer = parquet.ParquetWriter(path, table.schema)
        if group:
            writer.write_table(table)
        else:
            writer.close()
            return
