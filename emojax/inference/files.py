"""Predicts audio files into a table: `python -m emojax predict WORKDIR FILE ...`."""

import csv
import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TextIO

import numpy as np

from emojax.errors import AudioError, ConfigError
from emojax.types import SAMPLE_RATE

if TYPE_CHECKING:
    from emojax.inference.predictor import Prediction, Predictor
    from emojax.recognition import Recognizer

AUDIO_SUFFIXES = (
    *(".aac", ".aif", ".aiff", ".amr", ".au", ".caf", ".flac", ".m4a", ".mp3"),
    *(".mp4", ".oga", ".ogg", ".opus", ".w64", ".wav", ".webm", ".wma"),
)
"""Suffixes of the files in a folder that are predicted."""

_FILES_AT_ONCE = 64


def find_audio(inputs: Sequence[Path]) -> list[Path]:
    """Audio files in the order given, each once; of a folder those with an audio suffix, sorted by path.

    Args:
      inputs: files, or folders that are searched recursively.

    Raises:
      AudioError: a path does not exist, or a folder has no audio file.
    """
    files: dict[Path, None] = {}
    for path in inputs:
        if path.is_dir():
            found = sorted(
                file
                for file in path.rglob("*")
                if file.suffix.lower() in AUDIO_SUFFIXES and not file.name.startswith(".") and file.is_file()
            )
            if not found:
                raise AudioError(f"{path}: has no audio file ({', '.join(AUDIO_SUFFIXES)})")
            files |= dict.fromkeys(found)
        elif path.exists():
            files[path] = None
        else:
            raise AudioError(f"{path}: no such file or folder")
    return list(files)


def predict_files(
    predictor: "Predictor",
    files: Sequence[Path],
    format: Literal["csv", "jsonl"],
    out: TextIO,
    err: TextIO,
    recognizer: "Recognizer | None" = None,
) -> int:
    """Writes one row per audio file, in order; a file that cannot be read is reported and has no row.

    CSV columns: `file`, each attribute the model predicts, and, if it predicts categories, `emotion` (the most
    probable) and `probability_CATEGORY`. JSON lines have `file`, `attributes`, `emotion` (null without categories) and
    `emotions`. A model that predicts distributions of ratings adds them, their standard deviation and quantiles:
    columns of `RatingDistribution.csv_cells`, key `ratings`. With a recognizer both have `transcript`. Attributes are
    in the scale of the training corpus. Text that a spreadsheet would evaluate has an apostrophe in front in CSV (see
    `emojax.evaluation.predictions`).

    Args:
      predictor: model.
      files: paths of audio files.
      format: format of the rows.
      out: receives the rows, as soon as they are computed.
      err: receives one line per file that cannot be read.
      recognizer: transcribes the files, for a model with a lexical modality; None: no transcripts.

    Returns:
      Number of files that could not be read.

    Raises:
      ConfigError: there is a recognizer, and the model has no lexical modality.
    """
    if recognizer is not None and not predictor.takes_transcripts:
        raise ConfigError("--recognizer must not be given: this model has no lexical modality")
    failed = 0
    writer = csv.writer(out, lineterminator="\n")
    header_written = False
    for start in range(0, len(files), _FILES_AT_ONCE):
        waveforms: dict[Path, np.ndarray] = {}
        for path, waveform in _read(predictor, files[start : start + _FILES_AT_ONCE]):
            if isinstance(waveform, AudioError):
                print(f"error: {waveform}", file=err, flush=True)
                failed += 1
            else:
                waveforms[path] = waveform
        texts = None if recognizer is None else _transcribe(recognizer, list(waveforms.values()))
        predictions = predictor.predict([(waveform, SAMPLE_RATE) for waveform in waveforms.values()], transcripts=texts)
        for number, (path, prediction) in enumerate(zip(waveforms, predictions, strict=True)):
            text = {} if texts is None else {"transcript": texts[number]}
            if format == "jsonl":
                print(json.dumps(_json_row(path, prediction) | text, ensure_ascii=False, allow_nan=False), file=out)
                continue
            row = _csv_row(path, prediction)
            row |= {name: _escaped(value) for name, value in text.items()}
            if not header_written:
                writer.writerow(row)
                header_written = True
            writer.writerow(row.values())
        out.flush()
    return failed


def _read(predictor: "Predictor", files: Sequence[Path]) -> Iterator[tuple[Path, "np.ndarray | AudioError"]]:
    from emojax.inference.items import read_item  # with the model: finding files needs neither

    for path in files:
        try:
            yield path, read_item(path, str(path), predictor.min_samples)
        except AudioError as error:
            yield path, error


def _transcribe(recognizer: "Recognizer", waveforms: list[np.ndarray]) -> list[str]:
    """Transcribes waveforms; one that is too short for the recognizer has no words."""
    long_enough = [number for number, clip in enumerate(waveforms) if len(clip) >= recognizer.min_samples]
    texts = [""] * len(waveforms)
    found = recognizer.transcribe_all([waveforms[number] for number in long_enough])
    for number, transcript in zip(long_enough, found, strict=True):
        texts[number] = transcript.text
    return texts


def _json_row(path: Path, prediction: "Prediction") -> dict[str, Any]:
    ratings = {name: distribution.json_tree() for name, distribution in prediction.ratings.items()}
    return {
        "file": str(path),
        "attributes": prediction.attributes,
        "emotion": prediction.emotion,
        "emotions": prediction.emotions,
        **({"ratings": ratings} if ratings else {}),
    }


def _csv_row(path: Path, prediction: "Prediction") -> dict[str, str]:
    row = {"file": _escaped(str(path))}
    row |= {attribute: repr(value) for attribute, value in prediction.attributes.items()}
    for name, distribution in prediction.ratings.items():
        row |= distribution.csv_cells(name)
    if prediction.emotion is not None:
        row["emotion"] = _escaped(prediction.emotion)
        row |= {_escaped(f"probability_{name}"): repr(value) for name, value in prediction.emotions.items()}
    return row


def _escaped(text: str) -> str:
    from emojax.evaluation.predictions import write_cell

    return write_cell(text)
