"""From the user's rows to clips by split, and from a clip to an utterance."""

import collections
import dataclasses
import math
from pathlib import Path

from emojax.errors import CorpusError
from emojax.types import ATTRIBUTES, MISSING_EMOTION, SAMPLE_RATE, SplitRoles
from tfds_builders.folder.description import Description
from tfds_builders.folder.table import Row, number, read_rows, seconds, speaker_splits
from tfds_builders.utterance import Made, read_pcm, utterance

_GENDERS = {"female": "female", "f": "female", "male": "male", "m": "male"}

_NO_CONSENSUS = ("", "nan", "none", "-1")


@dataclasses.dataclass(frozen=True)
class Clip:
    """One row of the table.

    Attributes:
      id: unique in the corpus.
      path: audio file.
      start: seconds; None for the file's beginning.
      end: seconds; None for its end.
      attributes: in the order of `ATTRIBUTES`; NaN where missing.
      std: their spread over raters.
      emotion: index into the categories; -1 without.
      votes: share per category; None where the table has no votes.
      num_categories: C.
      transcript: words; "" without.
      speaker: "" where unknown.
      gender: "" where unknown.
    """

    id: str
    path: Path
    start: float | None
    end: float | None
    attributes: tuple[float, ...]
    std: tuple[float, ...]
    emotion: int
    votes: tuple[float, ...] | None
    num_categories: int
    transcript: str
    speaker: str
    gender: str


def categories_of(description: Description, rows: list[tuple[str, Row]]) -> tuple[str, ...]:
    """The description's categories, or those that occur, by the alphabet."""
    if description.categories:
        return description.categories
    written = {row.get("emotion", "") for _, row in rows}
    return tuple(sorted(name for name in written if name.lower() not in _NO_CONSENSUS))


def read_clips(folder: Path, description: Description, counts: collections.Counter[str]) -> dict[str, list[Clip]]:
    """Clips by split; rows whose file is not there are counted and left out.

    Raises:
      CorpusError: a value is not allowed; the message names the table's line.
    """
    rows = read_rows(folder, description)
    categories = categories_of(description, rows)
    drawn: dict[str, str] = {}
    if not any("split" in row for _, row in rows):
        drawn = speaker_splits(collections.Counter(row.get("speaker", "") for _, row in rows), description.seed)
    splits: dict[str, list[Clip]] = {}
    for place, row in rows:
        clip = _clip(folder, row, place, description, categories)
        split = row.get("split", "") or drawn.get(clip.speaker, "")
        if not split:
            raise CorpusError(f"{place}: has no split")
        if clip.path.is_file():
            splits.setdefault(split, []).append(clip)
        else:
            counts["without_audio"] += 1
    if not splits:
        raise CorpusError(f"{folder}: no file of the table is there, e.g. {_file(folder, rows[0][1])}")
    return splits


def roles_of(splits: tuple[str, ...]) -> SplitRoles | None:
    """What splits are for, by their names; None where the names do not say."""
    validation = next((name for name in ("dev", "development", "val", "valid", "validation") if name in splits), None)
    tests = tuple(split for split in splits if split.startswith("test"))
    return SplitRoles("train", validation, tests) if "train" in splits and validation and tests else None


def make_utterance(clip: Clip) -> Made:
    """Decodes a clip; one that cannot be decoded is left out and counted."""
    try:
        audio = read_pcm(clip.path)
    except CorpusError as error:
        return Made(None, ("corrupt_audio",), str(error))
    first = round((clip.start or 0.0) * SAMPLE_RATE)
    last = len(audio) if clip.end is None else round(clip.end * SAMPLE_RATE)
    audio = audio[first:last]
    if len(audio) == 0:
        problem = f"{clip.path}: nothing lies between {clip.start} and {clip.end} s"
        return Made(None, ("empty_segment",), problem)
    example = utterance(
        id=clip.id,
        audio=audio,
        num_categories=clip.num_categories,
        transcript=clip.transcript,
        attributes=clip.attributes,
        attributes_std=clip.std,
        emotion=clip.emotion,
        emotion_votes=clip.votes,
        speaker=clip.speaker,
        gender=clip.gender,
    )
    return Made(example, () if clip.transcript else ("no_transcript",))


def _clip(folder: Path, row: Row, place: str, description: Description, categories: tuple[str, ...]) -> Clip:
    low, high = description.scale
    attributes = tuple(number(row, attribute, place) for attribute in ATTRIBUTES)
    for attribute, value in zip(ATTRIBUTES, attributes, strict=True):
        if value < low or value > high:
            raise CorpusError(f"{place}: {attribute} {value:g} is not allowed; allowed: {low:g} to {high:g}")
    emotion = row.get("emotion", "")
    if emotion.lower() not in _NO_CONSENSUS and emotion not in categories:
        raise CorpusError(f"{place}: emotion {emotion!r} is not allowed; allowed: {', '.join(categories) or 'none'}")
    gender = row.get("gender", "").lower()
    start, end = seconds(row, "start", place), seconds(row, "end", place)
    written = f"{row['path']}" + (f"[{start or 0:g}-{end:g}]" if end is not None else "")
    return Clip(
        id=row.get("id") or written,
        path=_file(folder, row),
        start=start,
        end=end,
        attributes=attributes,
        std=tuple(number(row, f"{attribute}_std", place) for attribute in ATTRIBUTES),
        emotion=categories.index(emotion) if emotion in categories else MISSING_EMOTION,
        votes=_votes(row, place, categories),
        num_categories=len(categories),
        transcript=" ".join(row.get("transcript", "").split()),
        speaker=row.get("speaker", ""),
        gender=_GENDERS.get(gender, ""),
    )


def _votes(row: Row, place: str, categories: tuple[str, ...]) -> tuple[float, ...] | None:
    votes = [number(row, f"votes_{category}", place) for category in categories]
    known = [0.0 if math.isnan(vote) else vote for vote in votes]
    if min(known, default=0.0) < 0:
        raise CorpusError(f"{place}: votes are below 0")
    return tuple(vote / sum(known) for vote in known) if sum(known) > 0 else None


def _file(folder: Path, row: Row) -> Path:
    return folder / row["path"]
