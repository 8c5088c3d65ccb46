"""Prediction with a trained model: audio files or arrays in, attributes and categories by name out."""

import dataclasses
import math
import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np
from jax.sharding import Mesh
from jaxtyping import Float, Float32, Int32

from emojax.errors import ConfigError, CorpusError
from emojax.evaluation import ENCODER_SECONDS, PredictStep, softmax, windows_of
from emojax.evaluation.windows import averageable
from emojax.inference.batches import BatchedPredictions
from emojax.inference.distributions import RatingDistribution, rating_distribution
from emojax.inference.items import Item, as_list, as_transcripts, item_name, read_item
from emojax.inference.length_buckets import BatchShapes
from emojax.inference.programs import Programs
from emojax.parallel import MeshConfig, check_not_forked, make_mesh, to_global_arrays, usable_cores
from emojax.tokenizer import Tokenizer
from emojax.types import (
    ATTRIBUTES,
    MISSING_EMOTION,
    NUM_ATTRIBUTES,
    SAMPLE_RATE,
    Batch,
    CorpusInfo,
    EmotionOutput,
    StoredRows,
)
from emojax.workdir import ENCODERS, TrainedModel, restore_model

_CPU_ROWS = 16
"""Most rows of a batch on a CPU."""

_MOST_AT_ONCE = 8
"""Most batches that are computed at the same time: each takes memory."""

_SECONDS_AT_ONCE = 320
"""Audio per forward pass, padding included, unless one item is longer; with a speech encoder `ENCODER_SECONDS`."""


@dataclasses.dataclass(frozen=True)
class Prediction:
    """Prediction for one utterance.

    Attributes:
      attributes: activation, valence, dominance by name, in the scale of the training corpus; only those that the model
        was trained on.
      emotions: probability by category; empty if the model was not trained on categories.
      embedding: utterance embedding, float32.
      ratings: distribution of ratings by name of the attribute, whose mean is the attribute; empty if the model does
        not predict distributions.
    """

    attributes: dict[str, float]
    emotions: dict[str, float]
    embedding: Float32[np.ndarray, "E"]
    ratings: dict[str, RatingDistribution] = dataclasses.field(default_factory=dict)

    @property
    def emotion(self) -> str | None:
        """The most probable category; None without categories."""
        return max(self.emotions, key=lambda name: self.emotions[name]) if self.emotions else None

    def json_tree(self) -> dict[str, Any]:
        """Tree for JSON, without the embedding: `attributes`, `emotion` (null without categories), `emotions`, and
        `ratings` if there are any."""
        tree: dict[str, Any] = {"attributes": self.attributes, "emotion": self.emotion, "emotions": self.emotions}
        if self.ratings:
            tree["ratings"] = {name: distribution.json_tree() for name, distribution in self.ratings.items()}
        return tree


