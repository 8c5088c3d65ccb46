"""Label files of all releases: consensus labels, every rater's labels, partitions, speakers."""

import collections
import dataclasses
import re
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from emojax.errors import CorpusError
from emojax.types import MISSING_EMOTION
from tfds_builders.tables import MISSING_VALUES, parse_csv, parse_number, read_table
from tfds_builders.text_files import read_lines, read_text

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
    """What raters agreed on for a segment.

    Attributes:
      emotion: index into `CATEGORIES`; -1 without agreement.
      attributes: activation, valence, dominance; NaN where missing.
      speaker: "" where unknown.
      gender: "" where unknown.
      split: as written; "" where the file has no such column.
    """

    emotion: int
    attributes: tuple[float, float, float]
    speaker: str = ""
    gender: str = ""
    split: str = ""


@dataclasses.dataclass(frozen=True)
class Raters:
    """What single raters said of a segment.

    Attributes:
      std: sample standard deviation of activation, valence, dominance; NaN with fewer than two raters.
      votes: share of raters per category, primary emotions only.
    """

    std: tuple[float, float, float]
    votes: tuple[float, ...]


def read_consensus(path: Path, counts: collections.Counter[str]) -> dict[str, Consensus]:
    """Reads `labels_consensus.csv` (`labels_concensus.csv` in old releases).

    Args:
      path: the file.
      counts: rows that occur twice are counted there; the first is kept.

    Raises:
      CorpusError: a column is missing or a value is not allowed; the message names line and value.
    """
    found: dict[str, Consensus] = {}
    for line, row in read_table(path, _CONSENSUS, optional=_ABOUT_SPEAKERS):
        place = f"{path}, line {line}"
        label = Consensus(
            emotion=_emotion(row["EmoClass"], place),
            attributes=_attributes([row["EmoAct"], row["EmoVal"], row["EmoDom"]], place),
            speaker=known(row.get("SpkrID", "")),
            gender=_GENDERS.get(row.get("Gender", "").lower(), ""),
            split=row.get("Split_Set", ""),
        )
        _keep(found, row["FileName"], label, counts)
    return found


def read_label_blocks(path: Path, counts: collections.Counter[str]) -> tuple[dict[str, Consensus], dict[str, Raters]]:
    """Reads `labels.txt`: for each segment a head line with the consensus, then a line per rater.

    Raises:
      CorpusError: a line has another form; the message names it.
    """
    consensus: dict[str, Consensus] = {}
    ratings: dict[str, list[_Rating]] = collections.defaultdict(list)
    current, repeated = "", False
    for number, line in enumerate(read_lines(path), start=1):
        if not line.strip():
            continue
        place = f"{path}, line {number}"
        first = line.split(";", 1)[0].strip()
        if first.lower().endswith(".wav"):
            current, repeated = first, first in consensus
            text, attributes = _rated(line, place)
            label = Consensus(_emotion(text.split(";")[1].strip(), place), attributes)
            _keep(consensus, current, label, counts)
        elif not current:
            raise CorpusError(f"{place}: a rater's line before any file name")
        elif not repeated:
            ratings[current].append(_rater_line(line, place))
    return consensus, {name: _summed(rows) for name, rows in ratings.items()}


def read_detailed(path: Path) -> dict[str, Raters]:
    """Reads `labels_detailed.csv` in any of its dialects, told apart by the header.

    Raises:
      CorpusError: the columns are of no dialect known; the message names them.
    """
    ratings: dict[str, list[_Rating]] = collections.defaultdict(list)
    header, _ = parse_csv(read_text(path)[0], path)
    if "emodetail" in [name.casefold() for name in header]:
        for line, row in read_table(path, ("FileName", "EmoDetail")):
            ratings[row["FileName"]].append(_rater_line(row["EmoDetail"], f"{path}, line {line}"))
    else:
        for line, row in read_table(path, ("FileName", "EmoClass_Major", "EmoAct", "EmoVal", "EmoDom")):
            place = f"{path}, line {line}"
            values = _attributes([row["EmoAct"], row["EmoVal"], row["EmoDom"]], place)
            ratings[row["FileName"]].append(_Rating(_primary(row["EmoClass_Major"], place), values))
    return {name: _summed(rows) for name, rows in ratings.items()}


