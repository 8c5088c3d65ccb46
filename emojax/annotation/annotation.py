"""The annotation of one recording, and its JSON file."""

import dataclasses
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float, UInt8

from emojax.errors import EmojaxError
from emojax.files import atomic_write, checked_content, read_json_object, with_digest
from emojax.recognition.transcript import Word

FORMAT, VERSION = "emojax annotation", 1

PEAK_SECONDS = 0.02
"""Time of each peak of the waveform."""

_PEAK_LEVELS = 255


@dataclasses.dataclass(frozen=True)
class Segment:
    """A segment of speech with its prediction.

    Attributes:
      start: start in seconds from the start of the recording.
      end: end in seconds.
      speaker: speaker; None where unknown.
      attributes: predicted attributes by name, in the scale of the training corpus.
      spread: standard deviation of the predicted distribution of ratings by attribute; None without distributions.
      probabilities: probability by category; None without categories.
      transcript: transcript; None if none was recognised.
      words: words of the transcript with times; None as `transcript`.
    """

    start: float
    end: float
    speaker: str | None
    attributes: Mapping[str, float]
    spread: Mapping[str, float] | None = None
    probabilities: Mapping[str, float] | None = None
    transcript: str | None = None
    words: tuple[Word, ...] | None = None

    @property
    def emotion(self) -> str | None:
        """The most probable category; None without categories."""
        found = self.probabilities
        return max(found, key=lambda name: found[name]) if found else None


@dataclasses.dataclass(frozen=True, eq=False)
class Track:
    """Smoothed predictions of N sliding windows; NaN where the centre of a window is not in a segment.

    Attributes:
      window: length of a window (s).
      hop: distance of their centres (s).
      times: centre of each window (s).
      attributes: predictions by attribute.
      spread: standard deviation of the smoothed distribution by attribute; None without distributions.
    """

    window: float
    hop: float
    times: Float[np.ndarray, "N"]
    attributes: Mapping[str, Float[np.ndarray, "N"]]
    spread: Mapping[str, Float[np.ndarray, "N"]] | None = None


@dataclasses.dataclass(frozen=True)
class ModelDescription:
    """The model of an annotation.

    Attributes:
      name: name of its workdir.
      corpus: training corpus.
      scale: lowest and highest value of the attributes.
      attributes: attributes that it predicts.
      categories: categories that it predicts; () if none.
      speech: "recorded" or "synthesised" speech of the training corpus.
    """

    name: str
    corpus: str
    scale: tuple[float, float]
    attributes: tuple[str, ...]
    categories: tuple[str, ...]
    speech: str


@dataclasses.dataclass(frozen=True, eq=False)
class Annotation:
    """The annotation of a recording.

    Attributes:
      file: path of the recording, relative to the JSON file where possible.
      duration: duration of the recording (s).
      model: the model.
      segments: segments of speech in the order of time; they do not overlap.
      track: predictions of sliding windows.
      peaks: greatest magnitude of the waveform in each `PEAK_SECONDS`; 255 is full scale.
      skipped: segments without a prediction, because they are shorter than one frame of the model.
      key: digest of all that determines the annotation.
    """

    file: str
    duration: float
    model: ModelDescription
    segments: tuple[Segment, ...]
    track: Track
    peaks: UInt8[np.ndarray, "P"]
    skipped: int = 0
    key: str = ""

    @property
    def speech_seconds(self) -> float:
        """Duration of all segments (s)."""
        return sum(segment.end - segment.start for segment in self.segments)

    def to_tree(self) -> dict[str, Any]:
        """Tree for JSON: times in ms precision, predictions rounded to four decimals, null for NaN."""
        track = self.track
        spread = None if track.spread is None else {name: _with_nulls(each) for name, each in track.spread.items()}
        return {
            "format": FORMAT,
            "version": VERSION,
            "file": self.file,
            "duration": round(self.duration, 3),
            "model": {"name": self.model.name, "corpus": self.model.corpus, "scale": list(self.model.scale)},
            "attributes": list(self.model.attributes),
            "categories": list(self.model.categories),
            "speech": self.model.speech,
            "segments": [_segment_tree(segment) for segment in self.segments],
            "track": {
                "window": track.window,
                "hop": track.hop,
                "times": np.round(track.times, 3).tolist(),
                **{name: _with_nulls(values) for name, values in track.attributes.items()},
                "spread": spread,
            },
            "waveform": {"hop": PEAK_SECONDS, "peaks": np.round(self.peaks / _PEAK_LEVELS, 3).tolist()},
            "counts": {
                "segments": len(self.segments),
                "speech_seconds": round(self.speech_seconds, 3),
                "skipped": self.skipped,
            },
            "key": self.key,
        }

    @classmethod
    def from_tree(cls, tree: Mapping[str, Any], context: str = "annotation") -> "Annotation":
        """Converts the tree of a JSON file; the inverse of `to_tree` to the precision stated there.

        Args:
          tree: JSON object.
          context: file in error messages.

        Raises:
          EmojaxError: the tree is not an annotation, or has another version.
        """
        if tree.get("format") != FORMAT or tree.get("version") != VERSION:
            raise EmojaxError(f"{context}: must be an {FORMAT} of version {VERSION}")
        try:
            return _from_tree(tree)
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise EmojaxError(f"{context}: is not a complete {FORMAT} ({type(error).__name__}: {error})") from error


