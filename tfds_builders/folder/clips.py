"""From the user's rows to clips by split, and from a clip to an utterance."""

import collections
import dataclasses
import math
from pathlib import Path

from emojax.errors import CorpusError
from emojax.types import ATTRIBUTES, MISSING_EMOTION, SAMPLE_RATE
from tfds_builders.folder.description import VOTES, Description
from tfds_builders.folder.splits import splits_of
from tfds_builders.folder.table import NO_CONSENSUS, Row, Table
from tfds_builders.utterance import Made, read_pcm, utterance

_GENDERS = {"female": "female", "f": "female", "male": "male", "m": "male"}

_ROUNDING = 0.001
"""Seconds by which an end may lie beyond the file and not be counted: tables round times, resampling rounds lengths."""


@dataclasses.dataclass(frozen=True)
class Clip:
    """One row of the table.

    Attributes:
      id: unique in the corpus.
      place: file and line of the row, for messages.
      path: audio file.
      start: seconds.
      end: seconds; None for the end of the file.
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
    place: str
    path: Path
    start: float
    end: float | None
    attributes: tuple[float, ...]
    std: tuple[float, ...]
    emotion: int
    votes: tuple[float, ...] | None
    num_categories: int
    transcript: str
    speaker: str
    gender: str


def categories_of(description: Description, table: Table) -> tuple[str, ...]:
    """The description's categories, or those that occur as emotions or have votes, by the alphabet.

    Raises:
      CorpusError: two that occur differ in upper and lower case alone.
    """
    if description.categories:
        return description.categories
    spellings: dict[str, str] = {}
    for row in table.rows:
        name = row.text("emotion")
        if name in ("", NO_CONSENSUS):
            continue
        other = spellings.setdefault(name.casefold(), name)
        if other != name:
            raise CorpusError(f"{row.place}: emotion {name!r} is also written {other!r}; name one in `categories`")
    for column in table.columns:
        if column.startswith(VOTES):
            name = column.removeprefix(VOTES)
            spellings.setdefault(name.casefold(), name)
    return tuple(sorted(spellings.values()))


def unused_votes(table: Table, categories: tuple[str, ...]) -> list[str]:
    """A line for the columns of votes for what is no category, where there are any."""
    known = {name.casefold() for name in categories}
    odd = [name for name in sorted(table.columns) if name.startswith(VOTES)]
    odd = [name for name in odd if name.removeprefix(VOTES).casefold() not in known]
    return [f"columns that are not used, as they name no category: {', '.join(odd)}"] if odd else []


def read_clips(
    folder: Path, description: Description, table: Table, categories: tuple[str, ...], counts: collections.Counter[str]
) -> dict[str, list[Clip]]:
    """Clips by split; rows whose file is not there are counted and left out.

    Raises:
      CorpusError: a value is not allowed, an id occurs twice, or a split has no file; the message names the line.
    """
    splits: dict[str, list[Clip]] = {}
    places: dict[str, str] = {}
    for row, split in zip(table.rows, splits_of(table.rows, description.seed, str(table.paths[0])), strict=True):
        clip = _clip(folder, row, description, categories)
        if places.setdefault(clip.id, row.place) != row.place:
            raise CorpusError(f"{row.place}: id {clip.id!r} occurs twice, first: {places[clip.id]}")
        clips = splits.setdefault(split, [])
        if clip.path.is_file():
            clips.append(clip)
        else:
            counts["without_audio"] += 1
        if row.text("gender") and not clip.gender:
            counts["gender_not_recognised"] += 1
    for split, clips in splits.items():
        if not clips:
            example = next(row for row in table.rows if row.values.get("split", split) == split)
            which = f"split {split!r}" if len(splits) > 1 else "the table"
            raise CorpusError(f"{folder}: no file of {which} is there, e.g. {folder / example.values['path']}")
    shared = _shared_speakers(splits)
    if shared:
        counts["speakers_in_several_splits"] = shared
    return splits


def make_utterance(clip: Clip) -> Made:
    """Decodes a clip; one that cannot be decoded, or begins after the file's end, is left out and counted."""
    try:
        audio = read_pcm(clip.path)
    except CorpusError as error:
        return Made(None, ("corrupt_audio",), str(error))
    duration = len(audio) / SAMPLE_RATE
    if clip.start >= duration:
        problem = f"{clip.place}: start {clip.start:g} s is beyond the end of {clip.path}, {duration:g} s"
        return Made(None, ("start_beyond_audio",), problem)
    end = duration if clip.end is None else min(clip.end, duration)
    audio = audio[round(clip.start * SAMPLE_RATE) : round(end * SAMPLE_RATE)]
    if len(audio) == 0:
        problem = f"{clip.place}: no sample of {clip.path} lies between {clip.start:g} and {end:g} s"
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
    return Made(example, _counted(clip, duration))


