"""IEMOCAP's evaluation and transcription files."""

import dataclasses
import math
import re
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from emojax.errors import CorpusError
from emojax.types import MISSING_EMOTION
from tfds_builders.tables import MISSING_VALUES, parse_number
from tfds_builders.text_files import read_lines

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
"""All of them; `xxx`, no agreement, is -1."""

_CODES = dict(zip(("neu", "hap", "sad", "ang", "sur", "fea", "dis", "fru", "exc", "oth"), CATEGORIES, strict=True))

# What evaluators wrote, by its first letters: "Neutral state", "Happiness", "Excited", ...
_WRITTEN = {name[:3]: name for name in CATEGORIES}

_HEAD = re.compile(r"^\[\s*[\d.]+\s*-\s*[\d.]+\s*\]\s+(\S+)\s+(\w+)\s+\[([^\]]*)\]\s*$")
_EVALUATOR = re.compile(r"^C-E\d+:\s*(.*?)\(")
_RATING = re.compile(r"^A-E\d+:\s*val\s*([\d.]*)\s*;\s*act\s*([\d.]*)\s*;\s*dom\s*([\d.]*)\s*;")
_TURN = re.compile(r"^(Ses\S+)\s*\[[^\]]*\]:\s*(.*)$")


@dataclasses.dataclass(frozen=True)
class Turn:
    """Labels of an utterance.

    Attributes:
      name: e.g. `Ses01F_impro01_M003`.
      emotion: index into `CATEGORIES`; -1 without agreement.
      attributes: activation, valence, dominance (the file has valence first); NaN where missing.
      std: their sample standard deviation over evaluators; NaN with fewer than two.
      votes: share of evaluators per category; one who named several counts for each in part. Self reports do not count.
    """

    name: str
    emotion: int
    attributes: tuple[float, float, float]
    std: tuple[float, float, float]
    votes: tuple[float, ...]

    @property
    def dialog(self) -> str:
        """The conversation it belongs to."""
        return self.name.rpartition("_")[0]

    @property
    def speaker(self) -> str:
        """Session and the letter of who speaks: the last one; the first says who wore markers."""
        return f"{self.name[:5]}{self.name.rpartition('_')[2][0]}"

    @property
    def improvised(self) -> bool:
        """Whether the conversation was improvised, and not read from a script."""
        return "impro" in self.name


def read_evaluation(path: Path) -> Iterator[Turn]:
    """Reads one dialog's evaluation file.

    Raises:
      CorpusError: a line that begins like an utterance has another form, an emotion that is not known, or not three
        ratings.
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
                    f"{path}, line {number}: {line.strip()!r} is not [START - END] TURN EMOTION [V, A, D]"
                )
            _, code, vector = _matched(_HEAD, line).groups()
            if code not in (*_CODES, "xxx"):
                raise CorpusError(f"{path}, line {number}: emotion {code!r}; allowed: {', '.join([*_CODES, 'xxx'])}")
            if len(_vector(vector, f"{path}, line {number}")) != 3:
                raise CorpusError(f"{path}, line {number}: [{vector}] must be three ratings")
            head = line
        else:
            lines.append(line)


def read_transcription(path: Path) -> dict[str, str]:
    """Words of every utterance of a dialog; lines of another form are skipped, as the corpus has them."""
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
    )


def _vector(written: str, place: str) -> list[float]:
    values = [value.strip() for value in written.split(",")]
    try:
        return [math.nan if value in MISSING_VALUES else parse_number(value) for value in values]
    except ValueError as error:
        raise CorpusError(f"{place}: [{written}] {error}") from error


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
    assert match is not None  # the caller looked
    return match