def read_partitions(path: Path) -> dict[str, str]:
    """Reads `Partitions.txt`: the split of each segment, as written.

    Raises:
      CorpusError: a line has another form.
    """
    splits = {}
    for number, line in enumerate(read_lines(path), start=1):
        fields = [field.strip() for field in line.split(";") if field.strip()]
        if not fields:
            continue
        if len(fields) != 2:
            raise CorpusError(f"{path}, line {number}: {line.strip()!r} is not SPLIT; FILE")
        splits[fields[1]] = fields[0]
    return splits


def read_speakers(path: Path) -> tuple[dict[str, str], dict[str, str]]:
    """Reads `Speaker_ids.txt`: the speaker of each segment, and each speaker's gender; unknown ones are left out."""
    speakers, genders = {}, {}
    for line in read_lines(path):
        fields = [field.strip() for field in line.split(";") if field.strip()]
        if len(fields) != 2:
            continue  # the line of asterisks between the parts, and empty ones
        if fields[0].lower().endswith(".wav"):
            speakers[fields[0]] = known(fields[1])
        elif fields[0].lower().startswith("speaker"):
            genders[fields[0].rpartition("_")[2]] = _GENDERS.get(fields[1].lower(), "")
    return speakers, genders


def known(value: str) -> str:
    """A speaker as written; "" for the ways of writing that none is known."""
    value = value.strip()
    return "" if value in MISSING_VALUES or value.lower() in ("unknown", "nan", "none") else value


@dataclasses.dataclass(frozen=True)
class _Rating:
    emotion: int
    attributes: tuple[float, float, float]


def _keep(found: dict[str, Consensus], name: str, label: Consensus, counts: collections.Counter[str]) -> None:
    if name in found:
        counts["duplicate_rows"] += 1
        if repr(found[name]) != repr(label):  # as text, for a missing rating equals itself
            counts["contradicting_rows"] += 1
        return
    found[name] = label


def _emotion(code: str, place: str) -> int:
    if code == _NO_AGREEMENT:
        return MISSING_EMOTION
    if code not in _CODES:
        raise CorpusError(f"{place}: emotion {code!r} is not allowed; allowed: {', '.join([*_CODES, _NO_AGREEMENT])}")
    return _CODES[code]


def _primary(written: str, place: str) -> int:
    name = written.strip().split("-", 1)[0].strip().lower()
    if name not in _PRIMARY:
        raise CorpusError(f"{place}: primary emotion {written!r} is not allowed; allowed: {', '.join(_PRIMARY)}")
    return _PRIMARY[name]


def _rater_line(line: str, place: str) -> _Rating:
    text, attributes = _rated(line, place)
    fields = text.split(";")
    if len(fields) < 2:
        raise CorpusError(f"{place}: {line.strip()!r} has no emotion")
    return _Rating(_primary(fields[1], place), attributes)


def _rated(line: str, place: str) -> tuple[str, tuple[float, float, float]]:
    match = _RATED.search(line)
    if match is None or ";" not in line[: match.start()]:
        raise CorpusError(f"{place}: {line.strip()!r} does not end in A:…; V:…; D:…")
    return line[: match.start()], _attributes(match.groups(), place)


def _attributes(values: Sequence[str], place: str) -> tuple[float, float, float]:
    numbers = []
    for value in values:
        try:
            number = float("nan") if value.strip() in MISSING_VALUES else parse_number(value.strip())
        except ValueError as error:
            raise CorpusError(f"{place}: {value!r} {error}") from error
        if number < 1 or number > 7:
            raise CorpusError(f"{place}: rating {number:g} is not allowed; allowed: 1 to 7")
        numbers.append(number)
    activation, valence, dominance = numbers
    return activation, valence, dominance


def _summed(ratings: Sequence[_Rating]) -> Raters:
    values = np.array([rating.attributes for rating in ratings])
    stds = [_sample_std(column[~np.isnan(column)]) for column in values.T]
    votes = np.bincount([rating.emotion for rating in ratings], minlength=len(CATEGORIES)) / len(ratings)
    return Raters((stds[0], stds[1], stds[2]), tuple(votes.tolist()))


def _sample_std(values: np.ndarray) -> float:
    return float(values.std(ddof=1)) if len(values) > 1 else float("nan")


def label_files(folder: Path) -> Iterator[Path]:
    """Files of a label folder, without those macOS adds."""
    return (path for path in sorted(folder.iterdir()) if path.is_file() and not path.name.startswith("._"))
