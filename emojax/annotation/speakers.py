"""Speakers of segments from diarization in RTTM files."""

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from emojax.errors import EmojaxError

_FIELDS = 8
"""Fields of a SPEAKER line up to the speaker's name."""

_OTHER_TYPES = (
    *("SEGMENT", "NOSCORE", "NO_RT_METADATA", "LEXEME", "NON-LEX", "NON-SPEECH", "FILLER"),
    *("EDIT", "SU", "IP", "CB", "A/P", "SPKR-INFO"),
)
"""Types of lines that are ignored."""


@dataclasses.dataclass(frozen=True)
class Turns:
    """Turns of the speakers of one recording.

    Attributes:
      speakers: names, in the order of their first turns.
      starts: start of each turn (s).
      ends: end of each turn (s); turns of one speaker do not overlap.
      numbers: index into `speakers` of each turn.
    """

    speakers: tuple[str, ...]
    starts: np.ndarray
    ends: np.ndarray
    numbers: np.ndarray

    def speaker(self, start: float, end: float) -> str | None:
        """The speaker with the longest overlap, the one that began first if equal; None without overlap."""
        overlaps = np.maximum(np.minimum(self.ends, end) - np.maximum(self.starts, start), 0)
        totals = np.bincount(self.numbers, overlaps, minlength=len(self.speakers))
        return self.speakers[int(np.argmax(totals))] if totals.max(initial=0) > 0 else None


def make_turns(spans: Sequence[tuple[float, float, str]]) -> Turns:
    """Makes turns of (start, end, speaker); those of a speaker that overlap are merged."""
    merged: list[tuple[float, float, str]] = []
    last: dict[str, int] = {}
    for start, end, speaker in sorted(spans):
        position = last.get(speaker)
        if position is not None and start <= merged[position][1]:
            merged[position] = (merged[position][0], max(end, merged[position][1]), speaker)
        else:
            last[speaker] = len(merged)
            merged.append((start, end, speaker))
    speakers = tuple(dict.fromkeys(speaker for *_, speaker in merged))
    numbers = np.array([speakers.index(speaker) for *_, speaker in merged], np.int64)
    return Turns(speakers, np.array([each[0] for each in merged]), np.array([each[1] for each in merged]), numbers)


def read_rttm(paths: Sequence[Path]) -> dict[str, Turns]:
    """Reads the SPEAKER lines of RTTM files (NIST, Rich Transcription 2009).

    Returns:
      Turns by the id of the recording, which is the name of its file without suffix.

    Raises:
      EmojaxError: a file cannot be read, or a line is not valid; the message names file and line.
    """
    spans: dict[str, list[tuple[float, float, str]]] = {}
    for path in paths:
        try:
            lines = path.read_text(encoding="utf-8").splitlines()
        except (OSError, UnicodeDecodeError) as error:
            detail = getattr(error, "strerror", None) or "is not UTF-8 text"
            raise EmojaxError(f"{path}: cannot be read as RTTM ({detail})") from error
        for number, line in enumerate(lines, 1):
            fields = line.split()
            if not fields or fields[0].startswith(";") or fields[0] in _OTHER_TYPES:
                continue
            if fields[0] != "SPEAKER":
                raise EmojaxError(f"{path}, line {number}: must begin with an RTTM type, got {fields[0][:50]!r}")
            start, duration = _times(fields, path, number)
            spans.setdefault(fields[1], []).append((start, start + duration, fields[7]))
    return {recording: make_turns(found) for recording, found in spans.items()}


def recording_id(path: Path) -> str:
    """Id of a recording in RTTM files, which have no spaces in their fields."""
    return "_".join(path.stem.split()) or "recording"


def check_recordings(paths: Sequence[Path], turns: Mapping[str, Turns]) -> None:
    """Checks that RTTM files have turns of at least one recording.

    Raises:
      EmojaxError: naming ids of both.
    """
    ids = [recording_id(path) for path in paths]
    if ids and not any(each in turns for each in ids):
        found = ", ".join(sorted(turns)[:3]) or "none"
        raise EmojaxError(f"--rttm must have turns of {ids[0]} (the file name without suffix), got turns of {found}")


def _times(fields: Sequence[str], path: Path, number: int) -> tuple[float, float]:
    try:
        if len(fields) < _FIELDS:
            raise ValueError
        start, duration = float(fields[3]), float(fields[4])
        if not (0 <= start < np.inf and 0 <= duration < np.inf):
            raise ValueError
    except ValueError:
        raise EmojaxError(
            f"{path}, line {number}: must be SPEAKER FILE CHANNEL START DURATION <NA> <NA> NAME with times >= 0"
        ) from None
    return start, duration
