"""One utterance as every builder hands it over: audio as int16 PCM, and a marker wherever something is not known."""

import os
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float32, Int16

from emojax.audio import read_audio
from emojax.errors import AudioError, CorpusError
from emojax.types import MISSING_EMOTION, NUM_ATTRIBUTES, SAMPLE_RATE

GENDERS = ("female", "male", "")
"""Values of `gender`; "" where unknown."""


class Made(NamedTuple):
    """What became of one item of a corpus.

    Attributes:
      example: from `utterance`; None where the item is left out.
      counted: names under which the corpus's `counts` tally this item, e.g. why it was left out.
      problem: of a damaged item that is left out, one line that names it.
    """

    example: dict[str, Any] | None
    counted: tuple[str, ...] = ()
    problem: str = ""


def utterance(
    *,
    id: str,
    audio: Int16[np.ndarray, "S"],
    num_categories: int,
    transcript: str = "",
    attributes: Sequence[float] | None = None,
    attributes_std: Sequence[float] | None = None,
    emotion: int = MISSING_EMOTION,
    emotion_votes: Sequence[float] | None = None,
    speaker: str = "",
    gender: str = "",
) -> dict[str, Any]:
    """An example of the schema; what is left out is stored as missing.

    Args:
      id: unique within the corpus.
      audio: mono PCM at 16 kHz.
      num_categories: C of the corpus.
      transcript: the words; "" where there are none.
      attributes: activation, valence, dominance in the corpus's scale; NaN where missing.
      attributes_std: their spread over raters; NaN where unknown.
      emotion: category index; -1 where there is no consensus.
      emotion_votes: share of raters' votes per category (C,); NaN where unknown.
      speaker: unique within the corpus; "" where unknown.
      gender: one of `GENDERS`.

    Raises:
      CorpusError: no samples, or a value the schema does not allow.
    """
    if audio.dtype != np.int16 or audio.ndim != 1 or len(audio) == 0:
        raise CorpusError(f"{id}: audio {audio.dtype}{audio.shape} is not allowed; allowed: int16 with samples")
    if not MISSING_EMOTION <= emotion < num_categories:
        raise CorpusError(f"{id}: emotion {emotion} is not allowed; allowed: -1 to {num_categories - 1}")
    if gender not in GENDERS:
        raise CorpusError(f"{id}: gender {gender!r} is not allowed; allowed: {', '.join(map(repr, GENDERS))}")
    return {
        "id": id,
        "audio": audio,
        "transcript": transcript,
        "attributes": _floats(id, "attributes", attributes, NUM_ATTRIBUTES),
        "attributes_std": _floats(id, "attributes_std", attributes_std, NUM_ATTRIBUTES),
        "emotion": emotion,
        "emotion_votes": _floats(id, "emotion_votes", emotion_votes, num_categories),
        "speaker": speaker,
        "gender": gender,
        "duration": np.float32(len(audio) / SAMPLE_RATE),
    }


def to_pcm(waveform: Float32[np.ndarray, "S"]) -> Int16[np.ndarray, "S"]:
    """Rounds a waveform of full scale 1.0 to int16; what is louder than full scale is clipped."""
    scaled = waveform * np.float32(2**15)
    np.rint(scaled, out=scaled)  # in place: a long recording is in memory once as float32
    return np.clip(scaled, -(2**15), 2**15 - 1, out=scaled).astype(np.int16)


def read_pcm(path: str | os.PathLike[str]) -> Int16[np.ndarray, "S"]:
    """Reads an audio file of any rate and channel count as mono int16 at 16 kHz.

    Raises:
      CorpusError: the file is missing or unusable; the message names it.
    """
    try:
        return to_pcm(read_audio(path))
    except AudioError as error:
        raise CorpusError(str(error)) from error


def _floats(id: str, name: str, values: Sequence[float] | None, length: int) -> Float32[np.ndarray, "N"]:
    if values is None:
        return np.full(length, np.nan, np.float32)
    array = np.asarray(values, np.float32)
    if array.shape != (length,):
        raise CorpusError(f"{id}: {name} has shape {array.shape}; allowed: ({length},)")
    return array
