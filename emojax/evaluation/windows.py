"""Windows of long utterances: how they are cut and how their predictions are combined; the jitted prediction step."""

import dataclasses
import functools
from collections.abc import Callable, Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh
from jaxtyping import Array, Float, Int

from emojax.config import ExperimentConfig
from emojax.data import BatchStream, SplitIndex
from emojax.data.plan import FILLER
from emojax.errors import ConfigError
from emojax.evaluation.categories import CategoryMatch
from emojax.evaluation.predictions import Predictions
from emojax.models import EmotionModel
from emojax.parallel import batch_sharding, num_batch_shards, on_mesh, to_host
from emojax.progress import Progress
from emojax.types import NUM_ATTRIBUTES, SAMPLE_RATE, Batch, CorpusInfo, EmotionOutput
from emojax.workdir import TrainedOutputs

ENCODER_SECONDS = 40
"""Audio a speech encoder computes at once where the config leaves it open, and that a device computes at once of
utterances in windows. Attention takes memory by the square of this; the longest utterances of the corpora with a
builder (34 s, IEMOCAP) are still whole."""

_LEAST_SHARE = 0.25
"""A last window shorter than this share of a whole one is left out, unless it is the only one."""


@dataclasses.dataclass(frozen=True)
class Windows:
    """How utterances are divided.

    Attributes:
      samples: longest window; utterances that are no longer stay whole. 0: all stay whole.
      equal: an utterance becomes as few windows of equal length as possible, which hold all of it. Otherwise windows
        have `samples`, save the last: it is left out where it is shorter than a quarter of that and not the only one.
      at_once: samples computed at once on a device, one window at least; 0: one window of every row of the batch.
    """

    samples: int
    equal: bool = False
    at_once: int = 0

    def divide(self, num_samples: int) -> bool:
        """Whether utterances padded to so many samples are divided."""
        return 0 < self.samples < num_samples

    def bounds(self, num_samples: Int[np.ndarray, "B"]) -> tuple[Int[np.ndarray, "B W"], Int[np.ndarray, "B W"]]:
        """First sample and length of every window; W is the largest number any utterance has.

        The length is 0 where an utterance has no such window, or where it is left out.
        """
        counts = -(-num_samples.astype(np.int64)[:, None] // self.samples)
        numbers = np.arange(counts.max(initial=0))
        if self.equal:
            shortest, longer = np.divmod(num_samples[:, None], np.maximum(counts, 1))
            starts = numbers * shortest + np.minimum(numbers, longer)
            return starts, np.where(numbers < counts, shortest + (numbers < longer), 0)
        starts = np.broadcast_to(numbers * self.samples, (len(num_samples), len(numbers)))
        lengths = np.clip(num_samples[:, None] - starts, 0, self.samples)
        return starts, np.where((lengths < _LEAST_SHARE * self.samples) & (numbers > 0), 0, lengths)

    def row_groups(self, rows: int, shards: int) -> Iterator[Int[np.ndarray, "R"]]:
        """Rows of a batch computed at once: as many of every shard's, always the same number."""
        own = rows // shards
        limit = max(self.at_once // self.samples, 1) if self.at_once else own
        size = max(size for size in range(1, min(limit, own) + 1) if own % size == 0)
        numbers = np.arange(rows).reshape(shards, own)
        for start in range(0, own, size):
            yield numbers[:, start : start + size].reshape(-1)


WHOLE = Windows(0)
"""Nothing is divided."""


def windows_of(config: ExperimentConfig, model: EmotionModel, online: tuple[str, ...]) -> Windows:
    """How a model's utterances are divided; see `evaluation.window_seconds` in configs/default.py.

    Args:
      config: of the run.
      model: built from it.
      online: encoder modalities that compute; the others read a store.

    Raises:
      ConfigError: windows are asked for, and a modality reads a store, or a short last window would have no frame.
    """
    seconds, encoder_samples = config.evaluation.window_seconds, ENCODER_SECONDS * SAMPLE_RATE
    at_once = encoder_samples if "acoustic" in online else 0
    if seconds == 0:
        return Windows(encoder_samples, equal=True, at_once=at_once) if at_once else WHOLE
    stored = [modality for modality in config.model.encoder_modalities if modality not in online]
    if stored:
        raise ConfigError(
            f"config.evaluation.window_seconds must be 0 where the {stored[0]} modality reads a store, got {seconds}"
        )
    if "log_mel" not in config.model.modalities and "acoustic" not in online:
        return WHOLE  # transcripts alone: every window would be the same
    samples, least = round(seconds * SAMPLE_RATE), model.min_samples / _LEAST_SHARE
    if samples < least:
        raise ConfigError(
            f"config.evaluation.window_seconds must be 0 or >= {least / SAMPLE_RATE:g}, so that a last window of a "
            f"quarter has a frame, got {seconds}"
        )
    return Windows(samples, at_once=at_once)


def predict_windows(
    forward: Callable[[Batch], EmotionOutput], batch: Batch, windows: Windows, mesh: Mesh
) -> EmotionOutput:
    """Predicts a batch window by window.

    Args:
      forward: the model. It is called with windows of one length and one number of rows, whatever the batch's length.
      batch: any; the tokens and stored rows of an utterance go with each of its windows.
      windows: that divide the batch.
      mesh: which rows are divided over.

    Returns:
      Means over the windows of each utterance, weighted by their lengths, as NumPy arrays; categories are averaged as
      probabilities, and given as their logarithms. Rows without a sample are 0.
    """
    num_samples = to_host(batch.num_samples)
    batch = jax.tree.map(jnp.asarray, batch)
    sums: Any = None
    for rows in windows.row_groups(len(num_samples), num_batch_shards(mesh)):
        starts, lengths = windows.bounds(num_samples[rows])
        shares = lengths / np.maximum(lengths.sum(axis=1, keepdims=True), 1)
        for number in np.flatnonzero(lengths.any(axis=0)):
            window = _cut(windows.samples, mesh)(batch, rows, starts[:, number], lengths[:, number])
            parts = _averageable(to_host(forward(window)))
            if sums is None:
                sums = jax.tree.map(lambda part: np.zeros((len(num_samples), part.shape[1])), parts)
            for total, part in zip(sums, parts, strict=True):
                total[rows] += shares[:, number, None] * part
    attributes, probabilities, embedding = (total.astype(np.float32) for total in sums)
    return EmotionOutput(attributes, np.log(np.maximum(probabilities, np.finfo(np.float32).tiny)), embedding)


def _averageable(output: EmotionOutput) -> tuple[Any, ...]:
    return output.attributes, softmax(output.emotion_logits), output.embedding


def softmax(logits: Float[Any, "... C"]) -> Float[np.ndarray, "... C"]:
    """Probabilities from logits along the last axis, in float64."""
    shifted = logits.astype(np.float64) - logits.max(axis=-1, keepdims=True, initial=-np.inf)
    exponentials = np.exp(shifted)
    return exponentials / exponentials.sum(axis=-1, keepdims=True)


@functools.lru_cache(maxsize=8)
def _cut(samples: int, mesh: Mesh) -> Callable[..., Batch]:
    """Cuts one window from each of the rows, which stay on their devices: the partitioner may gather them else."""

    def cut(batch: Batch, rows: Int[Array, "R"], starts: Int[Array, "R"], lengths: Int[Array, "R"]) -> Batch:
        chosen = jax.tree.map(lambda values: values[rows], batch)
        offsets = jnp.arange(samples)
        places = jnp.minimum(starts[:, None] + offsets, batch.waveform.shape[1] - 1)
        waveform = jnp.take_along_axis(chosen.waveform, places, axis=1)
        return chosen.replace(
            waveform=jnp.where(offsets < lengths[:, None], waveform, 0), num_samples=lengths.astype(jnp.int32)
        )

    return jax.jit(cut, out_shardings=batch_sharding(mesh))


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
