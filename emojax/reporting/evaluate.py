"""Evaluates the best checkpoint of a workdir: writes scores, predictions and plots of each split, and a model card."""

import dataclasses
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from emojax.data import (
    BatchStream,
    Corpus,
    choose_categories,
    open_corpus,
    read_index,
    with_rating_table,
    with_speaker_splits,
)
from emojax.errors import CheckpointError, ConfigError
from emojax.evaluation.categories import CategoryMatch, match_categories, parse_category_map
from emojax.evaluation.predict import PredictStep, predict_split
from emojax.evaluation.predictions import Predictions, wants_submission, write_submission
from emojax.evaluation.summary import TrainLabels, summarise
from emojax.evaluation.windows import windows_of
from emojax.models import EmotionModelConfig
from emojax.parallel import is_first_process, make_mesh
from emojax.reporting.card import CARD, write_card
from emojax.reporting.plots import draw_attributes, draw_confusion, save_figure
from emojax.reporting.rating_plots import draw_ratings
from emojax.reporting.results import LINEAR_BASELINES
from emojax.types import ATTRIBUTES, CorpusInfo
from emojax.workdir import (
    EVALUATION,
    CorpusMetadata,
    TrainedModel,
    batch_inputs,
    check_inside,
    holds,
    read_config,
    read_corpus_metadata,
    read_json,
    restore_model,
    stored_modalities,
    write_json,
)

LINEAR_FILE = "linear_baselines.json"
"""File of a workdir with the scores of linear baselines by split (see `emojax.cross_validation.baselines`)."""


def evaluation_directory(workdir: Path, other_corpus: str | None = None, folder: str = EVALUATION) -> Path:
    """Folder that the results on a corpus are written to.

    Args:
      workdir: folder of the evaluated run.
      other_corpus: name of the corpus, if it is not the training corpus.
      folder: folder of this kind of results in the workdir.

    Raises:
      CheckpointError: the folder is a link that leads out of the workdir.
    """
    directory = workdir / folder
    if other_corpus is not None:
        directory = directory / file_name(other_corpus)
    check_inside(workdir, directory)
    return directory


