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

from emojax.audio import read_audio, to_mono_16khz
from emojax.errors import AudioError, CorpusError
from emojax.evaluation import make_predict_step, softmax
from emojax.parallel import MeshConfig, check_not_forked, make_mesh
from emojax.text import Tokenizer
from emojax.types import ATTRIBUTES, MISSING_EMOTION, NUM_ATTRIBUTES, SAMPLE_RATE, Batch, CorpusInfo
from emojax.workdir import ENCODERS, TrainedModel, restore_model

_SHORTEST = SAMPLE_RATE
_LARGEST_BATCH = 32

Item = str | os.PathLike[str] | tuple[np.ndarray, int]
"""An utterance: a path, or an array and its sample rate in Hz."""


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
        self._predict = make_predict_step(trained.model, _one_device())

    @property
    def corpus(self) -> CorpusInfo:
        """The corpus it was trained on: the scale of its numbers, its categories, its licence."""
        return self.trained.facts.info

    def predict(
        self,
        items: Item | Sequence[Item],
        rate: int | None = None,
        transcripts: str | Sequence[str] | None = None,
    ) -> Any:
        """Predicts one utterance or several; any sample rate and channel count.

        Args:
          items: a path; an array with `rate`; an (array, rate) pair; or a list of paths and pairs.
          rate: sample rate of `items` where it is a bare array (Hz).
          transcripts: the words of each item, for models that read them; such a model hears alone where there are none.

        Returns:
          A `Prediction`, or a list of them for a list.

        Raises:
          AudioError: an item cannot be used; the message names it.
          CorpusError: another number of transcripts than of items, or transcripts for a model that reads none.
          EmojaxError: JAX cannot compute in this process (`check_not_forked`).
        """
        check_not_forked()
        if isinstance(items, np.ndarray):
            if rate is None:
                raise AudioError("an array needs its sample rate: predict(array, rate)")
            items = (items, rate)
        single = isinstance(items, (str, os.PathLike)) or _is_pair(items)
        listed: list[Any] = [items] if single else list(items)  # type: ignore[arg-type]
        texts = [transcripts] if isinstance(transcripts, str) else list(transcripts or [""] * len(listed))
        if len(texts) != len(listed):
            raise CorpusError(f"{len(texts)} transcripts for {len(listed)} items; allowed: one each")
        if transcripts is not None and self._tokenizer is None:
            raise CorpusError("this model reads no transcripts; leave them out")
        predictions = self._predict_waveforms([_waveform(item, i) for i, item in enumerate(listed)], texts)
        return predictions[0] if single else predictions

    def _predict_waveforms(self, waveforms: list[np.ndarray], texts: list[str]) -> list[Prediction]:
        """Groups waveforms of like padded length, so that few shapes are compiled and little is padded."""
        predictions: list[Prediction | None] = [None] * len(waveforms)
        lengths = np.array([_padded_length(len(waveform)) for waveform in waveforms], np.int64)
        for length in np.unique(lengths):
            members = np.flatnonzero(lengths == length)
            for start in range(0, len(members), _LARGEST_BATCH):
                group = members[start : start + _LARGEST_BATCH]
                batch = self._batch([waveforms[i] for i in group], [texts[i] for i in group], int(length))
                output = jax.device_get(self._predict(self.trained.variables, batch))
                for row, i in enumerate(group):
                    predictions[i] = self.named(output, row)
        return [prediction for prediction in predictions if prediction is not None]

    def _batch(self, waveforms: list[np.ndarray], texts: list[str], length: int) -> Batch:
        rows = 1 if len(waveforms) == 1 else _LARGEST_BATCH
        waveform = np.zeros((rows, length), np.float32)
        num_samples = np.zeros(rows, np.int32)
        for row, samples in enumerate(waveforms):
            waveform[row, : len(samples)] = samples
            num_samples[row] = len(samples)
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


def _is_pair(item: Any) -> bool:
    return isinstance(item, tuple) and len(item) == 2 and isinstance(item[0], np.ndarray)


def _waveform(item: Item, position: int) -> Float32[np.ndarray, "S"]:
    if isinstance(item, tuple):
        if not _is_pair(item):
            raise AudioError(f"item {position}: is neither a path nor an (array, rate) pair")
        return to_mono_16khz(item[0], item[1], name=f"item {position}")
    return read_audio(item)


def _padded_length(num_samples: int) -> int:
    """Next of 1, 1.5, 2, 3, 4, 6, 8 ... seconds: at most a third is padding, at most two shapes per doubling."""
    length = _SHORTEST
    while length < num_samples:
        if length + length // 2 >= num_samples:
            return length + length // 2
        length *= 2
    return length
