"""Writes what an evaluation leaves in a workdir: scores, predictions and plots of a split."""

import re
from pathlib import Path
from typing import Any

from emojax.evaluation.plots import draw_attributes, draw_confusion, save_figure
from emojax.evaluation.predictions import Predictions
from emojax.evaluation.submission import wants_submission, write_submission
from emojax.evaluation.summary import TrainLabels, summarise
from emojax.workdir import check_inside, write_json

EVALUATION = "evaluation"
"""Folder of a workdir with the evaluation on its own corpus, and a folder for each other corpus."""


def evaluation_directory(workdir: Path, other_corpus: str | None = None) -> Path:
    """Where an evaluation is written.

    Args:
      workdir: of the model evaluated.
      other_corpus: name of the corpus if it is not the one the model was trained on.

    Raises:
      CheckpointError: the folder is a link that leads out of the workdir.
    """
    directory = workdir / EVALUATION
    if other_corpus is not None:
        directory = directory / _file_name(other_corpus)
    check_inside(workdir, directory)
    return directory


def write_evaluation(
    directory: Path,
    predictions: Predictions,
    train_labels: TrainLabels | None,
    num_resamples: int = 1000,
    seed: int = 0,
) -> dict[str, Any]:
    """Writes SPLIT.json, SPLIT.csv, and as far as they apply SPLIT_attributes.png, SPLIT_confusion.png and
    SPLIT_submission.csv.

    Args:
      directory: from `evaluation_directory`.
      predictions: of one split.
      train_labels: what the baselines know; None leaves the baselines out.
      num_resamples: of the bootstrap.
      seed: of the bootstrap.

    Returns:
      What SPLIT.json holds (see `summarise`).

    Raises:
      EmojaxError: there is nothing to evaluate, or a file cannot be written.
    """
    summary = summarise(predictions, train_labels, num_resamples, seed)
    split = _file_name(predictions.split)
    predictions.write_csv(directory / f"{split}.csv")
    for what, figure in (
        ("attributes", draw_attributes(predictions, summary)),
        ("confusion", draw_confusion(summary)),
    ):
        path = directory / f"{split}_{what}.png"
        if figure is None:
            path.unlink(missing_ok=True)  # of an earlier evaluation
        else:
            save_figure(figure, path)
    submission = directory / f"{split}_submission.csv"
    if wants_submission(predictions):
        write_submission(submission, predictions)
    else:
        submission.unlink(missing_ok=True)
    # Last, so that scores are never beside predictions of another run.
    write_json(directory / f"{split}.json", summary)
    return summary


def _file_name(name: str) -> str:
    return re.sub(r"[^\w.-]+", "-", name).strip("-.") or "unnamed"
