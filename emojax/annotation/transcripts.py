"""Transcripts of segments with times of words, by a Whisper checkpoint."""

import dataclasses
from collections.abc import Callable, Sequence

import jax.numpy as jnp
import numpy as np

from emojax.annotation.recording import Recording
from emojax.encoders import ComputeOptions
from emojax.recognition import Recognizer, load_recognizer
from emojax.recognition.transcript import Word
from emojax.recognition.words import WITHOUT_SPACES
from emojax.transcription.config import RecognizerConfig
from emojax.types import SAMPLE_RATE

WINDOW_SECONDS = 30.0
"""Audio that Whisper computes at a time (s)."""

_AT_ONCE = 16
"""Groups of segments that are read and transcribed at a time."""

Span = tuple[float, float]
"""Start and end (s)."""


@dataclasses.dataclass(frozen=True)
class SegmentText:
    """Transcript of a segment.

    Attributes:
      text: its words.
      words: words with times from the start of the recording.
    """

    text: str
    words: tuple[Word, ...]


def load_word_recognizer(config: RecognizerConfig) -> Recognizer:
    """Loads a recognizer that gives times of words.

    Raises:
      EmojaxError: as `load_recognizer`; checkpoints with a CTC head have no times of words.
    """
    decoding = dataclasses.replace(config.decoding, word_times=True)
    options = ComputeOptions(dtype=jnp.dtype(config.dtype))
    return load_recognizer(config.checkpoint, options, decoding=decoding, revision=config.revision or None)


def transcribe(
    recognizer: Recognizer,
    recording: Recording,
    segments: Sequence[Span],
    advance: Callable[[float], None] = lambda seconds: None,
) -> list[SegmentText]:
    """Transcribes segments, several of them in a window.

    Args:
      recognizer: recognizer with times of words.
      recording: recording.
      segments: segments in the order of time, of at most `WINDOW_SECONDS`.
      advance: is called with the seconds that were transcribed.
    """
    texts: list[SegmentText] = []
    groups = group_segments(segments, WINDOW_SECONDS)
    for first in range(0, len(groups), _AT_ONCE):
        chosen = groups[first : first + _AT_ONCE]
        starts = [round(segments[group[0]][0] * SAMPLE_RATE) for group in chosen]
        ends = [round(segments[group[-1]][1] * SAMPLE_RATE) for group in chosen]
        clips = [recording.samples(start, end) for start, end in zip(starts, ends, strict=True)]
        rows = [row for row, clip in enumerate(clips) if len(clip) >= recognizer.min_samples]
        found = dict(zip(rows, recognizer.transcribe_all([clips[row] for row in rows]), strict=True))
        for row, group in enumerate(chosen):
            offset = starts[row] / SAMPLE_RATE
            spoken = [] if row not in found else [word for each in found[row].segments for word in each.words]
            words = [
                Word(word.text, word.start + offset, max(word.end, word.start) + offset, word.probability)
                for word in spoken
            ]
            joint = "" if row in found and found[row].language in WITHOUT_SPACES else " "
            by_segment = assign_words(words, [segments[number] for number in group])
            texts += [SegmentText(joint.join(word.text for word in own), tuple(own)) for own in by_segment]
            advance(len(clips[row]) / SAMPLE_RATE)
    return texts


def group_segments(segments: Sequence[Span], longest: float) -> list[list[int]]:
    """Groups consecutive segments, so that each group spans at most `longest` seconds."""
    groups: list[list[int]] = []
    for number, (_, end) in enumerate(segments):
        if groups and end - segments[groups[-1][0]][0] <= longest:
            groups[-1].append(number)
        else:
            groups.append([number])
    return groups


def assign_words(words: Sequence[Word], segments: Sequence[Span]) -> list[list[Word]]:
    """Assigns each word to the segment with the longest overlap, otherwise to the nearest; keeps their order."""
    assigned: list[list[Word]] = [[] for _ in segments]
    for word in words:
        overlaps = [min(word.end, end) - max(word.start, start) for start, end in segments]  # negative: distance
        assigned[max(range(len(segments)), key=overlaps.__getitem__)].append(word)
    return assigned


def texts_between(words: Sequence[Word], spans: Sequence[Span]) -> list[str]:
    """Text of the words whose middle lies in each span; words are in the order of time."""
    middles = np.maximum.accumulate(np.array([(word.start + word.end) / 2 for word in words] + [np.inf]))[:-1]
    return [" ".join(word.text for word in words[slice(*np.searchsorted(middles, span).tolist())]) for span in spans]
