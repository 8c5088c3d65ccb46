"""Results of cross-validation: those of a fold, and the pooled evaluation of all folds in the final model's workdir."""

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from emojax.config import ExperimentConfig
from emojax.cross_validation.baselines import baseline_scores
from emojax.data import SPEAKERS, Corpus, SplitIndex
from emojax.errors import CheckpointError
from emojax.evaluation.categories import match_categories
from emojax.evaluation.predictions import Predictions
from emojax.evaluation.ratings import concatenate_ratings
from emojax.evaluation.summary import TrainLabels
from emojax.parallel import is_first_process
from emojax.reporting import LINEAR_BASELINES, describe_scores, evaluation_directory, write_evaluation
from emojax.reporting.results import BASELINES
from emojax.types import ATTRIBUTES, CorpusInfo
from emojax.workdir import EVALUATION, read_json, write_json

CROSS_VALIDATION = "cross_validation.json"
"""File of the final model's workdir: folds with their speakers and scores, and pooled scores."""

_TUNED = "linear.json"
"""File of a fold with tuned values of the baselines; written last, it marks their predictions as complete."""


@dataclasses.dataclass(frozen=True)
class FoldResult:
    """Held-out predictions of a fold.

    Attributes:
      number: from 1.
      speakers: held-out speakers.
      predictions: of the model.
      baselines: of the linear baselines, by name; {} without them.
      scores: summary of the fold (`evaluation/speakers.json`).
      tuned: layers and penalties of the baselines.
    """

    number: int
    speakers: tuple[str, ...]
    predictions: Predictions
    baselines: Mapping[str, Predictions]
    scores: Mapping[str, Any]
    tuned: Mapping[str, Any]

    def __str__(self) -> str:
        """Speakers and scores in one line."""
        return f"{len(self.speakers)} speakers, {describe_scores(self.scores, intervals=False)}"


def read_fold(folder: Path, info: CorpusInfo, number: int, speakers: tuple[str, ...]) -> FoldResult | None:
    """Reads the results of a fold; None if it is unfinished.

    Args:
      folder: workdir of the fold.
      info: metadata of the corpus.
      number: number of the fold.
      speakers: its held-out speakers.

    Raises:
      EmojaxError: a file is damaged.
    """
    scores = folder / EVALUATION / f"{SPEAKERS}.json"
    if not scores.exists():
        return None
    predictions = _read(scores.with_suffix(".csv"), info)
    tuned = read_json(folder / _TUNED) if (folder / _TUNED).exists() else {}
    baselines = {name: _read(folder / f"{name}.csv", info) for name in tuned}
    return FoldResult(number, speakers, predictions, baselines, read_json(scores), tuned)


def write_fold_baselines(folder: Path, predictions: Mapping[str, Predictions], tuned: Mapping[str, Any]) -> None:
    """Writes the baselines' predictions of a fold."""
    if is_first_process():
        for name, found in predictions.items():
            found.write_csv(folder / f"{name}.csv")
        write_json(folder / _TUNED, dict(tuned))


def check_same_folds(workdir: Path, groups: Sequence[tuple[str, ...]]) -> None:
    """Writes the speakers of every fold; those of a run that continues must be the same.

    Raises:
      CheckpointError: they are not.
    """
    path = workdir / "folds.json"
    tree = {"folds": [list(group) for group in groups]}
    if path.exists():
        found = read_json(path).get("folds")
        if found != tree["folds"]:
            number = len(found) if isinstance(found, list) else 0
            raise CheckpointError(f"{workdir}: was started with {number} other folds; use another --workdir")
    elif is_first_process():
        write_json(path, tree)


def write_cross_validation(
    workdir: Path, corpus: Corpus, index: SplitIndex, results: Sequence[FoldResult], config: ExperimentConfig
) -> dict[str, Any]:
    """Scores the held-out predictions of all folds together, as the evaluation of a split.

    Writes `evaluation/N-folds-of-speakers.json`, `.csv` and plots, the baselines' CSV files beside them, and
    `cross_validation.json`.

    Args:
      workdir: folder of the final model.
      corpus: corpus of the folds.
      index: index of all its utterances.
      results: one per fold.
      config: config of the final model.

    Returns:
      The pooled summary (see `emojax.evaluation.summary.summarise`).
    """
    split = f"{len(results)} folds of speakers"
    resamples, seed = config.evaluation.bootstrap_resamples, config.seed
    pooled = _pooled([result.predictions for result in results], split)
    names = [name for name in LINEAR_BASELINES if all(name in result.baselines for result in results)]
    baselines = {name: _pooled([result.baselines[name] for result in results], split) for name in names}
    scored = {name: baseline_scores(found, resamples, seed) for name, found in baselines.items()}
    directory = evaluation_directory(workdir)
    labels = TrainLabels(index.attributes.astype(np.float64), index.emotion.astype(np.int64))
    if not is_first_process():
        return {}
    summary = write_evaluation(directory, pooled, labels, resamples, seed, scored)
    for name, found in baselines.items():
        found.write_csv(directory / f"{split.replace(' ', '-')}_{name}.csv")
    folds = [
        {
            "fold": result.number,
            "speakers": list(result.speakers),
            "n": len(result.predictions.ids),
            **{name: _values(result.scores[name]) for name in ("ccc", "uar") if name in result.scores},
            "baselines": {name: _fold_values(found) for name, found in result.baselines.items()},
            "tuned": dict(result.tuned),
        }
        for result in results
    ]
    write_json(workdir / CROSS_VALIDATION, {"corpus": corpus.info.name, "folds": folds, "pooled": summary})
    print(f"{workdir.name}: {corpus.info.name}, {split}, n {summary['n']}; {describe_scores(summary)}", flush=True)
    for name, scores in scored.items():
        print(f"  {BASELINES[name]}: {describe_scores(scores)}", flush=True)
    return summary


def _fold_values(predictions: Predictions) -> dict[str, Any]:
    scores = baseline_scores(predictions, 1, 0)
    return {name: _values(scores[name]) for name in ("ccc", "uar") if name in scores}


def _values(scores: Mapping[str, Any]) -> Any:
    """Values without intervals: a number, or numbers by attribute."""
    if "value" in scores:
        return scores["value"]
    return {name: scores[name]["value"] for name in ATTRIBUTES if name in scores}


def _read(path: Path, info: CorpusInfo) -> Predictions:
    return Predictions.read_csv(path, info, SPEAKERS)


def _pooled(parts: Sequence[Predictions], split: str) -> Predictions:
    first = parts[0]
    # A fold whose training speakers have one category alone predicts none; then the pooled predictions have none.
    width = min(part.emotion_probabilities.shape[1] for part in parts)
    return Predictions(
        corpus=first.corpus,
        split=split,
        ids=[id for part in parts for id in part.ids],
        speakers=[speaker for part in parts for speaker in part.speakers],
        attributes=_joined([part.attributes for part in parts]),
        attribute_labels=np.concatenate([part.attribute_labels for part in parts]),
        emotion_probabilities=np.concatenate([part.emotion_probabilities[:, :width] for part in parts]),
        emotion_labels=np.concatenate([part.emotion_labels for part in parts]),
        match=match_categories(first.corpus.categories, first.corpus.categories),
        ratings=concatenate_ratings([part.ratings for part in parts]),
    )


def _joined(attributes: Sequence[np.ndarray]) -> np.ndarray:
    """Concatenates; an attribute that a fold does not predict is predicted by none."""
    absent = np.any([np.isnan(part).all(axis=0) for part in attributes], axis=0)
    return np.where(absent, np.nan, np.concatenate(attributes))
