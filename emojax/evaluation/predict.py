"""The compiled prediction step, and the predictions of a split."""

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
from emojax.evaluation.ratings import RatingPredictions
from emojax.evaluation.votes import scored_votes
from emojax.evaluation.windows import WHOLE, Windows, predict_windows, softmax
from emojax.models import EmotionModel
from emojax.parallel import to_host, with_mesh
from emojax.progress import Progress
from emojax.types import NUM_ATTRIBUTES, Batch, CorpusInfo, EmotionOutput
from emojax.workdir import TrainedOutputs


class PredictStep:
    """The compiled forward pass: `step(variables, batch) -> EmotionOutput`.

    Validation during training, evaluation and `emojax.load(...).predict` all use it, so that an utterance gets the same
    numbers from each of them.

    Attributes:
      forward: the forward pass without windows.
    """

    def __init__(self, model: EmotionModel, mesh: Mesh, windows: Windows = WHOLE):
        """Compiles nothing yet.

        Args:
          model: emotion model.
          mesh: mesh that variables and batches are sharded over.
          windows: windows of longer batches.
        """

        def forward(variables: dict[str, Any], batch: Batch) -> EmotionOutput:
            output: Any = model.apply(variables, batch, train=False)
            return output

        self.forward = jax.jit(with_mesh(forward, mesh))
        self._mesh, self._windows = mesh, windows

    def __call__(self, variables: dict[str, Any], batch: Batch) -> EmotionOutput:
        """Predicts every row of a batch; returns NumPy arrays of all rows on every host."""
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
    """Predicts every utterance of a split once.

    Args:
      predict: compiled prediction step.
      variables: variables of the model.
      stream: batches of the split, in evaluation order.
      index: table of the split, with the labels.
      info: metadata of the corpus.
      split: name of the split.
      outputs: outputs of the model that are trained; the others are not returned.
      match: match of the model's categories with the corpus's; utterances of other categories have no label.

    Returns:
      Predictions in the scale of the corpus and the order of `index`, without utterances that the stream skips. The
      categories are the shared ones; if too few are shared, those of the corpus, without predictions.
    """
    attributes = np.full((len(index), NUM_ATTRIBUTES), np.nan)
    scored = outputs.categories and match.usable
    probabilities = np.zeros((len(index), len(match.scored) if scored else 0))
    votes = np.full(probabilities.shape, np.nan)
    predicted_rows = np.zeros(len(index), bool)
    collected = _CollectedRatings(len(index), info.scale)
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
                votes[rows[present]] = scored_votes(to_host(batch.emotion_votes)[present], match)
            collected.add(rows[present], present, output, batch)
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
        ratings=collected.predictions(kept, outputs.attributes),
        emotion_votes=votes[kept] if scored else None,
    )


class _CollectedRatings:
    """Distributions of ratings, predicted and known, of the utterances of a split, gathered batch by batch."""

    def __init__(self, size: int, scale: tuple[float, float]):
        self._size, self._scale = size, scale
        self._arrays: dict[str, np.ndarray] = {}

    def add(self, rows: np.ndarray, present: np.ndarray, output: EmotionOutput, batch: Batch) -> None:
        """Adds the present rows of a batch; `rows` are their positions in the split."""
        found = {"counts": batch.rating_counts, "stds": batch.attributes_std}
        if output.rating_logits is not None:
            found["probabilities"] = softmax(output.rating_logits)
        for name, values in found.items():
            if values is not None:
                values = to_host(values)
                table = self._arrays.setdefault(name, np.full((self._size, *values.shape[1:]), np.nan))
                table[rows] = values[present]

    def predictions(self, kept: np.ndarray, trained: tuple[bool, bool, bool]) -> RatingPredictions | None:
        """Those of the utterances `kept`; None if nothing is predicted and nothing known."""
        unknown = np.full((self._size, NUM_ATTRIBUTES), np.nan)
        probabilities = self._arrays.get("probabilities", unknown[..., None][..., :0])
        stds, counts = self._arrays.get("stds", unknown), self._arrays.get("counts", unknown[..., None][..., :0])
        if not probabilities.shape[2] and np.isnan(stds[kept]).all():
            return None
        low, high = self._scale
        probabilities = np.where(np.array(trained)[:, None], probabilities, np.nan)
        return RatingPredictions(self._scale, probabilities[kept], counts[kept], (high - low) * stds[kept])
