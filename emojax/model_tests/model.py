"""Models under test: a function from clips to outputs, with a workdir or any importable object behind it."""

import dataclasses
import importlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from jaxtyping import Float, Float32

from emojax.errors import ConfigError, EmojaxError, reason
from emojax.types import ATTRIBUTES, NUM_ATTRIBUTES, SAMPLE_RATE


@dataclasses.dataclass(frozen=True, eq=False)
class Clip:
    """An utterance as a model gets it.

    Attributes:
      id: id of the utterance; the same for every degradation of it.
      waveform: 16 kHz mono, full scale 1.0.
      transcript: words; "" if unknown.
    """

    id: str
    waveform: Float32[np.ndarray, "S"]
    transcript: str = ""


@dataclasses.dataclass(frozen=True, eq=False)
class Outputs:
    """Outputs of a model for N clips.

    Attributes:
      attributes: activation, valence, dominance, mapped to [0, 1]; NaN in the columns that the model does not predict.
      probabilities: probability of each of the model's categories; C is 0 without categories.
    """

    attributes: Float[np.ndarray, "N 3"]
    probabilities: Float[np.ndarray, "N C"]

    def rows(self, chosen: Any) -> "Outputs":
        """Outputs of some clips, by index or mask."""
        return Outputs(self.attributes[chosen], self.probabilities[chosen])


def joined(parts: Sequence[Outputs]) -> Outputs:
    """Outputs for several sets of clips as one."""
    return Outputs(
        np.concatenate([part.attributes for part in parts]), np.concatenate([part.probabilities for part in parts])
    )


class Model(Protocol):
    """A model under test.

    Attributes:
      name: name in reports.
      predicted: which of activation, valence and dominance it predicts.
      categories: its categories; () without.
      min_samples: samples of the shortest input at 16 kHz.
    """

    name: str
    predicted: tuple[bool, bool, bool]
    categories: tuple[str, ...]
    min_samples: int

    def __call__(self, clips: Sequence[Clip]) -> Outputs:
        """Predicts clips; every row must depend on its own clip only."""
        ...


class WorkdirModel:
    """The best checkpoint of a workdir, with the windows of evaluation.

    Attributes are those of `Model`.
    """

    def __init__(self, workdir: Path):
        """Restores the model.

        Raises:
          CheckpointError: the folder is not a workdir, has no checkpoint, or is damaged.
        """
        from emojax.inference import load

        self._predictor = load(workdir)
        trained = self._predictor.trained.outputs
        self.name = workdir.resolve().name
        self.predicted = trained.attributes
        self.categories = self._predictor.corpus.categories if trained.categories else ()
        self.min_samples = self._predictor.min_samples

    def __call__(self, clips: Sequence[Clip]) -> Outputs:
        """Predicts clips."""
        texts = [clip.transcript for clip in clips] if self._predictor.takes_transcripts else None
        predictions = self._predictor.predict([(clip.waveform, SAMPLE_RATE) for clip in clips], transcripts=texts)
        low, high = self._predictor.corpus.scale
        attributes = np.full((len(clips), NUM_ATTRIBUTES), np.nan)
        probabilities = np.zeros((len(clips), len(self.categories)))
        for row, prediction in enumerate(predictions):
            for column, attribute in enumerate(ATTRIBUTES):
                if attribute in prediction.attributes:
                    attributes[row, column] = (prediction.attributes[attribute] - low) / (high - low)
            probabilities[row] = [prediction.emotions[category] for category in self.categories]
        return Outputs(attributes, probabilities)


CONSTANT = "constant"
"""Name of the constant predictor where a command takes a model."""


class Constant:
    """Predicts 0.5 for every attribute, and always the first category of the corpus."""

    name = CONSTANT
    predicted = (True, True, True)
    min_samples = 1

    def __init__(self, categories: tuple[str, ...]):
        """Takes the categories of the corpus."""
        self.categories = categories

    def __call__(self, clips: Sequence[Clip]) -> Outputs:
        """Predicts clips."""
        probabilities = np.zeros((len(clips), len(self.categories)))
        probabilities[:, :1] = 1.0
        return Outputs(np.full((len(clips), NUM_ATTRIBUTES), 0.5), probabilities)


def import_model(name: str, flag: str = "--predictor") -> Model:
    """Imports a model.

    Args:
      name: `MODULE:NAME` of a `Model`, or of a class or function that makes one without arguments.
      flag: flag that the name was given by, for messages.

    Raises:
      ConfigError: it cannot be imported, or is not a `Model`.
    """
    module, colon, attribute = name.partition(":")
    if not (module and colon and attribute):
        raise ConfigError(f"{flag} must be MODULE:NAME or {CONSTANT}, got {name!r}")
    try:
        found: Any = getattr(importlib.import_module(module), attribute)
        is_model = hasattr(found, "categories") and not isinstance(found, type)
        model: Any = found if is_model else found()
    except EmojaxError:
        raise
    except Exception as error:  # of the user's code
        raise ConfigError(f"{flag}={name}: {type(error).__name__}: {reason(error)}") from error
    missing = [field for field in ("name", "predicted", "categories", "min_samples") if not hasattr(model, field)]
    if missing or not callable(model):
        raise ConfigError(f"{flag}={name}: must be a model (emojax.model_tests.Model), lacks {missing or 'a call'}")
    return model


def checked_outputs(model: Model, clips: Sequence[Clip]) -> Outputs:
    """Predicts clips and checks the outputs.

    Raises:
      EmojaxError: their shape is wrong, or one is not finite.
    """
    outputs = model(clips)
    attributes = np.asarray(outputs.attributes, np.float64)
    probabilities = np.asarray(outputs.probabilities, np.float64)
    n = len(clips)
    for what, values, shape in (
        ("attributes", attributes, (n, NUM_ATTRIBUTES)),
        ("probabilities", probabilities, (n, len(model.categories))),
    ):
        if values.shape != shape:
            raise EmojaxError(f"{model.name}: {what} must have shape {shape}, got {values.shape}")
    bad = ~np.isfinite(attributes[:, np.array(model.predicted)]).all(axis=1) | ~np.isfinite(probabilities).all(axis=1)
    if bad.any():
        raise EmojaxError(f"{model.name}: an output for {clips[int(bad.argmax())].id!r} is not finite")
    return Outputs(np.where(model.predicted, attributes, np.nan), probabilities)
