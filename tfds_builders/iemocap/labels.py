"""Parsers of IEMOCAP's evaluation and transcription files."""

import dataclasses
import math
import re
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
from jaxtyping import Float32

from emojax.errors import CorpusError
from emojax.tables import MISSING_VALUES, parse_number
from emojax.text_files import read_lines
from emojax.types import MISSING_EMOTION
from tfds_builders.utterance import count_ratings

CATEGORIES = (
    "neutral",
    "happiness",
    "sadness",
    "anger",
    "surprise",
    "fear",
    "disgust",
    "frustration",
    "excitement",
    "other",
)
"""All categories; `xxx`, no agreement, is -1."""

SCALE = (1, 5)
"""Lowest and highest rating of an attribute."""

_CODES = dict(zip(("neu", "hap", "sad", "ang", "sur", "fea", "dis", "fru", "exc", "oth"), CATEGORIES, strict=True))

# Emotions written by evaluators, by their first letters: "Neutral state", "Happiness", "Excited", ...
_WRITTEN = {name[:3]: name for name in CATEGORIES}

_HEAD = re.compile(r"^\[\s*[\d.]+\s*-\s*[\d.]+\s*\]\s+(\S+)\s+(\w+)\s+\[([^\]]*)\]\s*$")
_EVALUATOR = re.compile(r"^C-E\d+:\s*(.*?)\(")
_RATING = re.compile(r"^A-E\d+:\s*val\s*([\d.]*)\s*;\s*act\s*([\d.]*)\s*;\s*dom\s*([\d.]*)\s*;")
_TURN = re.compile(r"^(Ses\S+)\s*\[[^\]]*\]:\s*(.*)$")


@dataclasses.dataclass(frozen=True)
class Turn:
    """Labels of an utterance.

    Attributes:
      name: name of the turn, e.g. `Ses01F_impro01_M003`.
      emotion: index into `CATEGORIES`; -1 without agreement.
      attributes: activation, valence, dominance (the file has valence first); NaN where missing.
      std: sample standard deviation over evaluators; NaN with fewer than two.
      votes: share of evaluators per category; several categories of one evaluator are weighted. Excludes self reports.
      histogram: number of evaluators per attribute and rating 1 to 5 (`count_ratings`). Excludes self reports.
    """

    name: str
    emotion: int
    attributes: tuple[float, float, float]
    std: tuple[float, float, float]
    votes: tuple[float, ...]
    histogram: Float32[np.ndarray, "3 5"]

    @property
    def dialog(self) -> str:
        """Name of the conversation."""
        return self.name.rpartition("_")[0]

    @property
    def speaker(self) -> str:
        """Session and letter of the speaker, the last one in the name; the first one is the motion-captured actor."""
        return f"{self.name[:5]}{self.name.rpartition('_')[2][0]}"

    @property
    def improvised(self) -> bool:
        """Whether the conversation was improvised, not scripted."""
        return "impro" in self.name


def read_evaluation(path: Path) -> Iterator[Turn]:
    """Reads the evaluation file of a dialog.

    Raises:
      CorpusError: the head line of a turn has another format, an unknown emotion, or not three ratings.
    """
    head = ""
    lines: list[str] = []
    for number, line in enumerate([*read_lines(path), "[end"], start=1):
        if line.startswith("["):
            if head:
                yield _turn(head, lines)
            head, lines = "", []
            if line == "[end":
                return
            if not _HEAD.match(line):
                raise CorpusError(
                    f"{path}, line {number}: must be [START - END] TURN EMOTION [V, A, D], got {line.strip()!r}"
                )
            _, code, vector = _matched(_HEAD, line).groups()
            if code not in (*_CODES, "xxx"):
                raise CorpusError(f"{path}, line {number}: emotion must be {', '.join([*_CODES, 'xxx'])}, got {code!r}")
            if len(_vector(vector, f"{path}, line {number}")) != 3:
                raise CorpusError(f"{path}, line {number}: must have three ratings, got [{vector}]")
            head = line
        else:
            lines.append(line)


def read_transcription(path: Path) -> dict[str, str]:
    """Reads the transcript of every utterance of a dialog; lines of another format, which occur, are skipped."""
    matches = (_TURN.match(line.strip()) for line in read_lines(path))
    return {match.group(1): match.group(2).strip() for match in matches if match}


def _turn(head: str, lines: Sequence[str]) -> Turn:
    name, code, vector = _matched(_HEAD, head).groups()
    valence, activation, dominance = _vector(vector, name)
    ratings = [match.groups() for match in map(_RATING.match, lines) if match]
    rated = np.array([[_number(a), _number(v), _number(d)] for v, a, d in ratings]).reshape(-1, 3)
    stds = [_sample_std(column[~np.isnan(column)]) for column in rated.T]
    return Turn(
        name=name,
        emotion=CATEGORIES.index(_CODES[code]) if code in _CODES else MISSING_EMOTION,
        attributes=(activation, valence, dominance),
        std=(stds[0], stds[1], stds[2]),
        votes=_votes([match.group(1) for match in map(_EVALUATOR.match, lines) if match]),
        histogram=count_ratings(rated, SCALE),
    )


def _vector(written: str, context: str) -> list[float]:
    values = [value.strip() for value in written.split(",")]
    try:
        return [math.nan if value in MISSING_VALUES else parse_number(value) for value in values]
    except ValueError as error:
        raise CorpusError(f"{context}: [{written}] {error}") from error


def _votes(written: Sequence[str]) -> tuple[float, ...]:
    votes = np.zeros(len(CATEGORIES))
    for line in written:
        names = [_WRITTEN.get(part.strip()[:3].lower()) for part in line.split(";") if part.strip()]
        for name in names:
            if name:
                votes[CATEGORIES.index(name)] += 1 / len(names)
    return tuple((votes / votes.sum() if votes.sum() else np.full(len(CATEGORIES), np.nan)).tolist())


def _sample_std(values: np.ndarray) -> float:
    return float(values.std(ddof=1)) if len(values) > 1 else math.nan


def _number(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        return math.nan


def _matched(pattern: re.Pattern[str], line: str) -> re.Match[str]:
    match = pattern.match(line)
    assert match is not None  # checked by the caller
    return match
