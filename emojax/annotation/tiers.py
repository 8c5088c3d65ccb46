"""Annotations as tiers: Praat TextGrid and ELAN; pure functions of an annotation."""

import mimetypes
from collections.abc import Iterable, Sequence
from typing import NamedTuple
from xml.sax.saxutils import escape, quoteattr

from emojax.annotation.annotation import Annotation
from emojax.annotation.captions import one_line


class Interval(NamedTuple):
    """An interval of a tier with its text; times in ms."""

    start: int
    end: int
    text: str


def tiers_of(annotation: Annotation) -> dict[str, list[Interval]]:
    """Intervals by tier: speaker, emotion, each attribute, transcript, words; tiers without any text are omitted."""
    segments = annotation.segments
    tiers: dict[str, Iterable[tuple[float, float, str]]] = {
        "speaker": ((each.start, each.end, each.speaker or "") for each in segments),
        "emotion": ((each.start, each.end, each.emotion or "") for each in segments),
    }
    for name in annotation.model.attributes:
        tiers[name] = [
            (each.start, each.end, f"{each.attributes[name]:.4f}" if name in each.attributes else "")
            for each in segments
        ]
    tiers["transcript"] = ((each.start, each.end, each.transcript or "") for each in segments)
    tiers["words"] = ((word.start, word.end, word.text) for each in segments for word in each.words or ())
    duration = _milliseconds(annotation.duration)
    found = {name: disjoint(intervals, duration) for name, intervals in tiers.items()}
    return {name: intervals for name, intervals in found.items() if intervals}


def disjoint(spans: Iterable[tuple[float, float, str]], duration: int) -> list[Interval]:
    """Intervals in ms that do not overlap and have a length.

    A start is moved to the end of the interval before; the text of what has no length then is added to that interval.

    Args:
      spans: start, end (s) and text, in the order of time; those without text are skipped.
      duration: duration of the recording (ms).
    """
    intervals: list[Interval] = []
    for first, last, text in spans:
        shown = one_line(text)
        if not shown:
            continue
        before = intervals[-1].end if intervals else 0
        start, end = max(_milliseconds(first), before), min(_milliseconds(last), duration)
        if end > start:
            intervals.append(Interval(start, end, shown))
        elif intervals:
            intervals[-1] = intervals[-1]._replace(text=f"{intervals[-1].text} {shown}")
        elif duration > 0:
            start = min(start, duration - 1)
            intervals.append(Interval(start, start + 1, shown))
    return intervals


def to_textgrid(annotation: Annotation) -> str:
    """TextGrid in Praat's long text format; tiers of intervals cover the recording, with empty texts between."""
    tiers, duration = tiers_of(annotation), max(_milliseconds(annotation.duration), 1)
    if not tiers:
        tiers = {"transcript": []}  # Praat reads no TextGrid without a tier
    lines = ['File type = "ooTextFile"', 'Object class = "TextGrid"', "", "xmin = 0", f"xmax = {_seconds(duration)}"]
    lines += ["tiers? <exists>", f"size = {len(tiers)}", "item []:"]
    for number, (name, intervals) in enumerate(tiers.items(), 1):
        covering = _covering(intervals, duration)
        lines += [f"    item [{number}]:", '        class = "IntervalTier"', f'        name = "{name}"']
        lines += ["        xmin = 0", f"        xmax = {_seconds(duration)}"]
        lines += [f"        intervals: size = {len(covering)}"]
        for place, interval in enumerate(covering, 1):
            text = interval.text.replace('"', '""')
            lines += [f"        intervals [{place}]:", f"            xmin = {_seconds(interval.start)}"]
            lines += [f"            xmax = {_seconds(interval.end)}", f'            text = "{text}"']
    return "\n".join(lines) + "\n"


def to_elan(annotation: Annotation, audio_source: str) -> str:
    """ELAN annotation file (EAF 3.0) with independent, time-aligned tiers.

    Args:
      annotation: annotation.
      audio_source: path of the recording relative to the file.
    """
    slots: list[int] = []
    tiers: list[str] = []
    count = 0
    for name, intervals in tiers_of(annotation).items():
        tiers.append(f"    <TIER LINGUISTIC_TYPE_REF={quoteattr('default-lt')} TIER_ID={quoteattr(name)}>")
        for interval in intervals:
            slots += [interval.start, interval.end]
            count += 1
            times = f'TIME_SLOT_REF1="ts{len(slots) - 1}" TIME_SLOT_REF2="ts{len(slots)}"'
            tiers += [
                f'        <ANNOTATION><ALIGNABLE_ANNOTATION ANNOTATION_ID="a{count}" {times}>',
                f"            <ANNOTATION_VALUE>{escape(interval.text)}</ANNOTATION_VALUE>",
                "        </ALIGNABLE_ANNOTATION></ANNOTATION>",
            ]
        tiers.append("    </TIER>")
    schema = "http://www.mpi.nl/tools/elan/EAFv3.0.xsd"
    media = f"MEDIA_URL={quoteattr(audio_source)} RELATIVE_MEDIA_URL={quoteattr(audio_source)}"
    return "\n".join(
        [
            '<?xml version="1.0" encoding="UTF-8"?>',
            '<ANNOTATION_DOCUMENT AUTHOR="emojax" DATE="1970-01-01T00:00:00+00:00" FORMAT="3.0" VERSION="3.0"'
            f' xmlns:xsi="http://www.w3.org/2001/XMLSchema-instance" xsi:noNamespaceSchemaLocation="{schema}">',
            '    <HEADER MEDIA_FILE="" TIME_UNITS="milliseconds">',
            f'        <MEDIA_DESCRIPTOR {media} MIME_TYPE="{_mime_type(audio_source)}"/>',
            "    </HEADER>",
            "    <TIME_ORDER>",
            *(f'        <TIME_SLOT TIME_SLOT_ID="ts{n}" TIME_VALUE="{time}"/>' for n, time in enumerate(slots, 1)),
            "    </TIME_ORDER>",
            *tiers,
            '    <LINGUISTIC_TYPE GRAPHIC_REFERENCES="false" LINGUISTIC_TYPE_ID="default-lt" TIME_ALIGNABLE="true"/>',
            "</ANNOTATION_DOCUMENT>",
            "",
        ]
    )


def _covering(intervals: Sequence[Interval], duration: int) -> list[Interval]:
    covering: list[Interval] = []
    position = 0
    for interval in intervals:
        if interval.start > position:
            covering.append(Interval(position, interval.start, ""))
        covering.append(interval)
        position = interval.end
    if position < duration:
        covering.append(Interval(position, duration, ""))
    return covering


def _mime_type(path: str) -> str:
    return mimetypes.guess_type(path)[0] or "audio/*"


def _milliseconds(seconds: float) -> int:
    return round(seconds * 1000)


def _seconds(milliseconds: int) -> str:
    return f"{milliseconds / 1000:.3f}"
