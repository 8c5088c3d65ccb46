"""Evaluates a workdir: restores its best model, predicts whole splits, writes scores, tables and plots."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np

from emojax.data import BatchStream, choose_categories, open_corpus, read_index
from emojax.errors import CheckpointError, ConfigError, TrainingError
from emojax.evaluation.categories import CategoryMatch, match_categories, parse_category_map
from emojax.evaluation.predict import PredictStep, predict_split
from emojax.evaluation.predictions import Predictions
from emojax.evaluation.summary import TrainLabels, summarise
from emojax.evaluation.undefined import undefined_scores
from emojax.evaluation.windows import windows_of
from emojax.evaluation.writing import evaluation_directory, write_evaluation
from emojax.metrics import classification_scores, confusion_matrix, regression_scores
from emojax.parallel import is_first, make_mesh
from emojax.types import ATTRIBUTES, CorpusInfo
from emojax.workdir import CorpusFacts, TrainedModel, batch_inputs, holds, read_config, read_corpus_facts, restore_model


@holds("workdir", create=False)
def evaluate_workdir(
    workdir: Path,
    corpus_name: str = "",
    splits: tuple[str, ...] = (),
    data_dir: str = "",
    category_map: Sequence[str] = (),
) -> dict[str, dict[str, Any]]:
    """Evaluates the best checkpoint of a workdir and writes `evaluation/SPLIT.json`, `.csv` and plots.

    Args:
      workdir: a run that has a checkpoint.
      corpus_name: another corpus than the one trained on; its results go to `evaluation/CORPUS/`, one folder deeper.
      splits: splits to evaluate; by default the config's test splits, or, of another corpus, every split it has.
      data_dir: where corpora are; by default where the config says.
      category_map: pairs `THEIRS:OURS` of a category of the corpus and one of the model, for categories that are not
        matched by name (see `emojax.evaluation.categories`).

    Returns:
      The summary of each split (see `summarise`) by the split's name.

    Raises:
      EmojaxError: one line saying what is wrong with workdir, corpus or split.
    """
    if not workdir.is_dir():
        raise CheckpointError(f"{workdir}: no such workdir")
    pairs = parse_category_map(category_map)
    config = read_config(workdir)
    mesh = make_mesh(config.mesh)
    corpus = open_corpus(corpus_name or config.corpus.name, data_dir or config.corpus.data_dir)
    own = corpus.info.name == read_corpus_facts(workdir).info.name
    if own:
        corpus = choose_categories(corpus, config.corpus.categories)
    trained = restore_model(workdir, mesh, stored=own)
    directory = evaluation_directory(workdir, None if own else corpus.info.name)
    splits = splits or (config.corpus.test_splits if own else tuple(corpus.split_sizes))
    predict = PredictStep(trained.model, mesh, windows_of(config, trained.model, trained.online))
    match = _match(trained, corpus.info, pairs)
    labels = _training_labels(trained.facts, corpus.info, match)
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
            match,
        )
        resamples = config.evaluation.bootstrap_resamples
        if is_first():
            summaries[split] = write_evaluation(directory, predictions, labels, resamples, config.seed)
        else:
            summaries[split] = summarise(predictions, labels, resamples, config.seed)
        print(_line(workdir, summaries[split]), flush=True)
    return summaries


def validation_metrics(predictions: Predictions, score: Literal["auto", "ccc", "uar"]) -> dict[str, float]:
    """The few numbers that choose the best checkpoint.

    Args:
      predictions: of the validation split.
      score: what ranks checkpoints: the mean CCC of the attributes that are predicted and labelled, the UAR, or
        (`auto`) the mean CCC where there is one and else the UAR.

    Returns:
      `ccc_<attribute>`, `uar`, `accuracy` where defined (see `emojax.evaluation.undefined`), and `score`.

    Raises:
      TrainingError: the score is undefined.
    """
    metrics: dict[str, float] = {}
    reasons = undefined_scores(predictions)
    labels, predicted = predictions.attribute_labels, predictions.attributes
    scores = regression_scores(predicted, np.where(np.isnan(predicted), np.nan, labels))["ccc"]
    for attribute in ATTRIBUTES:
        if f"ccc.{attribute}" not in reasons:
            metrics[f"ccc_{attribute}"] = scores[attribute]
    ccc = float(np.mean(list(metrics.values()))) if metrics else None
    if "accuracy" not in reasons:
        categories = predictions.emotion_probabilities.shape[1]
        confusion = confusion_matrix(predictions.predicted_emotions, predictions.emotion_labels, categories)
        named = classification_scores(confusion)
        metrics |= {name: named[name] for name in ("uar", "accuracy") if name not in reasons}
    chosen = ccc if score == "ccc" or (score == "auto" and ccc is not None) else metrics.get("uar")
    if chosen is None:
        why = "; ".join(f"{name}: {why}" for name, why in reasons.items() if name.startswith(("ccc.", "uar")))
        raise TrainingError(f"{predictions.corpus.name}, split {predictions.split!r}: no score to validate by ({why})")
    return metrics | {"score": chosen}


def _match(trained: TrainedModel, info: CorpusInfo, pairs: Sequence[tuple[str, str]]) -> CategoryMatch:
    """Of the model's categories and the corpus's; says where they differ, refuses where nothing can be scored."""
    match = match_categories(trained.facts.info.categories, info.categories, pairs)
    if not trained.outputs.categories or not info.categories:
        return match
    if str(match):
        print(f"{trained.workdir.name} on {info.name}: categories: {match}", flush=True)
    if not match.usable and not (any(trained.outputs.attributes) and info.attribute_source != "none"):
        raise ConfigError(
            f"{info.name}: shares {len(match.scored)} categories with {trained.workdir}, at least 2 are needed "
            f"({match}); name equal ones by --category_map=THEIRS:OURS,..."
        )
    return match


def _training_labels(facts: CorpusFacts, info: CorpusInfo, match: CategoryMatch) -> TrainLabels:
    """The training corpus's labels as they are scored: in the evaluated corpus's scale, in the shared categories."""
    (low, high), (new_low, new_high) = facts.info.scale, info.scale
    attributes = new_low + (facts.attributes - low) * ((new_high - new_low) / (high - low))
    return TrainLabels(attributes=attributes, emotions=match.model_labels(facts.emotion))


def _line(workdir: Path, summary: dict[str, Any]) -> str:
    parts = [f"{workdir.name}: {summary['corpus']} {summary['split']}, n {summary['n']}"]
    named = {f"CCC {attribute}": summary.get("ccc", {}).get(attribute, {}) for attribute in ATTRIBUTES}
    for title, score in (named | {"UAR": summary.get("uar", {})}).items():
        if score.get("value") is not None:
            parts.append(f"{title} {score['value']:.3f}")
            if score["low"] is not None:
                parts[-1] += f" [{score['low']:.3f}, {score['high']:.3f}]"
    if summary["category_match"] and summary["category_match"]["left_out"]:
        parts.append(f"{summary['category_match']['left_out']} utterances of other categories left out")
    return "; ".join(parts)
