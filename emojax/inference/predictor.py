"""The trained model as people use it: a file or an array in, named numbers out."""

import dataclasses
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np
from jax.sharding import Mesh
from jaxtyping import Float32

from emojax.bucketing import padded_batches
from emojax.errors import CorpusError
from emojax.evaluation import ENCODER_SECONDS, PredictStep, softmax, windows_of
from emojax.inference.items import Item, as_list, as_transcripts, read_item
from emojax.parallel import MeshConfig, check_not_forked, make_mesh
from emojax.tokenizer import Tokenizer
from emojax.types import ATTRIBUTES, MISSING_EMOTION, NUM_ATTRIBUTES, SAMPLE_RATE, Batch, CorpusInfo
from emojax.workdir import ENCODERS, TrainedModel, restore_model

_READ_AT_ONCE = 512
"""Items held in memory at a time."""

_SECONDS_AT_ONCE = 320
"""Audio computed at a time, padding included, unless a single item is longer; with a speech encoder
`ENCODER_SECONDS`."""


@dataclasses.dataclass(frozen=True)
class Prediction:
    """What the model says about one utterance.

    Attributes:
      attributes: activation, valence, dominance by name, in the training corpus's scale; only those it was trained on.
      emotions: probability by category; empty if it was not trained on categories.
      embedding: the utterance embedding (E,), float32.
    """

    attributes: dict[str, float]
    emotions: dict[str, float]
    embedding: Float32[np.ndarray, "E"]

    @property
    def emotion(self) -> str | None:
        """The most probable category, None without categories."""
        return max(self.emotions, key=lambda name: self.emotions[name]) if self.emotions else None


class Predictor:
    """A trained model that predicts files and arrays."""

    def __init__(self, trained: TrainedModel):
        """Wraps a restored model, on one device; see `load`."""
        self.trained = trained
        self._tokenizer = None
        if "lexical" in trained.online:
            self._tokenizer = Tokenizer(str(trained.workdir / ENCODERS / "lexical"), trained.config.data.max_tokens)
        windows = windows_of(trained.config, trained.model, trained.online)
        self._step = PredictStep(trained.model, _one_device(), windows)
        self._min_samples = trained.model.min_samples
        seconds = ENCODER_SECONDS if "acoustic" in trained.online else _SECONDS_AT_ONCE
        self._samples_at_once = seconds * SAMPLE_RATE

    @property
    def corpus(self) -> CorpusInfo:
        """The corpus it was trained on: the scale of its numbers, its categories, its licence."""
        return self.trained.metadata.info

    def predict(
        self,
        items: Item | Sequence[Item],
        rate: float | None = None,
        transcripts: str | Sequence[str | None] | None = None,
    ) -> Any:
        """Predicts one utterance or several, as validation and evaluation do: the same numbers, the same windows.

        Memory does not grow with the length of an utterance where the model has windows (`evaluation.window_seconds`;
        by default every model with a speech encoder), apart from the samples themselves.

        Args:
          items: a path; a file opened for reading bytes; an array with `rate`; an (array, rate) pair; or a list or
            tuple of paths, files and pairs. Arrays have any sample rate, as `emojax.audio.to_mono_16khz` takes them:
            integers or floats of shape (S,), (S, channels) or (channels, S).
          rate: sample rate of `items` where it is a bare array (Hz).
          transcripts: the words of each item, for models that read them; "" or None: the model does without.

        Returns:
          A `Prediction`, or a list of them for a list.

        Raises:
          AudioError: an item cannot be used, or is too short for one frame; the message names it.
          CorpusError: another number of transcripts than of items, one that is no text, or transcripts for a model
            that reads none.
          EmojaxError: JAX cannot compute in this process (`check_not_forked`).
        """
        check_not_forked()
        listed, single = as_list(items, rate)
        texts = as_transcripts(transcripts, len(listed))
        if transcripts is not None and self._tokenizer is None:
            raise CorpusError("this model reads no transcripts; leave them out")
        predictions: list[Prediction] = []
        for start in range(0, len(listed), _READ_AT_ONCE):
            part = slice(start, start + _READ_AT_ONCE)
            read = [read_item(item, start + i, self._min_samples) for i, item in enumerate(listed[part])]
            predictions += self._predict_waveforms(read, texts[part])
        return predictions[0] if single else predictions

    def _predict_waveforms(self, waveforms: list[np.ndarray], texts: list[str]) -> list[Prediction]:
        predictions: dict[int, Prediction] = {}
        for members, padded, lengths in padded_batches(waveforms, SAMPLE_RATE, self._samples_at_once, None):
            batch = self._batch(padded, lengths, [texts[i] for i in members])
            output = self._step(self.trained.variables, batch)
            predictions |= {i: self.named(output, row) for row, i in enumerate(members)}
        return [predictions[i] for i in range(len(waveforms))]

    def _batch(self, waveform: np.ndarray, num_samples: np.ndarray, texts: list[str]) -> Batch:
        rows = len(num_samples)
        tokens, num_tokens = np.zeros((rows, 0), np.int32), np.zeros(rows, np.int32)
        if self._tokenizer is not None:
            tokens, num_tokens = self._tokenizer(texts + [""] * (rows - len(texts)))
        return Batch(
            waveform=waveform,
            num_samples=num_samples,
            tokens=tokens,
            num_tokens=num_tokens,
            attributes=np.full((rows, NUM_ATTRIBUTES), np.nan, np.float32),
            emotion=np.full(rows, MISSING_EMOTION, np.int32),
            emotion_votes=np.full((rows, len(self.corpus.categories)), np.nan, np.float32),
            weight=(num_samples > 0).astype(np.float32),
            index=np.arange(rows, dtype=np.int32),
        )

    def named(self, output: Any, row: int) -> Prediction:
        """One row of the model's outputs, as NumPy arrays, under the names and on the scale of the corpus."""
        low, high = self.corpus.scale
        trained = self.trained.outputs
        values = low + (high - low) * output.attributes[row].astype(np.float64)
        attributes = {
            name: float(value) for name, value, flag in zip(ATTRIBUTES, values, trained.attributes, strict=True) if flag
        }
        emotions = {}
        if trained.categories:
            probabilities = softmax(output.emotion_logits[row])
            emotions = dict(zip(self.corpus.categories, probabilities.tolist(), strict=True))
        return Prediction(attributes, emotions, output.embedding[row].astype(np.float32))


def load(workdir: str | os.PathLike[str]) -> Predictor:
    """Loads the best checkpoint of a workdir; runs none of its code.

    Raises:
      CheckpointError: the folder is no workdir, has no checkpoint, or is damaged.
    """
    return Predictor(restore_model(Path(workdir), _one_device()))


def _one_device() -> Mesh:
    return make_mesh(MeshConfig(data=1, fsdp=1), jax.local_devices()[:1])
