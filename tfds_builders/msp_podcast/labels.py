"""Label files of all releases: consensus labels, every rater's labels, partitions, speakers."""

import collections
import dataclasses
import re
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
from jaxtyping import Float32

from emojax.errors import CorpusError
from emojax.tables import MISSING_VALUES, parse_csv, parse_number, read_table
from emojax.text_files import read_lines, read_text
from emojax.types import MISSING_EMOTION
from tfds_builders.utterance import count_ratings

CATEGORIES = (
    "anger",
    "sadness",
    "happiness",
    "surprise",
    "fear",
    "disgust",
    "contempt",
    "neutral",
    "other",
)
"""What raters chose from, in the order of the codes below."""

SCALE = (1, 7)
"""Lowest and highest rating of an attribute."""

_CODES = dict(zip("ASHUFDCNO", range(len(CATEGORIES)), strict=True))
_NO_AGREEMENT = "X"

_PRIMARY = {
    "angry": 0,
    "sad": 1,
    "happy": 2,
    "surprise": 3,
    "fear": 4,
    "disgust": 5,
    "contempt": 6,
    "neutral": 7,
    "other": 8,
}

_CONSENSUS = ("FileName", "EmoClass", "EmoAct", "EmoVal", "EmoDom")
_ABOUT_SPEAKERS = ("SpkrID", "Gender", "Split_Set")

_GENDERS = {"male": "male", "female": "female", "m": "male", "f": "female"}

# Free text after "Other-" may hold any punctuation, so the numbers are found from the end of the line.
_RATED = re.compile(r"A:\s*([^;]*);\s*V:\s*([^;]*);\s*D:\s*([^;]*);?\s*$")


@dataclasses.dataclass(frozen=True)
class Consensus:
    """Consensus labels of a segment.

    Attributes:
      emotion: index into `CATEGORIES`; -1 without agreement.
      attributes: activation, valence, dominance; NaN where missing.
      speaker: speaker id; "" if unknown.
      gender: gender; "" if unknown.
      split: split as written in the file; "" if the file has no such column.
    """

    emotion: int
    attributes: tuple[float, float, float]
    speaker: str = ""
    gender: str = ""
    split: str = ""


@dataclasses.dataclass(frozen=True)
class Raters:
    """Statistics of the raters of a segment.

    Attributes:
      std: sample standard deviation of activation, valence, dominance; NaN with fewer than two raters.
      votes: share of raters per category, primary emotions only.
      histogram: number of raters per attribute and rating 1 to 7 (`count_ratings`).
    """

    std: tuple[float, float, float]
    votes: tuple[float, ...]
    histogram: Float32[np.ndarray, "3 7"]


def read_consensus(path: Path, counts: collections.Counter[str]) -> dict[str, Consensus]:
    """Reads `labels_consensus.csv` (`labels_concensus.csv` in old releases).

    Args:
      path: label file.
      counts: counter of duplicate rows, of which the first is used; updated in place.

    Raises:
      CorpusError: a column is missing or a value is invalid; the message names line and value.
    """
    found: dict[str, Consensus] = {}
    for line, row in read_table(path, _CONSENSUS, optional=_ABOUT_SPEAKERS):
        context = f"{path}, line {line}"
        label = Consensus(
            emotion=_emotion(row["EmoClass"], context),
            attributes=_attributes([row["EmoAct"], row["EmoVal"], row["EmoDom"]], context),
            speaker=normalise_speaker(row.get("SpkrID", "")),
            gender=_GENDERS.get(row.get("Gender", "").lower(), ""),
            split=row.get("Split_Set", ""),
        )
        _add_label(found, row["FileName"], label, counts)
    return found


def read_label_blocks(path: Path, counts: collections.Counter[str]) -> tuple[dict[str, Consensus], dict[str, Raters]]:
    """Reads `labels.txt`: a line with the consensus for each segment, followed by a line per rater.

    Raises:
      CorpusError: a line has another format; the message names it.
    """
    consensus: dict[str, Consensus] = {}
    ratings: dict[str, list[_Rating]] = collections.defaultdict(list)
    current, repeated = "", False
    for number, line in enumerate(read_lines(path), start=1):
        if not line.strip():
            continue
        context = f"{path}, line {number}"
        first = line.split(";", 1)[0].strip()
        if first.lower().endswith(".wav"):
            current, repeated = first, first in consensus
            text, attributes = _rated(line, context)
            label = Consensus(_emotion(text.split(";")[1].strip(), context), attributes)
            _add_label(consensus, current, label, counts)
        elif not current:
            raise CorpusError(f"{context}: line of a rater before the first file name")
        elif not repeated:
            ratings[current].append(_rater_line(line, context))
    return consensus, {name: _summarise(rows) for name, rows in ratings.items()}


