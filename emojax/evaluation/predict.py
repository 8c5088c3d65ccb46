"""Runs a model over a whole split."""

import functools
from typing import Any

import jax
import numpy as np
from jax.sharding import Mesh

from emojax.data import BatchStream, SplitIndex
from emojax.data.plan import FILLER
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
    categories: tuple[str, ...],
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
      categories: the model's, which need not be those of the corpus: equal names are matched.

    Returns:
      Predictions in the corpus's scale and categories, in the order of `index`, without what the stream leaves out.
    """
    attributes = np.full((len(index), NUM_ATTRIBUTES), np.nan)
    probabilities = np.zeros((len(index), len(info.categories)))
    predicted_rows = np.zeros(len(index), bool)
    shared = [name for name in info.categories if name in categories] if outputs.categories else []
    ours, theirs = [categories.index(name) for name in shared], [info.categories.index(name) for name in shared]
    low, high = info.scale
    with Progress(f"predict {info.name} {split}", stream.num_batches, "batches") as progress:
        for batch in stream:
            output = predict(variables, batch)
            rows = to_host(batch.index)
            present = rows != FILLER
            predicted_rows[rows[present]] = True
            attributes[rows[present]] = low + (high - low) * output.attributes[present].astype(np.float64)
            if shared:
                probabilities[np.ix_(rows[present], theirs)] = softmax(output.emotion_logits[present][:, ours])
            progress.advance()
    kept = np.flatnonzero(predicted_rows)
    return Predictions(
        corpus=info,
        split=split,
        ids=index.ids[kept].tolist(),
        speakers=index.speakers[kept].tolist(),
        attributes=np.where(outputs.attributes, attributes, np.nan)[kept],
        attribute_labels=index.attributes[kept].astype(np.float64),
        emotion_probabilities=probabilities[kept] if shared else probabilities[kept, :0],
        emotion_labels=index.emotion[kept].astype(np.int64),
    )
