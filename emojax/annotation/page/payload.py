"""The data block of a page: an annotation as columns, checked, with short numbers."""

import base64
import math
from collections.abc import Mapping, Sequence
from typing import Any

from emojax.errors import EmojaxError

FORMAT = "emojax annotation"
VERSION = 1

_ATTRIBUTES = ("activation", "valence", "dominance")


def page_payload(annotation: Mapping[str, Any]) -> dict[str, Any]:
    """Converts an annotation to the columns that the scripts of the page read.

    Times are integers in milliseconds, those of words relative to their segment. Peaks are bytes in Base64.

    Args:
      annotation: annotation of a recording, as its JSON file holds it.

    Raises:
      EmojaxError: a field is missing or has another type, or a number is not finite.
    """
    if annotation.get("format") != FORMAT or annotation.get("version") != VERSION:
        found = f"{annotation.get('format')!r}, {annotation.get('version')!r}"
        raise EmojaxError(f"`format` and `version` must be {FORMAT!r}, {VERSION}, got {found}")
    attributes = [name for name in _ATTRIBUTES if name in _list(annotation, "attributes", str)]
    categories = _list(annotation, "categories", str)
    segments = sorted(
        _list(annotation, "segments", Mapping),
        key=lambda segment: (_number(segment, "start"), _number(segment, "end")),
    )
    model = _mapping(annotation, "model")
    return {
        "file": str(annotation.get("file") or ""),
        "duration": _milliseconds(_number(annotation, "duration")),
        "model": {
            "name": str(model.get("name") or ""),
            "corpus": str(model.get("corpus") or ""),
            "scale": _scale(model.get("scale")),
        },
        "speech": str(annotation.get("speech") or ""),
        "attributes": attributes,
        "categories": categories,
        "segments": _segment_columns(segments, attributes, categories),
        "track": _track(annotation.get("track"), attributes),
        "waveform": _waveform(annotation.get("waveform")),
        "skipped": (annotation.get("counts") or {}).get("skipped") or 0,
    }


def _segment_columns(
    segments: Sequence[Mapping[str, Any]], attributes: Sequence[str], categories: Sequence[str]
) -> dict[str, Any]:
    speakers = sorted({str(segment["speaker"]) for segment in segments if segment.get("speaker") is not None})
    for segment in segments:
        if segment.get("emotion") is not None and segment["emotion"] not in categories:
            raise EmojaxError(f"`emotion` must be one of {list(categories)}, got {segment['emotion']!r}")
    spreads = [segment.get("spread") or {} for segment in segments]
    chances = [segment.get("probabilities") or {} for segment in segments]
    return {
        "start": [_milliseconds(_number(segment, "start")) for segment in segments],
        "end": [_milliseconds(_number(segment, "end")) for segment in segments],
        "speakers": speakers,
        "speaker": [
            -1 if segment.get("speaker") is None else speakers.index(str(segment["speaker"])) for segment in segments
        ],
        "emotion": [
            -1 if segment.get("emotion") is None else categories.index(segment["emotion"]) for segment in segments
        ],
        "values": {name: [_optional(segment, name) for segment in segments] for name in attributes},
        "spread": _columns(spreads, attributes),
        "probabilities": _columns(chances, categories),
        **_texts(segments),
    }


def _columns(rows: Sequence[Mapping[str, Any]], names: Sequence[str]) -> dict[str, list[float | None]] | None:
    """One list per name; None where no row has any."""
    return {name: [_optional(row, name) for row in rows] for name in names} if any(rows) else None


def _texts(segments: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Transcript, words, times of words and, in percent, their probabilities, of each segment."""
    columns: dict[str, list[Any]] = {"text": [], "words": [], "times": [], "sure": []}
    for segment in segments:
        words = _list(segment, "words", Mapping) if segment.get("words") is not None else []
        kept = [(str(word.get("word") or "").strip(), word) for word in words]
        kept = [(text, word) for text, word in kept if text]
        texts = [text for text, _ in kept]
        start = _number(segment, "start")
        limits = [_number(word, key) - start for _, word in kept for key in ("start", "end")]
        columns["text"].append(_text_with(texts, segment.get("transcript")))
        columns["words"].append(texts)
        columns["times"].append([_milliseconds(limit) for limit in limits])
        columns["sure"].append([_percent(_optional(word, "probability")) for _, word in kept])
    return columns


def _text_with(words: Sequence[str], transcript: str | None) -> str | None:
    """The transcript if it has every word in order, so that words can be marked in it; else the words."""
    position = 0
    for word in words:
        found = (transcript or "").find(word, position)
        if found < 0:
            return " ".join(words)
        position = found + len(word)
    return transcript


def _track(track: Mapping[str, Any] | None, attributes: Sequence[str]) -> dict[str, Any] | None:
    if not track or not track.get("times"):
        return None
    times = [_milliseconds(_finite(time, "track.times")) for time in track["times"]]
    spread = track.get("spread")
    values = {name: _series(track, name, len(times)) for name in attributes if track.get(name) is not None}
    return {
        "window": _milliseconds(_number(track, "window")),
        "hop": _milliseconds(_number(track, "hop")),
        "times": times,
        "values": values,
        "spread": {name: _series(spread, name, len(times)) for name in values if name in spread} if spread else None,
    }


def _series(tree: Mapping[str, Any], name: str, length: int) -> list[float | None]:
    values = tree[name]
    if len(values) != length:
        raise EmojaxError(f"`track.{name}` must have {length} values as `track.times`, got {len(values)}")
    return [None if value is None else round(_finite(value, name), 3) for value in values]


def _waveform(waveform: Mapping[str, Any] | None) -> dict[str, Any] | None:
    """Peaks as bytes; 3 h at a hop of 20 ms are 720 kB in Base64."""
    if not waveform or not waveform.get("peaks"):
        return None
    peaks = bytes(round(255 * min(max(_finite(peak, "waveform.peaks"), 0.0), 1.0)) for peak in waveform["peaks"])
    return {"hop": _number(waveform, "hop"), "peaks": base64.b64encode(peaks).decode()}


def _scale(scale: Any) -> list[float]:
    low, high = (_finite(limit, "model.scale") for limit in (scale if scale and len(scale) == 2 else (math.nan, 0)))
    if not low < high:
        raise EmojaxError(f"`model.scale` must be a lower and a higher number, got {scale}")
    return [low, high]


def _mapping(tree: Mapping[str, Any], key: str) -> Mapping[str, Any]:
    value = tree.get(key)
    if not isinstance(value, Mapping):
        raise EmojaxError(f"`{key}` must be an object, got {value!r}")
    return value


def _list(tree: Mapping[str, Any], key: str, kind: type) -> list[Any]:
    values = tree.get(key)
    if not isinstance(values, Sequence) or isinstance(values, str) or not all(isinstance(v, kind) for v in values):
        raise EmojaxError(f"`{key}` must be a list of {kind.__name__}")
    return list(values)


def _number(tree: Mapping[str, Any], key: str) -> float:
    return _finite(tree.get(key), key)


def _optional(tree: Mapping[str, Any], key: str) -> float | None:
    value = tree.get(key)
    return None if value is None else round(_finite(value, key), 3)


def _finite(value: Any, key: str) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise EmojaxError(f"`{key}` must be a finite number, got {value!r}")
    return value


def _milliseconds(seconds: float) -> int:
    return round(1000 * seconds)


def _percent(share: float | None) -> int | None:
    return None if share is None else round(100 * share)
