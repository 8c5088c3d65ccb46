"""Labels of the training split: statistics the losses need, and what is wrong with them."""

from typing import Any

import jax
import numpy as np
from jaxtyping import Bool

from emojax.audio import FeatureStatistics, feature_statistics, mean_and_std, merge_statistics
from emojax.config import ExperimentConfig
from emojax.data import BatchStream, Corpus, SplitIndex, has_votes
from emojax.errors import ConfigError, CorpusError
from emojax.models import EmotionModel, raw_log_mel
from emojax.parallel import to_device, to_host
from emojax.progress import Progress
from emojax.types import ATTRIBUTES, MISSING_EMOTION

MAX_BATCHES = 200
"""Batches looked at: a hundred thousand frames fix a mean to less than a hundredth of a standard deviation."""


def fill_statistics(model: EmotionModel, statistics: Any, stream: BatchStream) -> Any:
    """Replaces a model's `statistics` variables by those of the training data.

    Args:
      model: the model.
      statistics: its initial `statistics` collection; returned as it is if the model does not normalise by corpus.
      stream: training batches, at their start; its position does not change.

    Returns:
      The same tree, with values from up to `MAX_BATCHES` batches, laid out as before.
    """
    settings = model.config.log_mel
    if not statistics:
        return statistics
    measure = jax.jit(lambda batch: feature_statistics(*raw_log_mel(batch, settings.filterbank)))
    bands = settings.filterbank.num_bands
    total = FeatureStatistics(np.float64(0), np.zeros(bands), np.zeros(bands))
    count = min(MAX_BATCHES, stream.plan.batches_per_epoch)
    with Progress("measure features", count, "batches") as progress:
        for number in range(count):
            sums = to_host(measure(stream.load(number)))
            measured = FeatureStatistics(*(np.asarray(part, np.float64) for part in sums))
            total = merge_statistics(total, measured)
            progress.advance()
    mean, std = mean_and_std(total)
    values = {"mean": mean, "std": std}
    return jax.tree.map_with_path(
        lambda path, old: to_device(values[path[-1].key].astype(old.dtype), old.sharding), statistics
    )


def check_labels(config: ExperimentConfig, corpus: Corpus, training: SplitIndex, validation: SplitIndex) -> None:
    """Refuses a run that could train on nothing, or could not tell its best checkpoint.

    Raises:
      ConfigError: an attribute, the categories or the votes that the objective weighs have labels that teach nothing,
        or batches are too small for the CCC.
      CorpusError: a split has no label that the objective uses.
    """
    weighted = np.array(config.objective.attribute_weights) > 0
    labels_used = not (config.distillation.on and config.distillation.label_weight == 0)
    trained = weighted
    if labels_used:
        trained = _check_training(config, corpus, training, weighted)
    needs_ccc = labels_used and config.objective.attribute_loss != "mse"
    _check_batch_size(config, bool(needs_ccc and (trained & _varied(training)).any()))
    _check_validation(config, corpus, training, validation, trained)


def _check_training(
    config: ExperimentConfig, corpus: Corpus, training: SplitIndex, weighted: Bool[np.ndarray, "3"]
) -> Bool[np.ndarray, "3"]:
    """Which attributes are trained."""
    split = config.corpus.train_split
    varied, taught = _varied(training), config.distillation.attribute_weight > 0
    rated = (~np.isnan(training.attributes)).any(axis=0)
    for attribute, useless in zip(ATTRIBUTES, weighted & rated & ~varied, strict=True):
        if useless and not taught:
            raise ConfigError(
                f"config.objective.attribute_weights: {attribute} must have weight 0, split {split!r} of "
                f"{corpus.info.name} has one label of it, or one value in all labels"
            )
    categorised = config.objective.emotion_weight > 0 and _check_categories(config, corpus, training)
    if not ((weighted & rated).any() or categorised):
        raise _no_labels(corpus, split)
    return weighted & (varied | taught)


