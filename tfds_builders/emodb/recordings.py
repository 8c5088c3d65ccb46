"""Reader of the EmoDB table in this folder, and conversion of recordings to utterances."""

import dataclasses
from pathlib import Path

from emojax.errors import CorpusError
from emojax.tables import read_table
from tfds_builders.utterance import Made, read_pcm, utterance

CATEGORIES = ("anger", "boredom", "disgust", "fear", "happiness", "neutral", "sadness")
"""Acted emotions."""

SPLITS = ("train", "val", "test")
"""Speaker-disjoint splits."""

FOLDER = Path(__file__).parent
AUDIO, METADATA = "audio", "metadata.csv"

_COLUMNS = ("file", "num_samples", "speaker", "gender", "emotion", "text", "split")

_GENDERS = {"F": "female", "M": "male"}


@dataclasses.dataclass(frozen=True)
class Recording:
    """A row of the table.

    Attributes:
      path: Opus file.
      num_samples: length of the encoded waveform at 16 kHz.
      speaker: two digits.
      gender: `female` or `male`.
      emotion: index into `CATEGORIES`.
      text: complete German sentence, also if the recording is truncated.
      split: one of `SPLITS`.
    """

    path: Path
    num_samples: int
    speaker: str
    gender: str
    emotion: int
    text: str
    split: str


def read_recordings(folder: Path = FOLDER) -> list[Recording]:
    """Reads the table and checks that all its files exist.

    Raises:
      CorpusError: the table or a recording is missing or damaged.
    """
    path = folder / METADATA
    try:
        recordings = [_recording(folder, row) for _, row in read_table(path, _COLUMNS, missing=())]
    except (KeyError, ValueError) as error:
        raise CorpusError(f"{path}: cannot be read ({type(error).__name__}: {error})") from error
    if not recordings:
        raise CorpusError(f"{path}: has no rows")
    for recording in recordings:
        if not recording.path.is_file():
            raise CorpusError(f"{recording.path}: no such file, named in {path}")
    return recordings


def make_utterance(recording: Recording) -> Made:
    """Decodes a recording.

    Raises:
      CorpusError: the file cannot be decoded, or has another length than the encoded waveform.
    """
    audio = read_pcm(recording.path)
    if len(audio) != recording.num_samples:
        raise CorpusError(f"{recording.path}: must have {recording.num_samples} samples, got {len(audio)}")
    example = utterance(
        id=recording.path.stem,
        audio=audio,
        num_categories=len(CATEGORIES),
        transcript=recording.text,
        emotion=recording.emotion,
        speaker=recording.speaker,
        gender=recording.gender,
    )
    return Made(example)


def _recording(folder: Path, row: dict[str, str]) -> Recording:
    if row["split"] not in SPLITS:
        raise ValueError(f"{row['file']}: split must be {', '.join(SPLITS)}, got {row['split']!r}")
    return Recording(
        path=folder / row["file"],
        num_samples=int(row["num_samples"]),
        speaker=row["speaker"],
        gender=_GENDERS[row["gender"]],
        emotion=CATEGORIES.index(row["emotion"]),
        text=row["text"],
        split=row["split"],
    )
