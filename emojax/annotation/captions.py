"""Segments as text: table (audformat), RTTM, WebVTT, SRT and Audacity labels; pure functions of an annotation."""

import csv
import io
import re

from emojax.annotation.annotation import Annotation, Segment
from emojax.evaluation.predictions import write_cell
from emojax.types import ATTRIBUTES

COLUMNS = ("file", "start", "end", "speaker", *ATTRIBUTES, "emotion", "transcript")
"""Columns of the table; the first three are the index of a segmented table of audformat."""

UNKNOWN_SPEAKER = "unknown"
"""Speaker in RTTM, whose lines must have one, of segments without."""


def to_csv(annotation: Annotation, file: str) -> str:
    """Table with a row per segment; times in seconds, empty cells for what is not predicted.

    Text that a spreadsheet would evaluate has an apostrophe in front (see `emojax.evaluation.predictions`).

    Args:
      annotation: annotation.
      file: path of the recording in the column `file`.
    """
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(COLUMNS)
    for segment in annotation.segments:
        attributes = [f"{segment.attributes[name]:.4f}" if name in segment.attributes else "" for name in ATTRIBUTES]
        texts = [write_cell(one_line(text or "")) for text in (segment.speaker, segment.emotion, segment.transcript)]
        times = f"{segment.start:.3f}", f"{segment.end:.3f}"
        writer.writerow([write_cell(file), *times, texts[0], *attributes, *texts[1:]])
    return out.getvalue()


def to_rttm(annotation: Annotation, recording: str) -> str:
    """SPEAKER lines.

    Args:
      annotation: annotation.
      recording: id of the recording, without spaces.
    """
    lines = []
    for segment in annotation.segments:
        speaker = "_".join((segment.speaker or "").split()) or UNKNOWN_SPEAKER
        times = f"{segment.start:.3f} {segment.end - segment.start:.3f}"
        lines.append(f"SPEAKER {recording} 1 {times} <NA> <NA> {speaker} <NA> <NA>\n")
    return "".join(lines)


def to_webvtt(annotation: Annotation) -> str:
    """WebVTT captions: transcript and prediction, with the speaker as voice."""
    cues = ["WEBVTT\n"]
    for segment in annotation.segments:
        text = "\n".join(map(_escaped, caption_lines(segment)))
        if segment.speaker is not None:
            speaker = _escaped(one_line(segment.speaker))
            # Readers strip the space; without it the tag of a speaker named `--` would end in an arrow.
            text = f"<v {speaker}{' ' if speaker.endswith('--') else ''}>{text}</v>"
        cues.append(f"{_clock(segment.start, '.')} --> {_clock(segment.end, '.')}\n{text}\n")
    return "\n".join(cues)


def to_srt(annotation: Annotation) -> str:
    """SubRip captions: transcript and prediction, with the speaker in front."""
    cues = []
    for number, segment in enumerate(annotation.segments, 1):
        lines = caption_lines(segment)
        if segment.speaker is not None:
            lines[0] = f"{one_line(segment.speaker)}: {lines[0]}"
        text = "\n".join(lines)
        cues.append(f"{number}\n{_clock(segment.start, ',')} --> {_clock(segment.end, ',')}\n{text}\n")
    return "\n".join(cues)


def to_audacity(annotation: Annotation) -> str:
    """Label track of Audacity: start, end (s) and label, separated by tabs."""
    lines = []
    for segment in annotation.segments:
        label = " | ".join(caption_lines(segment))
        if segment.speaker is not None:
            label = f"{one_line(segment.speaker)}: {label}"
        lines.append(f"{segment.start:.6f}\t{segment.end:.6f}\t{label}\n")
    return "".join(lines)


def caption_lines(segment: Segment) -> list[str]:
    """Transcript, if there is one, and prediction: `anger, activation 4.2, valence 3.1`; at least one line."""
    values = [f"{name} {value:.2f}" for name, value in segment.attributes.items()]
    prediction = ", ".join([*([one_line(segment.emotion)] if segment.emotion else []), *values])
    transcript = one_line(segment.transcript or "")
    return [line for line in (transcript, prediction) if line] or ["speech"]


def one_line(text: str) -> str:
    """Text without line breaks, tabs, control characters, and arrows, which end or begin a cue."""
    printable = "".join(c if c.isprintable() else " " for c in text)
    return " ".join(re.sub("-{2,}>", "->", printable).split())


def _escaped(text: str) -> str:
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")


def _clock(seconds: float, point: str) -> str:
    milliseconds = round(seconds * 1000)
    minutes, milliseconds = divmod(milliseconds, 60_000)
    hours, minutes = divmod(minutes, 60)
    return f"{hours:02d}:{minutes:02d}:{milliseconds // 1000:02d}{point}{milliseconds % 1000:03d}"
