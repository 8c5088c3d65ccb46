"""The file that the MSP-Podcast challenges take for splits whose labels are not public."""

import csv
from pathlib import Path

import numpy as np

from emojax.evaluation.csv_cells import write_cell
from emojax.evaluation.predictions import Predictions
from emojax.files import atomic_write
from emojax.types import ATTRIBUTES

_COLUMNS = {"activation": "EmoAct", "valence": "EmoVal", "dominance": "EmoDom"}


def wants_submission(predictions: Predictions) -> bool:
    """Whether these are predictions of attributes for an MSP-Podcast split without labels."""
    unlabelled = np.isnan(predictions.attribute_labels).all()
    predicted = not np.isnan(predictions.attributes).any()
    return predictions.corpus.name.startswith("msp_podcast") and bool(unlabelled) and predicted


def write_submission(path: Path, predictions: Predictions) -> None:
    """Writes `FileName,EmoAct,EmoVal,EmoDom`, one row per file, on the corpus's scale.

    Raises:
      EmojaxError: it cannot be written.
    """
    with atomic_write(path) as temporary, temporary.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(["FileName", *(_COLUMNS[attribute] for attribute in ATTRIBUTES)])
        for id, values in zip(predictions.ids, predictions.attributes, strict=True):
            writer.writerow([write_cell(f"{id}.wav"), *(f"{value:.6f}" for value in values)])