def write_annotation(path: Path, tree: Mapping[str, Any]) -> None:
    """Writes the tree of an annotation as JSON with its digest, in one line, atomically.

    Raises:
      EmojaxError: the file cannot be written.
    """
    with atomic_write(path) as temporary, temporary.open("w", encoding="utf-8") as file:
        json.dump(with_digest(tree), file, allow_nan=False, ensure_ascii=False, separators=(",", ":"))
        file.write("\n")


def read_annotation(path: Path) -> Annotation:
    """Reads the JSON file of an annotation.

    Raises:
      EmojaxError: the file is missing, damaged, or not an annotation.
    """
    tree = checked_content(read_json_object(path, EmojaxError), str(path), EmojaxError)
    return Annotation.from_tree(tree, str(path))


def _segment_tree(segment: Segment) -> dict[str, Any]:
    return {
        "start": round(segment.start, 3),
        "end": round(segment.end, 3),
        "speaker": segment.speaker,
        **_rounded(segment.attributes),
        "spread": segment.spread and _rounded(segment.spread),
        "emotion": segment.emotion,
        "probabilities": segment.probabilities and _rounded(segment.probabilities),
        "transcript": segment.transcript,
        "words": None if segment.words is None else [_word_tree(word) for word in segment.words],
    }


def _word_tree(word: Word) -> dict[str, Any]:
    times = {"start": round(word.start, 3), "end": round(word.end, 3)}
    return {"word": word.text, **times, "probability": round(word.probability, 4)}


def _rounded(values: Mapping[str, float]) -> dict[str, float]:
    return {name: round(value, 4) for name, value in values.items()}


def _with_nulls(values: Float[np.ndarray, "N"]) -> list[float | None]:
    return [None if value != value else value for value in np.round(values.astype(np.float64), 4).tolist()]


def _from_tree(tree: Mapping[str, Any]) -> Annotation:
    names, track = tuple(tree["attributes"]), tree["track"]
    low, high = tree["model"]["scale"]
    model = tree["model"]
    spread = track["spread"]
    return Annotation(
        file=tree["file"],
        duration=float(tree["duration"]),
        model=ModelDescription(
            model["name"], model["corpus"], (low, high), names, tuple(tree["categories"]), tree["speech"]
        ),
        segments=tuple(
            Segment(
                start=float(each["start"]),
                end=float(each["end"]),
                speaker=each["speaker"],
                attributes={name: float(each[name]) for name in names},
                spread=each["spread"],
                probabilities=each["probabilities"],
                transcript=each["transcript"],
                words=None if each["words"] is None else tuple(map(_read_word, each["words"])),
            )
            for each in tree["segments"]
        ),
        track=Track(
            window=float(track["window"]),
            hop=float(track["hop"]),
            times=np.array(track["times"], np.float64),
            attributes={name: _with_nans(track[name]) for name in names},
            spread=None if spread is None else {name: _with_nans(values) for name, values in spread.items()},
        ),
        peaks=np.round(np.array(tree["waveform"]["peaks"]) * _PEAK_LEVELS).astype(np.uint8),
        skipped=int(tree["counts"]["skipped"]),
        key=tree.get("key", ""),
    )


def _with_nans(values: Sequence[float | None]) -> Float[np.ndarray, "N"]:
    return np.array([np.nan if value is None else value for value in values], np.float64)


def _read_word(tree: Mapping[str, Any]) -> Word:
    return Word(tree["word"], tree["start"], tree["end"], tree["probability"])
