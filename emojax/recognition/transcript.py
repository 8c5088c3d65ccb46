"""Transcripts: what every recognizer returns, with times and the figures by which doubtful text is found."""

import dataclasses
import zlib
from collections.abc import Sequence
from typing import Protocol

import numpy as np


@dataclasses.dataclass(frozen=True)
class Word:
    """A word with its time.

    Attributes:
      text: the word with its punctuation, without spaces around it.
      start: start in seconds from the start of the recording.
      end: end in seconds.
      probability: mean probability of its tokens.
    """

    text: str
    start: float
    end: float
    probability: float


@dataclasses.dataclass(frozen=True)
class Segment:
    """A part of a transcript.

    Attributes:
      text: text of the segment.
      start: start in seconds from the start of the recording.
      end: end in seconds.
      log_probability: mean log-probability of a token (Whisper) or of a frame's best label (CTC); 0 is certain.
      compression_ratio: bytes of the text over bytes after compression, `compression_ratio`; loops have more than 2.4.
      no_speech_probability: probability of no speech; None where the recognizer has no such output.
      temperature: temperature at which the tokens were sampled; 0 for the most probable ones.
      words: words with times, empty unless asked for.
    """

    text: str
    start: float
    end: float
    log_probability: float
    compression_ratio: float
    no_speech_probability: float | None = None
    temperature: float = 0.0
    words: tuple[Word, ...] = ()


@dataclasses.dataclass(frozen=True)
class Transcript:
    """The text of a recording.

    Attributes:
      text: text of all segments, separated by spaces; empty where no speech was found.
      segments: segments in the order of time.
      language: ISO 639-1 code, or None where the recognizer does not tell languages apart.
      loops: how many repetitions of words were cut from the text.
    """

    text: str
    segments: tuple[Segment, ...] = ()
    language: str | None = None
    loops: int = 0

    @property
    def log_probability(self) -> float | None:
        """Mean log-probability of the segments, weighted by their durations; None without segments."""
        weights = [max(segment.end - segment.start, 1e-3) for segment in self.segments]
        total = sum(weight * segment.log_probability for weight, segment in zip(weights, self.segments, strict=True))
        return total / sum(weights) if weights else None


class Recognizer(Protocol):
    """What transcribes recordings: `load_recognizer` returns one."""

    @property
    def min_samples(self) -> int:
        """Fewest samples that it transcribes."""
        ...

    def transcribe(self, audio: np.ndarray) -> Transcript:
        """Transcribes one recording, float (S,), 16 kHz mono, full scale 1.0."""
        ...

    def transcribe_all(self, recordings: Sequence[np.ndarray]) -> list[Transcript]:
        """Transcribes several recordings, computed in batches; the results are those of `transcribe`."""
        ...


def compression_ratio(text: str) -> float:
    """Computes the bytes of a text over its bytes after zlib (Radford et al. 2023, section 4.5); 0 for no text."""
    encoded = text.encode()
    return len(encoded) / len(zlib.compress(encoded)) if encoded else 0.0
