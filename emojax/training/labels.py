"""Checks of labels before training: whether the objective has any to train on, and a score to rank checkpoints by."""

import numpy as np
from jaxtyping import Bool

from emojax.config import ExperimentConfig
from emojax.data import Corpus, SplitIndex, has_rating_counts, has_rating_std, has_votes
from emojax.errors import ConfigError, CorpusError
from emojax.types import ATTRIBUTES, MISSING_EMOTION


def check_labels(config: ExperimentConfig, corpus: Corpus, training: SplitIndex, validation: SplitIndex | None) -> None:
    """Checks that a run has labels to train on and, with a validation split, to rank its checkpoints by.

    Raises:
      ConfigError: all labels of an attribute, or of the categories, that the objective weighs have one value; there are
        no votes or histograms of ratings where it needs them; or batches are too small for the CCC.
      CorpusError: a split has no label that the objective uses.
    """
    weighted = np.array(config.objective.attribute_weights) > 0
    labels_used = not (config.distillation.on and config.distillation.label_weight == 0)
    trained = weighted
    if labels_used:
        trained = _check_training(config, corpus, training, weighted)
    needs_ccc = labels_used and config.objective.attribute_loss != "mse"
    _check_batch_size(config, bool(needs_ccc and (trained & _varied(training)).any()))
    _check_ratings(config, corpus)
    if validation is not None:
        _check_validation(config, corpus, training, validation, trained)


def _check_training(
    config: ExperimentConfig, corpus: Corpus, training: SplitIndex, weighted: Bool[np.ndarray, "3"]
) -> Bool[np.ndarray, "3"]:
    """Which attributes are trained."""
    split = config.corpus.train_split
    varied, distilled = _varied(training), config.distillation.attribute_weight > 0
    rated = (~np.isnan(training.sampled_labels()[0])).any(axis=0)
    for attribute, constant in zip(ATTRIBUTES, weighted & rated & ~varied, strict=True):
        if constant and not distilled:
            raise ConfigError(
                f"config.objective.attribute_weights: {attribute} must have weight 0, split {split!r} of "
                f"{corpus.info.name} has one label of it, or one value in all labels"
            )
    categorised = config.objective.emotion_weight > 0 and _check_categories(config, corpus, training)
    if not ((weighted & rated).any() or categorised):
        raise _no_labels(corpus, split)
    return weighted & (varied | distilled)


def _check_ratings(config: ExperimentConfig, corpus: Corpus) -> None:
    """Checks that the training split has the ratings of single raters that the objective uses."""
    objective, split = config.objective, config.corpus.train_split
    if not objective.uses_ratings:
        return
    place = f"split {split!r} of {corpus.info.name}"
    counted, deviation = has_rating_counts(corpus, split), has_rating_std(corpus, split)
    hint = "corpus.ratings names a table of them, see docs/raters.md"
    assumed = objective.rating_target == "normal"
    if objective.rating_weight and not (counted or (assumed and deviation)):
        missing = "a histogram of ratings" + (" or a standard deviation over raters" if assumed else "")
        raise ConfigError(
            f"config.objective.rating_weight must be 0, got {objective.rating_weight}: no utterance of {place} has "
            f"{missing} ({hint})"
        )
    if objective.rating_weight and corpus.rating_bins not in (0, config.model.rating_bins):
        raise ConfigError(
            f"config.model.rating_bins must be {corpus.rating_bins}, the values of the rating scale of "
            f"{corpus.info.name}, got {config.model.rating_bins}"
        )
    by_deviation = objective.confidence == "inverse_variance"
    if objective.confidence != "none" and not (counted or (by_deviation and deviation)):
        missing = "a standard deviation over raters" if by_deviation else "a histogram of ratings"
        raise ConfigError(
            f"config.objective.confidence must be 'none', got {objective.confidence!r}: no utterance of {place} has "
            f"{missing} ({hint})"
        )


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
    predicted = (config.objective.emotion_weight > 0 and _categories(training).size > 0) or (
        config.distillation.emotion_weight > 0
    )
    has_uar = predicted and _categories(validation).size > 1
    if {"ccc": has_ccc, "uar": has_uar, "auto": has_ccc or has_uar}[score]:
        return
    weighted = np.array(config.objective.attribute_weights) > 0
    labelled = (~np.isnan(validation.sampled_labels()[0])).any(axis=0) & weighted
    if not labelled.any() and not (predicted and _categories(validation).size):
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
    """Attributes with at least two different labels, without which the CCC is undefined."""
    attributes, _ = index.sampled_labels()
    present = ~np.isnan(attributes)
    lowest = np.where(present, attributes, np.inf).min(axis=0, initial=np.inf)
    highest = np.where(present, attributes, -np.inf).max(axis=0, initial=-np.inf)
    return lowest < highest


def _categories(index: SplitIndex) -> np.ndarray:
    """Numbers of the categories that occur."""
    _, emotion = index.sampled_labels()
    return np.unique(emotion[emotion != MISSING_EMOTION])