class Predictor:
    """Predicts files and arrays with a trained model."""

    def __init__(self, trained: TrainedModel, mesh: Mesh | None = None):
        """Wraps a restored model (see `load`).

        Args:
          trained: model, on the devices of `mesh`.
          mesh: mesh of `forward`; None: one device.
        """
        self.trained = trained
        self.mesh = mesh or _one_device()
        self._tokenizer = None
        if "lexical" in trained.online:
            self._tokenizer = Tokenizer(str(trained.workdir / ENCODERS / "lexical"), trained.config.data.max_tokens)
        self.windows = windows_of(trained.config, trained.model, trained.online)
        self._step = PredictStep(trained.model, self.mesh, self.windows)
        self._programs: Programs | None = None
        self.min_samples = trained.model.min_samples
        self.seconds_at_once = ENCODER_SECONDS if "acoustic" in trained.online else _SECONDS_AT_ONCE

    @property
    def corpus(self) -> CorpusInfo:
        """Metadata of the training corpus: scale of the attributes, categories, licence."""
        return self.trained.metadata.info

    @property
    def takes_audio(self) -> bool:
        """Whether the model has a modality of the waveform."""
        return self.trained.config.model.modalities != ("lexical",)

    @property
    def takes_transcripts(self) -> bool:
        """Whether the model has a lexical modality."""
        return self._tokenizer is not None

    def predict(
        self,
        items: Item | Sequence[Item],
        rate: float | None = None,
        transcripts: str | Sequence[str | None] | None = None,
    ) -> Any:
        """Predicts one utterance or several, with the windows of validation and evaluation, and so the same numbers.

        If the model has windows (`evaluation.window_seconds`; by default every model with a speech encoder), memory
        does not grow with the length of an utterance, apart from its samples.

        Args:
          items: a path; a file opened for reading bytes; an array with `rate`; an (array, rate) pair; or a list or
            tuple of paths, files and pairs. Arrays have any sample rate, as `emojax.audio.to_mono_16khz` takes them:
            integers or floats of shape (S,), (S, channels) or (channels, S).
          rate: sample rate (Hz), if `items` is one array.
          transcripts: transcript of each item, for models with text input; "" or None: no transcript.

        Returns:
          A `Prediction`, or a list of them for a list.

        Raises:
          AudioError: an item cannot be read, or is shorter than one frame; the message names it.
          CorpusError: the numbers of transcripts and items differ, a transcript is not a text, or the model has no text
            input.
          EmojaxError: JAX cannot compute in this process (`check_not_forked`).
        """
        check_not_forked()
        listed, single = as_list(items, rate)
        texts = as_transcripts(transcripts, len(listed))
        if transcripts is not None and not self.takes_transcripts:
            raise CorpusError("transcripts must be None: this model has no text input")
        found: dict[int, Prediction] = {}
        batches = BatchedPredictions(self, at_once=1 if single else self.batches_at_once)
        for number, (item, text) in enumerate(zip(listed, texts, strict=True)):
            waveform = read_item(item, item_name(item, number), self.min_samples)
            for start, length in self.window_bounds(len(waveform)):
                found |= batches.add(number, waveform[start : start + length], text)
            found |= batches.end(number)
        found |= batches.rest()
        return found[0] if single else [found[number] for number in range(len(listed))]

    @property
    def shapes(self) -> BatchShapes:
        """Shapes of the batches of `predict`."""
        windows = self.windows
        # On a CPU more rows save nothing. Without a speech encoder, padding costs less than further programs.
        rows = _CPU_ROWS if self.mesh.devices.flat[0].platform == "cpu" else None
        doubled = "acoustic" not in self.trained.online
        at_once = round(self.seconds_at_once * SAMPLE_RATE)
        return BatchShapes(at_once, windows.samples or None, windows.always, doubled, rows)

    @property
    def batches_at_once(self) -> int:
        """Batches of many utterances that are computed at the same time."""
        if "acoustic" in self.trained.online or self.mesh.devices.flat[0].platform != "cpu":
            return 2  # one computes while the outputs of another are read
        # A small network divides its work badly among cores: two batches at once take 0.65 to 0.8 of the time on two.
        return min(usable_cores(), _MOST_AT_ONCE)

    def keep_programs(self, folder: Path) -> None:
        """Keeps compiled programs of `predict` in a folder, and reads those that are there (see `Programs`).

        Args:
          folder: folder that only trusted users can write, since its files are run.
        """
        if self.mesh.devices.flat[0] == jax.local_devices()[0] and self.mesh.size == 1:
            self._programs = Programs(self._step.forward, self.trained.variables, repr(self.trained.model), folder)

    def prepare(self, shapes: Iterable[tuple[int, int]]) -> None:
        """Reads or compiles the programs of batches (rows, samples) in threads, if programs are kept."""
        if self._programs is not None:
            for rows, length in shapes:
                zeros = np.zeros((rows, length), np.float32), np.zeros(rows, np.int32)
                self._programs.prepare(self._batch(*zeros, [""] * rows))

    def window_bounds(self, num_samples: int) -> list[tuple[int, int]]:
        """First sample and length of each window of an utterance; of a model without audio input a second is enough."""
        if not self.takes_audio:
            return [(0, min(num_samples, SAMPLE_RATE))]
        return self.windows.of(num_samples)

    def window_outputs(
        self, waveform: Float32[np.ndarray, "B S"], num_samples: Int32[np.ndarray, "B"], texts: list[str]
    ) -> tuple[Float[np.ndarray, "B _"], ...]:
        """Predicts a padded batch of windows; `BatchedPredictions` averages them.

        Args:
          waveform: windows, none longer than `windows.samples`.
          num_samples: valid samples per row; 0 for rows that complete the batch.
          texts: transcripts of the first rows.

        Returns:
          Arrays of `emojax.evaluation.windows.averageable`.
        """
        batch = self._batch(waveform, num_samples, texts)
        forward = self._programs or self._step.forward
        return averageable(jax.device_get(forward(self.trained.variables, batch)))

    def warmup(self, seconds: float = 10.0, batch: int = 1) -> int:
        """Compiles what `predict` computes for any clips up to a length and a number, so that no request waits for it.

        With `keep_programs` before it, later processes read the programs from disk.

        Args:
          seconds: longest clip (s).
          batch: most clips per call of `predict`.

        Returns:
          Number of shapes: padded lengths times row counts.

        Raises:
          ConfigError: `seconds` or `batch` is not positive.
        """
        check_not_forked()
        if not (0 < seconds < math.inf and batch >= 1):
            raise ConfigError(f"warmup: seconds must be > 0 and batch >= 1, got {seconds} and {batch}")
        num_samples = math.ceil(seconds * SAMPLE_RATE)
        bounds = self.window_bounds(num_samples)
        # Windows of equal length are longer in some shorter clips.
        longest = min(num_samples, self.windows.samples or num_samples) if self.takes_audio else bounds[0][1]
        shapes = self.shapes.up_to(longest, batch * len(bounds))
        self.prepare(shapes)
        for rows, length in shapes:
            waveform, lengths = np.zeros((rows, length), np.float32), np.full(rows, length, np.int32)
            self.window_outputs(waveform, lengths, [""] * rows)
        return len(shapes)

    def forward(
        self,
        waveform: Any,
        num_samples: np.ndarray,
        texts: list[str],
        stored: Mapping[str, StoredRows] | None = None,
    ) -> EmotionOutput:
        """Predicts a padded batch.

        Args:
          waveform: (B, S) on the host or on the devices of `mesh`, whose number B is a multiple of.
          num_samples: (B,) valid samples per row; 0 for rows that complete the batch.
          texts: transcripts of the first rows; ignored without a lexical modality.
          stored: hidden states by modality, in place of those that its encoder computes.

        Returns:
          NumPy arrays of all rows; attributes on [0, 1].
        """
        batch = self._batch(waveform, num_samples, texts).replace(stored=dict(stored or {}))  # type: ignore[attr-defined]
        if self.mesh.size > 1:
            batch = jax.tree.map(self._on_mesh, batch)
        return self._step(self.trained.variables, batch)

    def _on_mesh(self, rows: Any) -> Any:
        return rows if isinstance(rows, jax.Array) else to_global_arrays(rows, self.mesh)

    def _batch(self, waveform: Any, num_samples: np.ndarray, texts: list[str]) -> Batch:
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
        """One row of the model's outputs (NumPy arrays) by name, in the scale of the corpus."""
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
        ratings = {}
        if output.rating_logits is not None:
            ratings = {
                name: rating_distribution(output.rating_logits[row, column], self.corpus.scale)
                for column, name in enumerate(ATTRIBUTES)
                if name in attributes
            }
        return Prediction(attributes, emotions, output.embedding[row].astype(np.float32), ratings)


def load(workdir: str | os.PathLike[str], mesh: Mesh | None = None) -> Predictor:
    """Loads the best checkpoint of a workdir. No code from the workdir is run.

    Args:
      workdir: folder of a run.
      mesh: devices that batches of `Predictor.forward` are sharded over; None: one device. `predict` needs one device.

    Raises:
      CheckpointError: the folder is not a workdir, has no checkpoint, or is damaged.
    """
    return Predictor(restore_model(Path(workdir), mesh or _one_device()), mesh)


def _one_device() -> Mesh:
    return make_mesh(MeshConfig(data=1, fsdp=1), jax.local_devices()[:1])