def write_evaluation(
    directory: Path,
    predictions: Predictions,
    train_labels: TrainLabels | None,
    num_resamples: int = 1000,
    seed: int = 0,
    baselines: Mapping[str, Any] | None = None,
    transcripts: str | None = None,
) -> dict[str, Any]:
    """Writes SPLIT.json, SPLIT.csv, and as far as they apply SPLIT_attributes.png, SPLIT_confusion.png,
    SPLIT_ratings.png and SPLIT_submission.csv.

    Args:
      directory: folder from `evaluation_directory`.
      predictions: predictions of one split.
      train_labels: labels for the baselines; None: no baselines.
      num_resamples: number of bootstrap resamples.
      seed: seed of the bootstrap.
      baselines: scores of further baselines, by a key of `LINEAR_BASELINES`.
      transcripts: folder of recognised transcripts that were inputs, saved as `transcripts`; None: none.

    Returns:
      The content of SPLIT.json (see `summarise`).

    Raises:
      EmojaxError: the split has no utterance, or a file cannot be written.
    """
    summary = summarise(predictions, train_labels, num_resamples, seed)
    if baselines:
        summary["baselines"] = {**summary.get("baselines", {}), **baselines}
    if transcripts is not None:
        summary["transcripts"] = transcripts
    split = file_name(predictions.split)
    predictions.write_csv(directory / f"{split}.csv")
    for what, figure in (
        ("attributes", draw_attributes(predictions, summary)),
        ("confusion", draw_confusion(summary)),
        ("ratings", draw_ratings(summary)),
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
    # Last, so that a JSON file never has scores of other predictions than the CSV file.
    write_json(directory / f"{split}.json", summary)
    return summary


def file_name(name: str) -> str:
    """Name of a corpus or split as part of a file name."""
    return re.sub(r"[^\w.-]+", "-", name).strip("-.") or "unnamed"


@holds("workdir", create=False)
def evaluate_workdir(
    workdir: Path,
    corpus_name: str = "",
    splits: tuple[str, ...] = (),
    data_dir: str = "",
    category_map: Sequence[str] = (),
    transcripts: str = "",
) -> dict[str, dict[str, Any]]:
    """Evaluates the best checkpoint of a workdir and writes `evaluation/SPLIT.json`, `.csv`, plots and the model card.

    Args:
      workdir: folder of a run with a checkpoint.
      corpus_name: a corpus other than the training corpus; its results are written to `evaluation/CORPUS/`.
      splits: splits to evaluate; default: the config's test splits, or all splits of another corpus.
      data_dir: folder of the corpora; default: that of the config.
      category_map: pairs `THEIRS:OURS` of a category of the corpus and one of the model, for categories that are not
        matched by name (see `emojax.evaluation.categories`).
      transcripts: folder of transcripts of the corpus, for a model with a lexical modality; default: those of the
        config for the training corpus, the corpus's own for another one.

    Returns:
      The summary of each split (see `summarise`) by the split's name.

    Raises:
      EmojaxError: workdir, corpus or split cannot be used; the message is one line.
    """
    if not workdir.is_dir():
        raise CheckpointError(f"{workdir}: no such workdir")
    pairs = parse_category_map(category_map)
    config = read_config(workdir)
    mesh = make_mesh(config.mesh)
    corpus = open_corpus(corpus_name or config.corpus.name, data_dir or config.corpus.data_dir)
    own = corpus.info.name == read_corpus_metadata(workdir).info.name
    if own:
        corpus = _with_ratings(corpus, config.corpus.ratings)
        corpus = with_speaker_splits(choose_categories(corpus, config.corpus.categories), config.corpus.speakers)
    trained = restore_model(workdir, mesh, stored_modalities(config.model) if own else ())
    model_config = _with_transcripts(config.model, transcripts, own)
    directory = evaluation_directory(workdir, None if own else corpus.info.name)
    splits = splits or (config.corpus.tested_splits if own else tuple(corpus.split_sizes))
    predict = PredictStep(trained.model, mesh, windows_of(config, trained.model, trained.online))
    match = _match(trained, corpus.info, pairs)
    labels = _training_labels(trained.metadata, corpus.info, match)
    linear = read_json(workdir / LINEAR_FILE) if own and (workdir / LINEAR_FILE).exists() else {}
    summaries = {}
    for split in splits:
        index = read_index(corpus, split)
        stored = corpus.selected_from(split)
        inputs = batch_inputs(workdir, model_config, corpus.info.name, stored, config.data.max_tokens, trained.online)
        inputs, least = dataclasses.replace(inputs, ratings=True), trained.model.min_samples
        stream = BatchStream(corpus, split, index, config.data, mesh, training=False, inputs=inputs, min_samples=least)
        for line in stream.skipped:
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
        if is_first_process():
            folder = str(inputs.transcripts.store.directory) if inputs.transcripts else None
            summaries[split] = write_evaluation(
                directory, predictions, labels, resamples, config.seed, linear.get(split), folder
            )
        else:
            summaries[split] = summarise(predictions, labels, resamples, config.seed)
        print(_line(workdir, summaries[split]), flush=True)
        for name, scores in linear.get(split, {}).items():
            print(f"  {LINEAR_BASELINES.get(name, name)}: {describe_scores(scores)}", flush=True)
    if is_first_process() and write_card(trained) is None:
        print(f"{workdir / CARD}: was edited and is not updated", flush=True)
    return summaries


def _with_ratings(corpus: Corpus, path: str) -> Corpus:
    """Adds the histograms of ratings of the config, if their table is still there: only their scores need it."""
    if path and not Path(path).expanduser().exists():
        print(f"config.corpus.ratings: {path} does not exist: histograms of ratings are not scored", flush=True)
        return corpus
    return with_rating_table(corpus, path)


def _with_transcripts(config: EmotionModelConfig, transcripts: str, own: bool) -> EmotionModelConfig:
    """Chooses the transcripts of an evaluation."""
    if transcripts and "lexical" not in config.modalities:
        raise ConfigError(f"--transcripts must be '' for a model without a lexical modality, got {transcripts!r}")
    if own and not transcripts:
        return config
    if config.lexical.transcripts and not transcripts:
        print("transcripts are the corpus's own; --transcripts=FOLDER selects recognised ones", flush=True)
    return dataclasses.replace(config, lexical=dataclasses.replace(config.lexical, transcripts=transcripts))


def _match(trained: TrainedModel, info: CorpusInfo, pairs: Sequence[tuple[str, str]]) -> CategoryMatch:
    """Matches the categories of model and corpus; prints differences, raises ConfigError if nothing can be scored."""
    match = match_categories(trained.metadata.info.categories, info.categories, pairs)
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


def _training_labels(metadata: CorpusMetadata, info: CorpusInfo, match: CategoryMatch) -> TrainLabels:
    """Labels of the training corpus in the scale of the evaluated corpus and in the shared categories."""
    (low, high), (new_low, new_high) = metadata.info.scale, info.scale
    attributes = new_low + (metadata.attributes - low) * ((new_high - new_low) / (high - low))
    return TrainLabels(attributes=attributes, emotions=match.model_labels(metadata.emotion))


def describe_scores(scores: Mapping[str, Any], intervals: bool = True) -> str:
    """CCCs and UAR of a summary, as far as they are defined, in one line."""
    parts = []
    named = {f"CCC {attribute}": scores.get("ccc", {}).get(attribute, {}) for attribute in ATTRIBUTES}
    for title, score in (named | {"UAR": scores.get("uar", {})}).items():
        if score.get("value") is not None:
            parts.append(f"{title} {score['value']:.3f}")
            if intervals and score["low"] is not None:
                parts[-1] += f" [{score['low']:.3f}, {score['high']:.3f}]"
    return "; ".join(parts)


def _line(workdir: Path, summary: dict[str, Any]) -> str:
    parts = [f"{workdir.name}: {summary['corpus']} {summary['split']}, n {summary['n']}"]
    parts += [text] if (text := describe_scores(summary)) else []
    if summary["category_match"] and summary["category_match"]["skipped"]:
        parts.append(f"{summary['category_match']['skipped']} utterances of other categories skipped")
    return "; ".join(parts)
