"""Cells of the grid: outputs of one model in one condition, in files by whose key finished ones are found again."""

import dataclasses
import hashlib
import json
import zipfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from jaxtyping import Bool

from emojax.files import atomic_write
from emojax.model_tests.model import Outputs
from emojax.reporting.evaluate import file_name


@dataclasses.dataclass(frozen=True, eq=False)
class Cell:
    """Outputs of a model in a condition for N utterances.

    Attributes:
      outputs: outputs, in the order of the utterances.
      no_snr: utterances that no noise was added to, because they or the noise are silent.
      beyond: utterances that would have exceeded full scale.
    """

    outputs: Outputs
    no_snr: Bool[np.ndarray, "N"]
    beyond: Bool[np.ndarray, "N"]


class CellStore:
    """Cells in a folder: `MODEL/CONDITION.npz`, whose `key` is the digest of all that determines the outputs."""

    def __init__(self, directory: Path):
        """Creates nothing yet."""
        self._directory = directory

    def read(self, model: str, condition: str, key: str, num_utterances: int) -> Cell | None:
        """Reads a finished cell; None if there is none, or one of another key.

        Args:
          model: name of the model.
          condition: name of the condition.
          key: see `cell_key`.
          num_utterances: N.
        """
        path = self._path(model, condition)
        try:
            with np.load(path, allow_pickle=False) as arrays:
                if str(arrays["key"]) != key:
                    return None
                outputs = Outputs(arrays["attributes"], arrays["probabilities"])
                cell = Cell(outputs, arrays["no_snr"], arrays["beyond"])
        except (OSError, ValueError, KeyError, zipfile.BadZipFile):
            return None  # absent, or damaged: computed again
        return cell if len(cell.no_snr) == len(outputs.attributes) == num_utterances else None

    def write(self, model: str, condition: str, key: str, cell: Cell) -> None:
        """Writes a finished cell.

        Raises:
          EmojaxError: the file cannot be written.
        """
        path = self._path(model, condition)
        path.parent.mkdir(parents=True, exist_ok=True)
        with atomic_write(path) as temporary, temporary.open("wb") as file:
            np.savez(
                file,
                key=np.array(key),
                attributes=cell.outputs.attributes,
                probabilities=cell.outputs.probabilities,
                no_snr=cell.no_snr,
                beyond=cell.beyond,
            )

    def _path(self, model: str, condition: str) -> Path:
        return self._directory / file_name(model) / f"{file_name(condition)}.npz"


def cell_key(model: str, condition: str, utterances: str, transcripts: str) -> str:
    """Digest of all that determines the outputs of a cell.

    Args:
      model: digest of the model.
      condition: digest of the condition.
      utterances: digest of the utterances.
      transcripts: description of the transcripts; "" for a model without a lexical modality.
    """
    return hashlib.sha256(json.dumps([model, condition, utterances, transcripts]).encode()).hexdigest()


def utterances_digest(corpus: str, split: str, ids: Sequence[str], content: str = "") -> str:
    """Digest of the utterances of a grid, in their order.

    Args:
      corpus: corpus with its version.
      split: split.
      ids: ids of the utterances.
      content: digest of their audio; "" where unknown.
    """
    return hashlib.sha256(json.dumps([corpus, split, content, list(ids)]).encode()).hexdigest()
