"""Transcripts recognised from degraded clips, kept in files so that interrupted work continues."""

import json
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import jax.numpy as jnp
import numpy as np
from jaxtyping import Float32

from emojax.encoders import ComputeOptions, checkpoint_fingerprint
from emojax.encoders.checkpoint_files import find_folder
from emojax.encoders.pretrained import read_config
from emojax.files import write_json
from emojax.metrics.word_errors import word_errors
from emojax.recognition import DecodingOptions, Recognizer, load_recognizer
from emojax.schema import to_tree
from emojax.transcription.config import RecognizerConfig

Waveform = Float32[np.ndarray, "_"]


class ConditionTranscripts:
    """Transcripts of the clips of one condition: a JSON line for each in a file, whose first line is a key.

    A file with another key is of other clips or another recognizer, and is written anew. The last line may be cut off
    where a process was killed; it is then recognised again.
    """

    def __init__(self, path: Path, key: str, recognise: Callable[[Sequence[Waveform]], list[str]]):
        """Reads what is there.

        Args:
          path: file, in a folder that is created if needed.
          key: digest of everything that determines the texts.
          recognise: transcribes clips.
        """
        self._path, self._recognise = path, recognise
        self._texts: dict[str, str] = {}
        lines = path.read_bytes().splitlines(keepends=True) if path.exists() else []
        if not lines or _parsed(lines[0]).get("key") != key:
            path.parent.mkdir(parents=True, exist_ok=True)
            lines = [json.dumps({"key": key}).encode() + b"\n"]
            path.write_bytes(lines[0])
        whole = len(lines[0])
        for line in lines[1:]:
            found = _parsed(line)
            if not (isinstance(found.get("id"), str) and isinstance(found.get("text"), str)):
                break
            self._texts[found["id"]] = found["text"]
            whole += len(line)
        os.truncate(path, whole)

    def texts(self, ids: Sequence[str], clips: Callable[[], Sequence[Waveform]]) -> list[str]:
        """Texts of clips; those that have none are recognised and appended to the file.

        Args:
          ids: ids of the clips.
          clips: returns their waveforms; not called if all have a text.
        """
        missing = [row for row, id in enumerate(ids) if id not in self._texts]
        if missing:
            waveforms = clips()
            found = self._recognise([waveforms[row] for row in missing])
            lines = []
            for row, text in zip(missing, found, strict=True):
                self._texts[ids[row]] = text
                lines.append(json.dumps({"id": ids[row], "text": text}, ensure_ascii=False) + "\n")
            with self._path.open("ab") as file:
                file.write("".join(lines).encode())
                file.flush()
                os.fsync(file.fileno())
        return [self._texts[id] for id in ids]

    def word_error_rate(self, ids: Sequence[str], references: Sequence[str]) -> float | None:
        """Word errors per word of the references; None without a reference.

        Args:
          ids: ids of clips that have a text.
          references: transcripts; "" where unknown.
        """
        counts = [word_errors(self._texts[id], text) for id, text in zip(ids, references, strict=True) if text.strip()]
        words = sum(count for _, count in counts)
        return sum(errors for errors, _ in counts) / words if words else None


class GridRecognizer:
    """The recognizer of a grid, loaded when the first clip is transcribed."""

    def __init__(self, config: RecognizerConfig):
        """Finds the checkpoint.

        Raises:
          CheckpointError: it does not exist or is not one of a recognizer.
        """
        self._config, revision = config, config.revision or None
        _, family = read_config(find_folder(config.checkpoint, revision))
        self._decoding: DecodingOptions | None = config.decoding if family.model_type == "whisper" else None
        self._recognizer: Recognizer | None = None
        options = to_tree(config.decoding) if self._decoding else {}
        self.description: dict[str, Any] = {
            "checkpoint": config.checkpoint,
            "fingerprint": checkpoint_fingerprint(config.checkpoint, revision),
            "dtype": config.dtype,
            **{name: value for name, value in options.items() if name != "batch_size"},
        }

    def __call__(self, clips: Sequence[Waveform]) -> list[str]:
        """Transcribes clips; those that are too short for the recognizer have no text."""
        if self._recognizer is None:
            options = ComputeOptions(dtype=jnp.dtype(self._config.dtype))
            revision = self._config.revision or None
            self._recognizer = load_recognizer(
                self._config.checkpoint, options, decoding=self._decoding, revision=revision
            )
        least = self._recognizer.min_samples
        rows = [row for row, clip in enumerate(clips) if len(clip) >= least]
        texts = [""] * len(clips)
        for row, found in zip(rows, self._recognizer.transcribe_all([clips[row] for row in rows]), strict=True):
            texts[row] = found.text
        return texts


def write_description(path: Path, recognizer: GridRecognizer) -> None:
    """Writes what made the transcripts beside them."""
    write_json(path, recognizer.description)


def _parsed(line: bytes) -> dict[str, Any]:
    try:
        found = json.loads(line) if line.endswith(b"\n") else {}
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}
