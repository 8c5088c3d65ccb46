"""Predictions of a split: a table in memory, and as CSV without formulas for spreadsheets."""

import collections
import csv
import dataclasses
import math
import re
from pathlib import Path
from typing import Any, Self

import numpy as np
from jaxtyping import Float, Int

from emojax.errors import EmojaxError
from emojax.evaluation.categories import CategoryMatch
from emojax.evaluation.ratings import RatingPredictions
from emojax.files import atomic_write
from emojax.tables import read_rows
from emojax.types import ATTRIBUTES, MISSING_EMOTION, NUM_ATTRIBUTES, CorpusInfo

_FORMULA = re.compile(r"'*(?:[\t\r]|\s*[=+\-@＝＋－＠])")
"""Text that a spreadsheet would evaluate, also behind apostrophes, which get one more."""


def write_cell(text: str) -> str:
    """Escapes a text as a cell of a CSV file."""
    return f"'{text}" if _FORMULA.match(text) else text


def read_cell(cell: str) -> str:
    """Reverses `write_cell`; other cells are returned unchanged."""
    return cell[1:] if cell.startswith("'") and _FORMULA.match(cell) else cell


_LINE_BREAKS = frozenset("\n\r\0")
"""Not allowed in names: a row of the CSV file is one line."""


@dataclasses.dataclass(frozen=True, eq=False)
class Predictions:
    """Predictions and labels of every utterance of a split.

    Arrays are converted to float64 and int64. Attributes are in the order of `ATTRIBUTES`.

    Attributes:
      corpus: evaluated corpus.
      split: split of the corpus.
      ids: id of every utterance, unique.
      speakers: speaker of every utterance; "" where unknown.
      attributes: predicted attributes in the scale of the corpus; a column without predictions is NaN.
      attribute_labels: labels in the scale of the corpus; NaN where missing.
      emotion_probabilities: probability of each of `corpus.categories`; C is 0 if there is no prediction.
      emotion_labels: index into `corpus.categories`; -1 where missing.
      match: match of the model's categories with the corpus's, if the model has any; `corpus.categories` are then the
        scored categories. Not in the CSV file.
      num_unscored: number of labelled utterances of categories that the model does not have; their label is missing.
      ratings: predicted distributions of ratings and the raters' choices; None where there is neither. They are in the
        CSV file if the model predicts distributions.
      emotion_votes: shares of the raters' votes for `corpus.categories`; NaN where missing; None where they are not
        scored. Not in the CSV file.
    """

    corpus: CorpusInfo
    split: str
    ids: list[str]
    speakers: list[str]
    attributes: Float[np.ndarray, "N 3"]
    attribute_labels: Float[np.ndarray, "N 3"]
    emotion_probabilities: Float[np.ndarray, "N C"]
    emotion_labels: Int[np.ndarray, "N"]
    match: CategoryMatch | None = None
    num_unscored: int = 0
    ratings: RatingPredictions | None = None
    emotion_votes: Float[np.ndarray, "N C"] | None = None

    def __post_init__(self):
        """Converts and checks the fields.

        Raises:
          EmojaxError: shapes do not agree, an id comes twice, a name has a line break, a prediction is not finite, a
        label is out of range.
        """
        for name in ("attributes", "attribute_labels", "emotion_probabilities"):
            object.__setattr__(self, name, np.asarray(getattr(self, name), np.float64))
        object.__setattr__(self, "emotion_labels", np.asarray(self.emotion_labels, np.int64))
        self._check_shapes()
        self._check_values()

    @property
    def predicted_emotions(self) -> Int[np.ndarray, "N"]:
        """Index of the most probable category; -1 for all if there is no prediction."""
        if not self.emotion_probabilities.shape[1]:
            return np.full(len(self.ids), MISSING_EMOTION)
        return self.emotion_probabilities.argmax(axis=1)

    def write_csv(self, path: Path) -> None:
        """Writes one row per utterance; numbers in full precision, fields empty where missing.

        Columns: `id`, `speaker`, `label_activation`, `predicted_activation` and so on, `label_emotion`,
        `predicted_emotion` (names of categories), `probability_CATEGORY` if categories are predicted, and those of
        `RatingPredictions.columns` if distributions are. Text that a spreadsheet would run has an apostrophe in front
        (see `emojax.evaluation.predictions`).

        Raises:
          EmojaxError: the file cannot be written; a previous file is intact.
        """
        categories = self.corpus.categories
        predicted = self.predicted_emotions
        ratings = self.ratings if self.ratings is not None and self.ratings.bins else None
        cells = np.zeros((len(self.ids), 0)) if ratings is None else ratings.cells()
        with atomic_write(path) as temporary, temporary.open("w", encoding="utf-8", newline="") as file:
            writer = csv.writer(file, lineterminator="\n")
            columns = _columns(categories if self.emotion_probabilities.shape[1] else ())
            writer.writerow(columns + ([] if ratings is None else ratings.columns()))
            for row, (name, speaker) in enumerate(zip(self.ids, self.speakers, strict=True)):
                pairs = zip(self.attribute_labels[row], self.attributes[row], strict=True)
                writer.writerow(
                    [write_cell(name), write_cell(speaker)]
                    + [_number_text(value) for pair in pairs for value in pair]
                    + [_category_text(index, categories) for index in (self.emotion_labels[row], predicted[row])]
                    + [_number_text(value) for value in (*self.emotion_probabilities[row], *cells[row])]
                )

    @classmethod
    def read_csv(cls, path: Path, corpus: CorpusInfo, split: str) -> Self:
        """Reads a file of `write_csv`; columns are found by name, in any order.

        Args:
          path: CSV file.
          corpus: corpus of the predictions.
          split: split of the predictions.

        Raises:
          EmojaxError: the file cannot be read, a column is missing, or a field has the wrong type.
        """
        rows, names = read_rows(path, str(path), EmojaxError)
        found = set(names)
        has_probabilities = any(column.startswith("probability_") for column in found)
        columns = _columns(corpus.categories if has_probabilities else ())

        def numbers(wanted: list[str]) -> np.ndarray:
            values = [[_number(path, line, column, row) for column in wanted] for line, row in enumerate(rows)]
            return np.array(values, np.float64).reshape(len(rows), len(wanted))

        ratings = RatingPredictions.from_columns(found, numbers, corpus.scale)
        columns += [] if ratings is None else ratings.columns()
        if found != set(columns):
            odd = sorted(set(columns) ^ found)[0]
            raise EmojaxError(f"{path}: column {odd!r} is {'missing' if odd in columns else 'not expected'}")
        return cls(
            corpus=corpus,
            split=split,
            ids=[read_cell(row["id"]) for row in rows],
            speakers=[read_cell(row["speaker"]) for row in rows],
            attributes=numbers([f"predicted_{attribute}" for attribute in ATTRIBUTES]),
            attribute_labels=numbers([f"label_{attribute}" for attribute in ATTRIBUTES]),
            emotion_probabilities=numbers([f"probability_{c}" for c in corpus.categories] if has_probabilities else []),
            emotion_labels=np.array([_category(path, line, row, corpus) for line, row in enumerate(rows)], np.int64),
            ratings=ratings,
        )

    def _check_shapes(self) -> None:
        n = len(self.ids)
        wanted: dict[str, tuple[tuple[int, ...], set[tuple[int, ...]]]] = {
            "speakers": ((len(self.speakers),), {(n,)}),
            "attributes": (self.attributes.shape, {(n, NUM_ATTRIBUTES)}),
            "attribute_labels": (self.attribute_labels.shape, {(n, NUM_ATTRIBUTES)}),
            "emotion_probabilities": (self.emotion_probabilities.shape, {(n, 0), (n, len(self.corpus.categories))}),
            "emotion_labels": (self.emotion_labels.shape, {(n,)}),
        }
        if self.emotion_votes is not None:
            wanted["emotion_votes"] = (self.emotion_votes.shape, {(n, len(self.corpus.categories))})
        if self.ratings is not None:
            for name in ("probabilities", "counts", "stds"):
                shape = getattr(self.ratings, name).shape
                wanted[f"ratings.{name}"] = (shape, {(n, NUM_ATTRIBUTES, *shape[2:])})
        for name, (shape, allowed) in wanted.items():
            if shape not in allowed:
                choices = " or ".join(map(str, sorted(allowed)))
                raise EmojaxError(f"{self._label}: {name} must have shape {choices} for {n} ids, got {shape}")

    def _check_values(self) -> None:
        for text in (*self.ids, *self.speakers, *self.corpus.categories):
            if not _LINE_BREAKS.isdisjoint(text):
                raise EmojaxError(f"{self._label}: names must have no line break, got {text!r}")
        if len(set(self.ids)) != len(self.ids):
            twice = collections.Counter(self.ids).most_common(1)[0][0]
            raise EmojaxError(f"{self._label}: ids must be unique, got {twice!r} twice")
        absent = np.isnan(self.attributes).all(axis=0)
        for what, bad in (
            ("prediction of an attribute", ~np.isfinite(self.attributes) & ~absent),
            ("label of an attribute", np.isinf(self.attribute_labels)),
            ("probability of a category", ~np.isfinite(self.emotion_probabilities)),
        ):
            if bad.any():
                raise EmojaxError(f"{self._label}: a {what} of {self.ids[np.argwhere(bad)[0][0]]!r} is not finite")
        highest = len(self.corpus.categories) - 1
        outside = np.flatnonzero((self.emotion_labels < MISSING_EMOTION) | (self.emotion_labels > highest))
        if outside.size:
            name, label = self.ids[outside[0]], self.emotion_labels[outside[0]]
            raise EmojaxError(f"{self._label}: emotion label of {name!r} must be -1 to {highest}, got {label}")

    @property
    def _label(self) -> str:
        return f"predictions on {self.corpus.name}, split {self.split}"


