"""Linear baselines of a run: features of its corpus, and predictions and scores on test utterances.

Ridge regression (attributes) and logistic regression (categories, see `emojax.cross_validation.linear`) on mean and
standard deviation over time of every layer's hidden states, and of log-mel energies.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax
import numpy as np
from jaxtyping import Float, Float32

from emojax.config import ExperimentConfig
from emojax.cross_validation.linear import Labelled, predict_linear
from emojax.data import BatchStream, Corpus, DataConfig, SplitIndex, read_index
from emojax.data.plan import FILLER
from emojax.errors import ConfigError
from emojax.evaluation import match_categories
from emojax.evaluation.predictions import Predictions
from emojax.evaluation.summary import summarise
from emojax.models import pool, raw_log_mel
from emojax.parallel import is_first_process, make_mesh, to_host
from emojax.progress import Progress
from emojax.reporting import LINEAR_BASELINES, LINEAR_FILE
from emojax.training.data import open_data
from emojax.training.experiment import online_modalities
from emojax.workdir import batch_inputs, read_config, read_json, write_json

_LONGEST = 3600.0
"""Seconds that no utterance is longer than."""

Features = Mapping[str, Float32[np.ndarray, "N L D"]]
"""Statistics by baseline, of the utterances of a split."""


def baseline_features(config: ExperimentConfig, corpus: Corpus, workdir: Path, split: str) -> Features:
    """Computes the features of every utterance of a split.

    Args:
      config: config of the run, whose speech encoder has a feature store.
      corpus: its corpus.
      workdir: its folder, with the encoder.
      split: split of the corpus.

    Raises:
      EmojaxError: the store or the corpus cannot be read.
    """
    index = read_index(corpus, split)
    return {
        "encoder_linear": _encoder_statistics(config, corpus, workdir, split, index),
        "log_mel_linear": _log_mel_statistics(config, corpus, split, index)[:, None],
    }


def check_baselines(config: ExperimentConfig) -> None:
    """Checks that the baselines of a config can be computed.

    Raises:
      ConfigError: there is no speech encoder with a feature store.
    """
    if "acoustic" not in config.model.modalities or not config.model.acoustic.store:
        raise ConfigError(
            "config.evaluation.linear_baselines must be False without model.acoustic.store, which they read"
        )


def labels_of(corpus: Corpus, index: SplitIndex) -> Labelled:
    """Labels of a split for `predict_linear`."""
    return Labelled(index.attributes, index.emotion, np.asarray(index.speakers), len(corpus.info.categories))


def baseline_predictions(
    corpus: Corpus, split: str, training: tuple[Features, SplitIndex], test: tuple[Features, SplitIndex]
) -> tuple[dict[str, Predictions], dict[str, Any]]:
    """Fits the baselines on one split and predicts another.

    Args:
      corpus: corpus of both.
      split: name of the predicted split.
      training: features and index of the training split.
      test: those of the predicted one.

    Returns:
      Predictions, and tuned values, by baseline.
    """
    predictions, chosen = {}, {}
    (train_features, train_index), (test_features, test_index) = training, test
    for name in LINEAR_BASELINES:
        found = predict_linear(train_features[name], labels_of(corpus, train_index), test_features[name])
        low, high = corpus.info.scale
        predictions[name] = Predictions(
            corpus=corpus.info,
            split=split,
            ids=test_index.ids.tolist(),
            speakers=test_index.speakers.tolist(),
            attributes=np.clip(found.attributes, low, high),
            attribute_labels=test_index.attributes,
            emotion_probabilities=found.probabilities,
            emotion_labels=test_index.emotion,
            match=match_categories(corpus.info.categories, corpus.info.categories),
        )
        chosen[name] = found.chosen
    return predictions, chosen


def baseline_scores(predictions: Predictions, num_resamples: int, seed: int) -> dict[str, Any]:
    """Scores of a baseline with intervals, as the report reads them."""
    summary = summarise(predictions, None, num_resamples, seed)
    measures = ("ccc", "pearson", "rmse", "mae", "uar", "macro_f1", "accuracy")
    return {name: summary[name] for name in measures if name in summary}


def write_linear_baselines(workdir: Path) -> None:
    """Writes the scores of the baselines on the test splits of a trained workdir, unless they are there.

    Args:
      workdir: folder of a run; `evaluate_workdir` reports the scores beside the model's.

    Raises:
      EmojaxError: the corpus or the store cannot be read.
    """
    path = workdir / LINEAR_FILE
    if path.exists():
        return
    data = open_data(read_config(workdir))
    config, corpus = data.config, data.corpus
    train = config.corpus.train_split
    print(f"linear baselines: fitted on {train}, tuned by folds of its speakers", flush=True)
    training = (baseline_features(config, corpus, workdir, train), data.training)
    tree: dict[str, Any] = {}
    for split in config.corpus.tested_splits:
        test = (baseline_features(config, corpus, workdir, split), read_index(corpus, split))
        predictions, chosen = baseline_predictions(corpus, split, training, test)
        resamples = config.evaluation.bootstrap_resamples
        tree[split] = {
            name: baseline_scores(found, resamples, config.seed) | {"tuned": chosen[name]}
            for name, found in predictions.items()
        }
    if is_first_process():
        write_json(path, tree)


def read_linear_baselines(workdir: Path) -> dict[str, Any]:
    """Scores by split and baseline; {} if they were not computed."""
    path = workdir / LINEAR_FILE
    return read_json(path) if path.exists() else {}


def _encoder_statistics(
    config: ExperimentConfig, corpus: Corpus, workdir: Path, split: str, index: SplitIndex
) -> Float[np.ndarray, "N L D"]:
    on_disk = corpus.selected_from(split)
    online = online_modalities(config)
    inputs = batch_inputs(workdir, config.model, corpus.info.name, on_disk, config.data.max_tokens, online)
    stored = inputs.for_split(index).stored["acoustic"]
    (spec,) = stored.split.specs
    pooled = stored.rows == "utterance"
    layers, width = spec.shape
    features = np.zeros((len(index), layers, width if pooled else 2 * width), np.float32)
    assert stored.positions is not None
    for row, position in enumerate(stored.positions.tolist()):
        (arrays,) = stored.split.__getitems__([position])
        states = np.asarray(arrays[stored.array], np.float32)
        if len(states):
            features[row] = states[0] if pooled else np.concatenate([states.mean(axis=0), states.std(axis=0)], axis=-1)
    return features


def _log_mel_statistics(
    config: ExperimentConfig, corpus: Corpus, split: str, index: SplitIndex
) -> Float[np.ndarray, "N D"]:
    filterbank = config.model.log_mel.filterbank
    data = DataConfig(batch_size=config.data.batch_size, bucket_seconds=(), max_seconds=_LONGEST, workers=0)
    stream = BatchStream(corpus, split, index, data, make_mesh(config.mesh), training=False)
    measure = jax.jit(lambda batch: pool("statistics", *raw_log_mel(batch, filterbank)))
    features = np.zeros((len(index), 2 * filterbank.num_bands), np.float32)
    with Progress(f"log-mel statistics {corpus.info.name} {split}", stream.num_batches, "batches") as progress:
        for batch in stream:
            rows = to_host(batch.index)
            features[rows[rows != FILLER]] = to_host(measure(batch))[rows != FILLER]
            progress.advance()
    return features
