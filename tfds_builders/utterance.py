"""Construction of examples of the schema: audio as int16 PCM, and markers for missing values."""

import os
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float, Float32, Int16, Num

from emojax.audio import read_audio
from emojax.errors import AudioError, CorpusError, reason
from emojax.types import MISSING_EMOTION, NUM_ATTRIBUTES, SAMPLE_RATE

GENDERS = ("female", "male", "")
"""Values of `gender`; "" if unknown."""


class Made(NamedTuple):
    """Result for one item of a corpus.

    Attributes:
      example: from `utterance`; None if the item is skipped.
      counted: keys of the corpus's `counts` to increment, e.g. the reason for skipping.
      problem: one-line message that names a damaged item; "" otherwise.
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
    attributes_histogram: Num[np.ndarray, "3 K"] | None = None,
) -> dict[str, Any]:
    """Creates an example of the schema; omitted values are stored as missing.

    Args:
      id: utterance id, unique within the corpus.
      audio: mono PCM at 16 kHz.
      num_categories: number of categories C of the corpus.
      transcript: words; "" if unknown.
      attributes: activation, valence, dominance in the corpus's scale; NaN where missing.
      attributes_std: standard deviation over raters; NaN where missing.
      emotion: category index; -1 without consensus.
      emotion_votes: share of the raters' votes per category (C,); NaN where missing.
      speaker: speaker id, unique within the corpus; "" if unknown.
      gender: one of `GENDERS`.
      attributes_histogram: number of raters per attribute and value (`count_ratings`), for every utterance of a corpus
        with `CorpusMetadata.rating_bins`; all 0 where unknown.

    Raises:
      CorpusError: there are no samples, or a value is invalid.
    """
    if audio.dtype != np.int16 or audio.ndim != 1 or len(audio) == 0:
        raise CorpusError(f"{id}: audio must be int16 of shape (S,), S > 0, got {audio.dtype} of shape {audio.shape}")
    if not MISSING_EMOTION <= emotion < num_categories:
        raise CorpusError(f"{id}: emotion must be -1 to {num_categories - 1}, got {emotion}")
    if gender not in GENDERS:
        raise CorpusError(f"{id}: gender must be {' or '.join(map(repr, GENDERS))}, got {gender!r}")
    histogram = {}
    if attributes_histogram is not None:
        histogram["attributes_histogram"] = np.asarray(attributes_histogram, np.float32)
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
        **histogram,
    }


def count_ratings(ratings: Float[np.ndarray, "R 3"], scale: tuple[int, int]) -> Float32[np.ndarray, "3 K"]:
    """Counts raters per attribute and value.

    Args:
      ratings: activation, valence, dominance of each rater; NaN where missing.
      scale: lowest and highest value, whole numbers.

    Returns:
      Number of raters per attribute and whole number of the scale; all 0 for an attribute with a rating that is none
      of them, such as the mean of two choices.
    """
    values = np.arange(scale[0], scale[1] + 1)
    chosen = ratings[:, :, None] == values
    whole = (chosen.any(axis=2) | np.isnan(ratings)).all(axis=0)
    return np.where(whole[:, None], chosen.sum(axis=0), 0).astype(np.float32)


def to_pcm(waveform: Float32[np.ndarray, "S"]) -> Int16[np.ndarray, "S"]:
    """Rounds a waveform of full scale 1.0 to int16, clipping at full scale."""
    scaled = waveform * np.float32(2**15)
    np.rint(scaled, out=scaled)  # in place, which saves memory for long recordings
    return np.clip(scaled, -(2**15), 2**15 - 1, out=scaled).astype(np.int16)


def is_url(path: str | os.PathLike[str]) -> bool:
    """Whether a path is a URL, `gs://BUCKET/FILE`, which fsspec opens."""
    return "://" in os.fspath(path)


def read_pcm(path: str | os.PathLike[str]) -> Int16[np.ndarray, "S"]:
    """Reads an audio file of any rate and channel count as mono int16 at 16 kHz.

    Args:
      path: file, or a URL that fsspec opens: gs:// with gcsfs, s3:// with s3fs, and others.

    Raises:
      CorpusError: the file is missing or cannot be read; the message names it.
    """
    try:
        if not is_url(path):
            return to_pcm(read_audio(path))
        import fsspec  # type: ignore[import-untyped]

        with fsspec.open(os.fspath(path), "rb") as file:
            return to_pcm(read_audio(file, os.fspath(path)))
    except AudioError as error:
        raise CorpusError(str(error)) from error
    except (OSError, ImportError, ValueError) as error:  # a missing object, a package for the URL, an unknown one
        raise CorpusError(f"{os.fspath(path)}: cannot be read ({reason(error)})") from error


def _floats(id: str, name: str, values: Sequence[float] | None, length: int) -> Float32[np.ndarray, "N"]:
    if values is None:
        return np.full(length, np.nan, np.float32)
    array = np.asarray(values, np.float32)
    if array.shape != (length,):
        raise CorpusError(f"{id}: {name} must have shape ({length},), got {array.shape}")
    return array
