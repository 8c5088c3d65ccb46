"""Runs a model over a whole split."""

import dataclasses
from collections.abc import Callable
from typing import Any

import jax
import numpy as np
from jax.sharding import Mesh

from emojax.data import BatchStream, SplitIndex
from emojax.data.plan import FILLER
from emojax.evaluation.categories import CategoryMatch
from emojax.evaluation.predictions import Predictions
from emojax.evaluation.windows import averaged, windowed
from emojax.models import EmotionModel
from emojax.parallel import on_mesh, to_host
from emojax.progress import Progress
from emojax.types import NUM_ATTRIBUTES, Batch, CorpusInfo, EmotionOutput
from emojax.workdir import TrainedOutputs

PredictStep = Callable[[dict[str, Any], Batch], EmotionOutput]


def make_predict_step(model: EmotionModel, mesh: Mesh, window_samples: int = 0) -> PredictStep:
    """The jitted forward pass: `predict(variables, batch) -> EmotionOutput`.

    Args:
      model: what predicts.
      mesh: that variables and batches are divided over.
      window_samples: longer batches are predicted in windows of so many samples and averaged; 0: whole.
    """

    def predict(variables: dict[str, Any], batch: Batch) -> EmotionOutput:
        if not window_samples or batch.waveform.shape[1] <= window_samples:
            output: Any = model.apply(variables, batch, train=False)
            return output
        by_window: Any = model.apply(variables, windowed(batch, window_samples), train=False)
        return averaged(by_window, batch, window_samples)

    return jax.jit(on_mesh(predict, mesh))


def predict_split(
    predict: PredictStep,
    variables: dict[str, Any],
    stream: BatchStream,
    index: SplitIndex,
    info: CorpusInfo,
    split: str,
    outputs: TrainedOutputs,
    match: CategoryMatch,
) -> Predictions:
    """Predicts every utterance of a split that the stream has, once.

    Args:
      predict: from `make_predict_step`.
      variables: the model's.
      stream: the split's batches, in evaluation order.
      index: the split's table, which the labels are taken from.
      info: of the corpus.
      split: its name.
      outputs: which of the model's outputs mean something; the others are left out.
      match: of the model's categories and the corpus's. Utterances of categories that are not shared have none.

    Returns:
      Predictions in the corpus's scale, in the order of `index`, without what the stream leaves out, and in the
      categories that are shared; in the corpus's own, none of them predicted, where too few are.
    """
    attributes = np.full((len(index), NUM_ATTRIBUTES), np.nan)
    scored = outputs.categories and match.usable
    probabilities = np.zeros((len(index), len(match.scored) if scored else 0))
    predicted_rows = np.zeros(len(index), bool)
    low, high = info.scale
    with Progress(f"predict {info.name} {split}", stream.num_batches, "batches") as progress:
        for batch in stream:
            output = predict(variables, batch)
            rows, predicted, logits = to_host((batch.index, output.attributes, output.emotion_logits))
            present = rows != FILLER
            predicted_rows[rows[present]] = True
            attributes[rows[present]] = low + (high - low) * predicted[present].astype(np.float64)
            if scored:
                probabilities[rows[present]] = match.probabilities(softmax(logits[present][:, match.used]))
            progress.advance()
    kept = np.flatnonzero(predicted_rows)
    emotion = index.emotion[kept]
    return Predictions(
        corpus=dataclasses.replace(info, categories=match.scored) if scored else info,
        split=split,
        ids=index.ids[kept].tolist(),
        speakers=index.speakers[kept].tolist(),
        attributes=np.where(outputs.attributes, attributes, np.nan)[kept],
        attribute_labels=index.attributes[kept].astype(np.float64),
        emotion_probabilities=probabilities[kept],
        emotion_labels=(match.corpus_labels(emotion) if scored else emotion).astype(np.int64),
        match=match if outputs.categories else None,
        num_unscored=int((emotion >= 0).sum() - (match.corpus_labels(emotion) >= 0).sum()) if scored else 0,
    )


def softmax(logits: np.ndarray) -> np.ndarray:
    """Probabilities from logits along the last axis, in float64."""
    shifted = logits.astype(np.float64) - logits.max(axis=-1, keepdims=True)
    exponentials = np.exp(shifted)
    return exponentials / exponentials.sum(axis=-1, keepdims=True)