def _columns(predicted_categories: tuple[str, ...]) -> list[str]:
    pairs = [f"{kind}_{attribute}" for attribute in ATTRIBUTES for kind in ("label", "predicted")]
    probabilities = [f"probability_{category}" for category in predicted_categories]
    return ["id", "speaker", *pairs, "label_emotion", "predicted_emotion", *probabilities]


def _number_text(value: float) -> str:
    return "" if math.isnan(value) else repr(float(value))


def _category_text(index: int, categories: tuple[str, ...]) -> str:
    return "" if index == MISSING_EMOTION else write_cell(categories[index])


def _number(path: Path, row: int, column: str, fields: dict[str, Any]) -> float:
    text = fields[column]
    try:
        return float(text) if text else math.nan
    except ValueError as error:
        raise EmojaxError(f"{path}: row {row + 1}, column {column}: {text!r} is not a number") from error


def _category(path: Path, row: int, fields: dict[str, Any], corpus: CorpusInfo) -> int:
    name = read_cell(fields["label_emotion"])
    if not name:
        return MISSING_EMOTION
    if name not in corpus.categories:
        allowed = ", ".join(corpus.categories)
        raise EmojaxError(f"{path}: row {row + 1}, column label_emotion: must be one of {allowed}, got {name!r}")
    return corpus.categories.index(name)


_COLUMNS = {"activation": "EmoAct", "valence": "EmoVal", "dominance": "EmoDom"}


def wants_submission(predictions: Predictions) -> bool:
    """Whether these are predictions of attributes for an MSP-Podcast split without labels."""
    unlabelled = np.isnan(predictions.attribute_labels).all()
    predicted = not np.isnan(predictions.attributes).any()
    return predictions.corpus.name.startswith("msp_podcast") and bool(unlabelled) and predicted


def write_submission(path: Path, predictions: Predictions) -> None:
    """Writes `FileName,EmoAct,EmoVal,EmoDom`, one row per file, on the corpus's scale.

    Raises:
      EmojaxError: it cannot be written.
    """
    with atomic_write(path) as temporary, temporary.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(["FileName", *(_COLUMNS[attribute] for attribute in ATTRIBUTES)])
        for id, values in zip(predictions.ids, predictions.attributes, strict=True):
            writer.writerow([write_cell(f"{id}.wav"), *(f"{value:.6f}" for value in values)])
