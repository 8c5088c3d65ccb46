"""Runs a model over a whole split."""

import dataclasses
import functools
from typing import Any

import jax
import numpy as np
from jax.sharding import Mesh

from emojax.data import BatchStream, SplitIndex
from emojax.data.plan import FILLER
from emojax.evaluation.categories import CategoryMatch
from emojax.evaluation.predictions import Predictions
from emojax.evaluation.windows import WHOLE, Windows, predict_windows, softmax
from emojax.models import EmotionModel
from emojax.parallel import on_mesh, to_host
from emojax.progress import Progress
from emojax.types import NUM_ATTRIBUTES, Batch, CorpusInfo, EmotionOutput
from emojax.workdir import TrainedOutputs


class PredictStep:
    """The compiled forward pass: `step(variables, batch) -> EmotionOutput`.

    Training's validation, evaluation and `emojax.load(...).predict` all predict by it, so that an utterance gets the
    same numbers from each of them.

    Attributes:
      forward: the same without windows.
    """

    def __init__(self, model: EmotionModel, mesh: Mesh, windows: Windows = WHOLE):
        """Compiles nothing yet.

        Args:
          model: what predicts.
          mesh: that variables and batches are divided over.
          windows: how batches are divided that are longer than a window.
        """

        def forward(variables: dict[str, Any], batch: Batch) -> EmotionOutput:
            output: Any = model.apply(variables, batch, train=False)
            return output

        self.forward = jax.jit(on_mesh(forward, mesh))
        self._mesh, self._windows = mesh, windows

    def __call__(self, variables: dict[str, Any], batch: Batch) -> EmotionOutput:
        """Predicts every row of a batch; the arrays are NumPy's, and whole on every host."""
        forward = functools.partial(self.forward, variables)
        if self._windows.divide(batch.waveform.shape[1]):
            return predict_windows(forward, batch, self._windows, self._mesh)
        return to_host(forward(batch))


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
      predict: the model's step.
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
            rows = to_host(batch.index)
            present = rows != FILLER
            predicted_rows[rows[present]] = True
            attributes[rows[present]] = low + (high - low) * output.attributes[present].astype(np.float64)
            if scored:
                probabilities[rows[present]] = match.probabilities(
                    softmax(output.emotion_logits[present][:, match.used])
                )
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
