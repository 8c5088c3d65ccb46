"""Conversion of the user's table to clips by split, and of clips to utterances."""

import collections
import dataclasses
import math
from pathlib import Path

from emojax.errors import CorpusError
from emojax.types import ATTRIBUTES, MISSING_EMOTION, SAMPLE_RATE
from tfds_builders.folder.description import VOTES, Description
from tfds_builders.folder.splits import splits_of
from tfds_builders.folder.table import NO_CONSENSUS, Row, Table
from tfds_builders.utterance import Made, is_url, read_pcm, utterance

_GENDERS = {"female": "female", "f": "female", "male": "male", "m": "male"}

_ROUNDING = 0.001
"""Tolerance for ends beyond the file (s): tables round times, resampling rounds lengths."""


@dataclasses.dataclass(frozen=True)
class Clip:
    """One row of the table.

    Attributes:
      id: utterance id, unique in the corpus.
      context: file and line of the row, for error messages.
      path: audio file, or its URL (`gs://`, `s3://`, …).
      start: start of the clip (s).
      end: end of the clip (s); None for the end of the file.
      attributes: labels in the order of `ATTRIBUTES`; NaN where missing.
      std: standard deviation over raters.
      emotion: category index; -1 where missing.
      votes: share per category; None if the table has no votes.
      num_categories: number of categories C.
      transcript: words; "" if unknown.
      speaker: speaker id; "" if unknown.
      gender: gender; "" if unknown.
    """

    id: str
    context: str
    path: Path | str
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
    """Returns the categories of the description, or those that occur as emotions or in votes, sorted.

    Raises:
      CorpusError: two of them differ in case only.
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
            raise CorpusError(f"{row.context}: emotion {name!r} is also written {other!r}; name one in `categories`")
    for column in table.columns:
        if column.startswith(VOTES):
            name = column.removeprefix(VOTES)
            spellings.setdefault(name.casefold(), name)
    return tuple(sorted(spellings.values()))


def unused_votes(table: Table, categories: tuple[str, ...]) -> list[str]:
    """Returns a remark on columns of votes that match no category, if any."""
    folded = {name.casefold() for name in categories}
    unused = [name for name in sorted(table.columns) if name.startswith(VOTES)]
    unused = [name for name in unused if name.removeprefix(VOTES).casefold() not in folded]
    return [f"unused columns, which match no category: {', '.join(unused)}"] if unused else []


def read_clips(
    folder: Path, description: Description, table: Table, categories: tuple[str, ...], counts: collections.Counter[str]
) -> dict[str, list[Clip]]:
    """Converts the rows to clips by split; rows without audio file are counted and skipped.

    Raises:
      CorpusError: a value is invalid, an id occurs twice, or a split has no file; the message names the line.
    """
    splits: dict[str, list[Clip]] = {}
    contexts: dict[str, str] = {}
    for row, split in zip(table.rows, splits_of(table.rows, description.seed, str(table.paths[0])), strict=True):
        clip = _clip(folder, row, description, categories)
        if contexts.setdefault(clip.id, row.context) != row.context:
            raise CorpusError(f"{row.context}: id {clip.id!r} occurs twice, first: {contexts[clip.id]}")
        clips = splits.setdefault(split, [])
        if is_url(clip.path) or Path(clip.path).is_file():  # files of a bucket are opened by the workers alone
            clips.append(clip)
        else:
            counts["without_audio"] += 1
        if row.text("gender") and not clip.gender:
            counts["gender_not_recognised"] += 1
    for split, clips in splits.items():
        if not clips:
            example = next(row for row in table.rows if row.values.get("split", split) == split)
            part = f"split {split!r}" if len(splits) > 1 else "the table"
            raise CorpusError(f"{folder}: all files of {part} are missing, e.g. {folder / example.values['path']}")
    shared = _shared_speakers(splits)
    if shared:
        counts["speakers_in_several_splits"] = shared
    return splits


def audio_path(folder: Path, value: str) -> Path | str:
    """Audio file of a row: a URL, or a path relative to the folder."""
    return value if is_url(value) else folder / value


def make_utterance(clip: Clip) -> Made:
    """Decodes a clip; clips that cannot be decoded or start after the end of the file are skipped and counted."""
    try:
        audio = read_pcm(clip.path)
    except CorpusError as error:
        return Made(None, ("corrupt_audio",), str(error))
    duration = len(audio) / SAMPLE_RATE
    if clip.start >= duration:
        problem = f"{clip.context}: start {clip.start:g} s is beyond the end of {clip.path}, {duration:g} s"
        return Made(None, ("start_beyond_audio",), problem)
    end = duration if clip.end is None else min(clip.end, duration)
    audio = audio[round(clip.start * SAMPLE_RATE) : round(end * SAMPLE_RATE)]
    if len(audio) == 0:
        problem = f"{clip.context}: {clip.path} has no sample between {clip.start:g} and {end:g} s"
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
    """Lists the missing values, and whether the clip was truncated."""
    missing = [name for name, value in zip(ATTRIBUTES, clip.attributes, strict=True) if math.isnan(value)]
    counted = [f"without_{name}" for name in missing]
    counted += ["without_emotion"] if clip.emotion == MISSING_EMOTION else []
    counted += [] if clip.transcript else ["no_transcript"]
    counted += [] if clip.speaker else ["unknown_speaker"]
    return (*counted, "end_cut_to_audio") if clip.end is not None and clip.end > duration + _ROUNDING else (*counted,)


def _clip(folder: Path, row: Row, description: Description, categories: tuple[str, ...]) -> Clip:
    return Clip(
        id=row.values.get("id") or _id(row),
        context=row.context,
        path=audio_path(folder, row.values["path"]),
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
    """Returns the file name, with times for a part of the file."""
    if row.end is None:
        return row.values["path"] + (f"[{row.start:.15g}-]" if row.start else "")
    return f"{row.values['path']}[{row.start:.15g}-{row.end:.15g}]"


def _within(row: Row, name: str, low: float, high: float) -> float:
    value = row.number(name)
    if value < low or value > high:
        raise CorpusError(f"{row.context}: {name} must be {low:g} to {high:g}, got {value:g}")
    return value


def _emotion(row: Row, categories: tuple[str, ...]) -> int:
    name = row.text("emotion")
    if name in ("", NO_CONSENSUS):
        return MISSING_EMOTION
    folded = [category.casefold() for category in categories]
    if name.casefold() not in folded:
        raise CorpusError(f"{row.context}: emotion must be one of {', '.join(categories) or 'none'}, got {name!r}")
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