def read_detailed(path: Path) -> dict[str, Raters]:
    """Reads `labels_detailed.csv` in any of its formats, distinguished by the header.

    Raises:
      CorpusError: the format is unknown; the message names the columns.
    """
    ratings: dict[str, list[_Rating]] = collections.defaultdict(list)
    header, _ = parse_csv(read_text(path)[0], path)
    if "emodetail" in [name.casefold() for name in header]:
        for line, row in read_table(path, ("FileName", "EmoDetail")):
            ratings[row["FileName"]].append(_rater_line(row["EmoDetail"], f"{path}, line {line}"))
    else:
        for line, row in read_table(path, ("FileName", "EmoClass_Major", "EmoAct", "EmoVal", "EmoDom")):
            context = f"{path}, line {line}"
            values = _attributes([row["EmoAct"], row["EmoVal"], row["EmoDom"]], context)
            ratings[row["FileName"]].append(_Rating(_primary(row["EmoClass_Major"], context), values))
    return {name: _summarise(rows) for name, rows in ratings.items()}


def read_partitions(path: Path) -> dict[str, str]:
    """Reads `Partitions.txt`: the split of each segment, as written in the file.

    Raises:
      CorpusError: a line has another format.
    """
    splits = {}
    for number, line in enumerate(read_lines(path), start=1):
        fields = [field.strip() for field in line.split(";") if field.strip()]
        if not fields:
            continue
        if len(fields) != 2:
            raise CorpusError(f"{path}, line {number}: must be SPLIT; FILE, got {line.strip()!r}")
        splits[fields[1]] = fields[0]
    return splits


def read_speakers(path: Path) -> tuple[dict[str, str], dict[str, str]]:
    """Reads `Speaker_ids.txt`: speakers by segment and genders by speaker, if known."""
    speakers, genders = {}, {}
    for line in read_lines(path):
        fields = [field.strip() for field in line.split(";") if field.strip()]
        if len(fields) != 2:
            continue  # empty lines, and the line of asterisks between the parts
        if fields[0].lower().endswith(".wav"):
            speakers[fields[0]] = normalise_speaker(fields[1])
        elif fields[0].lower().startswith("speaker"):
            genders[fields[0].rpartition("_")[2]] = _GENDERS.get(fields[1].lower(), "")
    return speakers, genders


def normalise_speaker(value: str) -> str:
    """Returns a speaker id; "" for missing or unknown ones."""
    value = value.strip()
    return "" if value in MISSING_VALUES or value.lower() in ("unknown", "nan", "none") else value


@dataclasses.dataclass(frozen=True)
class _Rating:
    emotion: int
    attributes: tuple[float, float, float]


def _add_label(found: dict[str, Consensus], name: str, label: Consensus, counts: collections.Counter[str]) -> None:
    if name in found:
        counts["duplicate_rows"] += 1
        if repr(found[name]) != repr(label):  # as text, since NaN != NaN
            counts["contradicting_rows"] += 1
        return
    found[name] = label


def _emotion(code: str, context: str) -> int:
    if code == _NO_AGREEMENT:
        return MISSING_EMOTION
    if code not in _CODES:
        raise CorpusError(f"{context}: emotion must be {', '.join([*_CODES, _NO_AGREEMENT])}, got {code!r}")
    return _CODES[code]


def _primary(written: str, context: str) -> int:
    name = written.strip().split("-", 1)[0].strip().lower()
    if name not in _PRIMARY:
        raise CorpusError(f"{context}: primary emotion must be {', '.join(_PRIMARY)}, got {written!r}")
    return _PRIMARY[name]


def _rater_line(line: str, context: str) -> _Rating:
    text, attributes = _rated(line, context)
    fields = text.split(";")
    if len(fields) < 2:
        raise CorpusError(f"{context}: emotion is missing in {line.strip()!r}")
    return _Rating(_primary(fields[1], context), attributes)


def _rated(line: str, context: str) -> tuple[str, tuple[float, float, float]]:
    match = _RATED.search(line)
    if match is None or ";" not in line[: match.start()]:
        raise CorpusError(f"{context}: must end with A:…; V:…; D:…, got {line.strip()!r}")
    return line[: match.start()], _attributes(match.groups(), context)


def _attributes(values: Sequence[str], context: str) -> tuple[float, float, float]:
    numbers = []
    for value in values:
        try:
            number = float("nan") if value.strip() in MISSING_VALUES else parse_number(value.strip())
        except ValueError as error:
            raise CorpusError(f"{context}: {value!r} {error}") from error
        if number < SCALE[0] or number > SCALE[1]:
            raise CorpusError(f"{context}: rating must be {SCALE[0]} to {SCALE[1]}, got {number:g}")
        numbers.append(number)
    activation, valence, dominance = numbers
    return activation, valence, dominance


def _summarise(ratings: Sequence[_Rating]) -> Raters:
    values = np.array([rating.attributes for rating in ratings])
    stds = [_sample_std(column[~np.isnan(column)]) for column in values.T]
    votes = np.bincount([rating.emotion for rating in ratings], minlength=len(CATEGORIES)) / len(ratings)
    return Raters((stds[0], stds[1], stds[2]), tuple(votes.tolist()), count_ratings(values, SCALE))


def _sample_std(values: np.ndarray) -> float:
    return float(values.std(ddof=1)) if len(values) > 1 else float("nan")


def label_files(folder: Path) -> Iterator[Path]:
    """Lists the files of a label folder, except those created by macOS."""
    return (path for path in sorted(folder.iterdir()) if path.is_file() and not path.name.startswith("._"))