def _check_categories(config: ExperimentConfig, corpus: Corpus, training: SplitIndex) -> bool:
    """Whether there are categories to train on."""
    split = config.corpus.train_split
    if config.objective.emotion_target == "votes":
        if corpus.info.categories and not has_votes(corpus, split):
            raise ConfigError(
                f"config.objective.emotion_target must be 'consensus', got 'votes': no utterance of split {split!r} of "
                f"{corpus.info.name} has votes"
            )
        return bool(corpus.info.categories)
    found = _categories(training)
    if len(found) == 1:
        raise ConfigError(
            f"config.objective.emotion_weight must be 0, got {config.objective.emotion_weight}: every label in split "
            f"{split!r} of {corpus.info.name} is {corpus.info.categories[found[0]]!r}"
        )
    return len(found) > 1


def _check_batch_size(config: ExperimentConfig, by_labels: bool) -> None:
    rows, distillation = config.data.batch_size, config.distillation
    sets = (
        ("distillation.attribute_weight", distillation.attribute_weight > 0),
        (f"distillation.embedding_loss {distillation.embedding_loss!r}", _compares_embeddings(config)),
    )
    for name, used in sets:
        if used and rows < 2:
            raise ConfigError(f"config.data.batch_size must be >= 2 with {name}, which compares utterances; got {rows}")
    unlabelled = round(config.data.unlabelled_share * rows) if config.corpus.unlabelled_split else 0
    if by_labels and rows - unlabelled < 2:
        raise ConfigError(
            "config.data.batch_size must leave >= 2 labelled utterances to a batch, or the CCC is undefined; got "
            f"{rows - unlabelled}"
        )


def _compares_embeddings(config: ExperimentConfig) -> bool:
    return config.distillation.embedding_weight > 0 and config.distillation.embedding_loss != "cosine"


def _check_validation(
    config: ExperimentConfig,
    corpus: Corpus,
    training: SplitIndex,
    validation: SplitIndex,
    trained: Bool[np.ndarray, "3"],
) -> None:
    name, split, score = corpus.info.name, config.corpus.validation_split, config.evaluation.score
    has_ccc = bool((trained & _varied(validation)).any())
    learned = (config.objective.emotion_weight > 0 and _categories(training).size > 0) or (
        config.distillation.emotion_weight > 0
    )
    has_uar = learned and _categories(validation).size > 1
    if {"ccc": has_ccc, "uar": has_uar, "auto": has_ccc or has_uar}[score]:
        return
    weighted = np.array(config.objective.attribute_weights) > 0
    labelled = (~np.isnan(validation.attributes)).any(axis=0) & weighted
    if not labelled.any() and not (learned and _categories(validation).size):
        raise _no_labels(corpus, split)
    if has_ccc or has_uar:
        raise ConfigError(
            f"config.evaluation.score must be 'auto', got {score!r}: it is undefined on split {split!r} of {name}, "
            "which lacks labels of two values"
        )
    raise CorpusError(
        f"{name}: split {split!r} cannot rank checkpoints: no attribute that is trained has two different labels, and "
        "there are no two categories that are trained"
    )


def _no_labels(corpus: Corpus, split: str) -> CorpusError:
    return CorpusError(
        f"{corpus.info.name}: split {split!r} has no label that the objective uses "
        "(see objective.attribute_weights and objective.emotion_weight)"
    )


def _varied(index: SplitIndex) -> Bool[np.ndarray, "3"]:
    """Attributes with at least two different labels: others have no CCC."""
    known = ~np.isnan(index.attributes)
    lowest = np.where(known, index.attributes, np.inf).min(axis=0, initial=np.inf)
    highest = np.where(known, index.attributes, -np.inf).max(axis=0, initial=-np.inf)
    return lowest < highest


def _categories(index: SplitIndex) -> np.ndarray:
    """Numbers of the categories that occur."""
    return np.unique(index.emotion[index.emotion != MISSING_EMOTION])