def _counted(clip: Clip, duration: float) -> tuple[str, ...]:
    """What is missing, and whether the clip was cut."""
    missing = [name for name, value in zip(ATTRIBUTES, clip.attributes, strict=True) if math.isnan(value)]
    counted = [f"without_{name}" for name in missing]
    counted += ["without_emotion"] if clip.emotion == MISSING_EMOTION else []
    counted += [] if clip.transcript else ["no_transcript"]
    counted += [] if clip.speaker else ["unknown_speaker"]
    return (*counted, "end_cut_to_audio") if clip.end is not None and clip.end > duration + _ROUNDING else (*counted,)


def _clip(folder: Path, row: Row, description: Description, categories: tuple[str, ...]) -> Clip:
    return Clip(
        id=row.values.get("id") or _id(row),
        place=row.place,
        path=folder / row.values["path"],
        start=row.start,
        end=row.end,
        attributes=tuple(_within(row, name, *description.scale) for name in ATTRIBUTES),
        std=tuple(_within(row, f"{name}_std", 0.0, math.inf) for name in ATTRIBUTES),
        emotion=_emotion(row, categories),
        votes=_votes(row, categories),
        num_categories=len(categories),
        transcript=row.text("transcript"),
        speaker=row.text("speaker"),
        gender=_GENDERS.get(row.text("gender").lower(), ""),
    )


def _id(row: Row) -> str:
    """The file's name, and the times where it is not the whole file."""
    if row.end is None:
        return row.values["path"] + (f"[{row.start:.15g}-]" if row.start else "")
    return f"{row.values['path']}[{row.start:.15g}-{row.end:.15g}]"


def _within(row: Row, name: str, low: float, high: float) -> float:
    value = row.number(name)
    if value < low or value > high:
        raise CorpusError(f"{row.place}: {name} {value:g} is not allowed; allowed: {low:g} to {high:g}")
    return value


def _emotion(row: Row, categories: tuple[str, ...]) -> int:
    name = row.text("emotion")
    if name in ("", NO_CONSENSUS):
        return MISSING_EMOTION
    folded = [category.casefold() for category in categories]
    if name.casefold() not in folded:
        allowed = ", ".join(categories) or "none"
        raise CorpusError(f"{row.place}: emotion {name!r} is not allowed; allowed: {allowed}")
    return folded.index(name.casefold())


def _votes(row: Row, categories: tuple[str, ...]) -> tuple[float, ...] | None:
    columns = {name.casefold(): name for name in row.values if name.startswith(VOTES)}
    named = [columns.get(f"{VOTES}{category}".casefold(), "") for category in categories]
    votes = [_within(row, name, 0.0, math.inf) if name else 0.0 for name in named]
    known = [0.0 if math.isnan(vote) else vote for vote in votes]
    largest = max(known, default=0.0)
    shares = [vote / largest for vote in known] if largest > 0 else []
    return tuple(share / sum(shares) for share in shares) or None


def _shared_speakers(splits: dict[str, list[Clip]]) -> int:
    speakers = [{clip.speaker for clip in clips if clip.speaker} for clips in splits.values()]
    return sum(count > 1 for count in collections.Counter(name for names in speakers for name in names).values())
