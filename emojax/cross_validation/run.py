"""Cross-validation over speakers: one run per fold, pooled scores, and a final model of all utterances."""

import dataclasses
import time
from pathlib import Path

import numpy as np

from emojax.config import ExperimentConfig
from emojax.cross_validation.baselines import Features, baseline_features, baseline_predictions, check_baselines
from emojax.cross_validation.summary import (
    FoldResult,
    check_same_folds,
    read_fold,
    write_cross_validation,
    write_fold_baselines,
)
from emojax.data import (
    OTHER_SPEAKERS,
    SPEAKERS,
    Corpus,
    all_splits,
    open_corpus,
    read_index,
    with_speaker_splits,
)
from emojax.data.speaker_folds import label_strata, speaker_folds
from emojax.errors import ConfigError
from emojax.reporting import evaluate_workdir
from emojax.training import train_workdir
from emojax.training.data import open_data
from emojax.training.initialisation import check_source
from emojax.training.loop import Outcome, stopped_before_training
from emojax.training.stores import make_stores
from emojax.workdir import check_same_config, holds, keep_encoders, read_corpus_metadata, write_config

FOLDS = "folds"
"""Folder of a workdir with the workdir of every fold."""

_IN_WORKDIR = "workdir:"


def parse_num_folds(text: str) -> int:
    """Number of folds of `--folds`; 0 stands for one fold per speaker.

    Raises:
      ConfigError: it is neither `speaker` nor a number >= 2.
    """
    if text == "speaker":
        return 0
    if text.isdecimal() and int(text) >= 2:
        return int(text)
    raise ConfigError(f"--folds must be 'speaker' or a number >= 2, got {text!r}")


@holds("workdir")
def cross_validate(config: ExperimentConfig, workdir: Path, num_folds: int) -> Outcome:
    """Trains and evaluates every fold, or continues; writes the pooled evaluation; trains the final model.

    Every utterance of the corpus is in the test set of one fold, with all others of its speaker. A fold's model,
    statistics and baselines are computed from its training speakers alone; there is no validation split, the last
    checkpoint of a fold is evaluated.

    Args:
      config: config of all runs; its splits must be empty.
      workdir: folder of the final model; `folds/NUMBER` in it are workdirs too.
      num_folds: number of groups of speakers; 0: one per speaker.

    Returns:
      Outcome of the final model, or of the run that a signal stopped.

    Raises:
      EmojaxError: one line saying what is wrong with config, corpus, workdir or training.
    """
    final = _final_config(config)
    data = open_data(final)
    final, corpus, index = data.config, data.corpus, data.training
    _check_init_from(config, corpus)
    baselines = config.evaluation.linear_baselines
    if baselines:
        check_baselines(config)
    names = np.unique(index.speakers)
    groups = speaker_folds(
        np.asarray(index.speakers), label_strata(index.attributes, index.emotion), num_folds or len(names)
    )
    check_same_config(final, workdir)
    check_same_folds(workdir, groups)
    write_config(workdir, final)
    keep_encoders(workdir, final.model)
    interrupted_by = make_stores(final, corpus, workdir)
    if interrupted_by is not None:
        return stopped_before_training(interrupted_by)
    features = baseline_features(final, corpus, workdir, all_splits(corpus)) if baselines else None
    results: list[FoldResult] = []
    start, trained = time.monotonic(), 0
    for number, group in enumerate(groups, start=1):
        folder = workdir / FOLDS / f"{number:0{len(str(len(groups)))}d}"
        result = read_fold(folder, corpus.info, number, group)
        if result is None:
            outcome = train_workdir(_fold_config(config, group), folder)
            if outcome.interrupted_by is not None:
                return outcome
            evaluate_workdir(folder)
            if features is not None:
                _fit_baselines(folder, corpus, group, features)
            result = read_fold(folder, corpus.info, number, group)
            assert result is not None
            trained += 1
            seconds = (time.monotonic() - start) / trained * (len(groups) + 1 - number)
            print(f"fold {number} of {len(groups)}: {result}; about {seconds / 60:.0f} min left", flush=True)
        results.append(result)
    write_cross_validation(workdir, corpus, index, results, final)
    outcome = train_workdir(_final_config(config), workdir)
    if outcome.interrupted_by is None:
        evaluate_workdir(workdir)  # of no split: writes the model card
    return outcome


def _final_config(config: ExperimentConfig) -> ExperimentConfig:
    """Config of the final model: all utterances are training utterances."""
    corpus = config.corpus
    if corpus.train_split or corpus.validation_split or corpus.test_splits or corpus.speakers or corpus.fold:
        raise ConfigError(
            "config.corpus.train_split, validation_split, test_splits, speakers and fold must be empty with --folds, "
            "which divides all utterances of the corpus"
        )
    whole = all_splits(open_corpus(corpus.name, corpus.data_dir))
    corpus = dataclasses.replace(corpus, train_split=whole, validation_split="none", test_splits=("none",))
    return dataclasses.replace(config, corpus=corpus)


def _fold_config(config: ExperimentConfig, speakers: tuple[str, ...]) -> ExperimentConfig:
    corpus = dataclasses.replace(
        config.corpus,
        speakers=speakers,
        train_split=OTHER_SPEAKERS,
        validation_split="none",
        test_splits=(SPEAKERS,),
    )
    model = dataclasses.replace(config.model, keep_stored_encoders=False)
    for modality in model.encoder_modalities:
        settings = getattr(model, modality)
        if settings.store.startswith(_IN_WORKDIR):  # that of the final model
            store = f"{_IN_WORKDIR}../../{settings.store.removeprefix(_IN_WORKDIR)}"
            model = dataclasses.replace(model, **{modality: dataclasses.replace(settings, store=store)})
    return dataclasses.replace(config, corpus=corpus, model=model)


def _check_init_from(config: ExperimentConfig, corpus: Corpus) -> None:
    if not config.model.init_from:
        return
    source = check_source(config)
    if read_corpus_metadata(source).info.name == corpus.info.name:
        raise ConfigError(
            f"config.model.init_from must be '' with --folds: {source} was trained on {corpus.info.name} itself, and "
            "no speaker would be held out"
        )


def _fit_baselines(folder: Path, corpus: Corpus, speakers: tuple[str, ...], features: Features) -> None:
    corpus = with_speaker_splits(corpus, speakers)
    parts = {}
    for split in (OTHER_SPEAKERS, SPEAKERS):
        rows = corpus.selections[split].positions
        parts[split] = ({name: values[rows] for name, values in features.items()}, read_index(corpus, split))
    write_fold_baselines(folder, *baseline_predictions(corpus, SPEAKERS, parts[OTHER_SPEAKERS], parts[SPEAKERS]))
