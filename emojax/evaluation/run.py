"""Evaluates a workdir: restores its best model, predicts whole splits, writes scores, tables and plots."""

from pathlib import Path
from typing import Any, Literal

import numpy as np

from emojax.config import parse_kept
from emojax.data import BatchStream, choose_categories, open_corpus, read_index
from emojax.errors import CheckpointError
from emojax.evaluation.predict import PredictStep, predict_split
from emojax.evaluation.predictions import Predictions
from emojax.evaluation.summary import TrainLabels, summarise
from emojax.evaluation.windows import windows_of
from emojax.evaluation.writing import evaluation_directory, write_evaluation
from emojax.metrics import classification_scores, confusion_matrix, regression_scores
from emojax.parallel import is_first, make_mesh
from emojax.types import ATTRIBUTES, MISSING_EMOTION, CorpusInfo
from emojax.workdir import CONFIG, CorpusFacts, batch_inputs, read_corpus_facts, read_json, restore_model


def evaluate_workdir(
    workdir: Path, corpus_name: str = "", splits: tuple[str, ...] = (), data_dir: str = ""
) -> dict[str, dict[str, Any]]:
    """Evaluates the best checkpoint of a workdir and writes `evaluation/SPLIT.json`, `.csv` and plots.

    Args:
      workdir: a run that has a checkpoint.
      corpus_name: another corpus than the one trained on; its results go to `evaluation/CORPUS/`, one folder deeper.
      splits: splits to evaluate; by default the config's test splits, or, of another corpus, every split it has.
      data_dir: where corpora are; by default where the config says.

    Returns:
      The summary of each split (see `summarise`) by the split's name.

    Raises:
      EmojaxError: one line saying what is wrong with workdir, corpus or split.
    """
    if not workdir.is_dir():
        raise CheckpointError(f"{workdir}: no such workdir")
    config = parse_kept(read_json(workdir / CONFIG))
    mesh = make_mesh(config.mesh)
    corpus = open_corpus(corpus_name or config.corpus.name, data_dir or config.corpus.data_dir)
    own = corpus.info.name == read_corpus_facts(workdir).info.name
    if own:
        corpus = choose_categories(corpus, config.corpus.categories)
    trained = restore_model(workdir, mesh, stored=own)
    directory = evaluation_directory(workdir, None if own else corpus.info.name)
    splits = splits or (config.corpus.test_splits if own else tuple(corpus.split_sizes))
    predict = PredictStep(trained.model, mesh, windows_of(config, trained.model, trained.online))
    labels = _training_labels(trained.facts, corpus.info)
    summaries = {}
    for split in splits:
        index = read_index(corpus, split)
        inputs = batch_inputs(workdir, config.model, corpus.info.name, split, config.data.max_tokens, trained.online)
        least = trained.model.min_samples
        stream = BatchStream(corpus, split, index, config.data, mesh, training=False, inputs=inputs, min_samples=least)
        for line in stream.left_out:
            print(line, flush=True)
        predictions = predict_split(
            predict,
            trained.variables,
            stream,
            index,
            corpus.info,
            split,
            trained.outputs,
            trained.facts.info.categories,
        )
        resamples = config.evaluation.bootstrap_resamples
        if is_first():
            summaries[split] = write_evaluation(directory, predictions, labels, resamples, config.seed)
        else:
            summaries[split] = summarise(predictions, labels, resamples, config.seed)
        print(_line(workdir, summaries[split]), flush=True)
    return summaries


def validation_metrics(predictions: Predictions, score: Literal["auto", "ccc", "uar"]) -> dict[str, float]:
    """The few numbers that training is steered by.

    Args:
      predictions: of the validation split.
      score: what ranks checkpoints: the mean CCC of the attributes that are predicted and labelled, the UAR, or
        (`auto`) the mean CCC where there is one and else the UAR.

    Returns:
      `ccc_<attribute>`, `uar`, `accuracy` where defined, and `score`. A CCC that is undefined (all predictions and
      labels one constant) counts as 0.
    """
    metrics: dict[str, float] = {}
    labels, predicted = predictions.attribute_labels, predictions.attributes
    scores = regression_scores(predicted, np.where(np.isnan(predicted), np.nan, labels))["ccc"]
    usable = ~(np.isnan(labels).all(axis=0) | np.isnan(predicted).all(axis=0))
    for attribute, flag in zip(ATTRIBUTES, usable, strict=True):
        if flag:
            metrics[f"ccc_{attribute}"] = float(np.nan_to_num(scores[attribute]))
    ccc = float(np.mean(list(metrics.values()))) if metrics else None
    categories = predictions.emotion_probabilities.shape[1]
    if categories and (predictions.emotion_labels != MISSING_EMOTION).any():
        confusion = confusion_matrix(predictions.predicted_emotions, predictions.emotion_labels, categories)
        named = classification_scores(confusion)
        metrics |= {"uar": named["uar"], "accuracy": named["accuracy"]}
    use_ccc = ccc is not None if score == "auto" else score == "ccc"
    metrics["score"] = ccc if use_ccc and ccc is not None else metrics["uar"]
    return metrics


def _training_labels(facts: CorpusFacts, info: CorpusInfo) -> TrainLabels:
    """The training corpus's labels as the evaluated corpus would write them: its scale, its categories."""
    (low, high), (new_low, new_high) = facts.info.scale, info.scale
    attributes = new_low + (facts.attributes - low) * ((new_high - new_low) / (high - low))
    names = facts.info.categories
    numbers = [info.categories.index(name) if name in info.categories else MISSING_EMOTION for name in names]
    emotions = np.array(numbers, np.int64)[facts.emotion] if names else facts.emotion
    return TrainLabels(attributes=attributes, emotions=emotions)


def _line(workdir: Path, summary: dict[str, Any]) -> str:
    parts = [f"{workdir.name}: {summary['corpus']} {summary['split']}, n {summary['n']}"]
    for attribute in ATTRIBUTES:
        found = summary.get("ccc", {}).get(attribute, {})
        if found.get("value") is not None:
            parts.append(f"CCC {attribute} {found['value']:.3f} [{found['low']:.3f}, {found['high']:.3f}]")
    if summary.get("uar", {}).get("value") is not None:
        uar = summary["uar"]
        parts.append(f"UAR {uar['value']:.3f} [{uar['low']:.3f}, {uar['high']:.3f}]")
    return "; ".join(parts)
