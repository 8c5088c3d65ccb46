"""Shared types and constants: attribute order, sample rate, batches, model outputs, corpus metadata."""

import dataclasses
import math
from typing import Annotated, Any, Literal

import flax.struct
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from emojax.errors import ConfigError
from emojax.schema import MaxLen, MinLen, settings

AnyArray = Any
"""Array of a batch: NumPy on the host, JAX on devices."""

ATTRIBUTES = ("activation", "valence", "dominance")
"""Order of the attributes in every array, file and table."""

NUM_ATTRIBUTES = len(ATTRIBUTES)

SAMPLE_RATE = 16_000
"""Sample rate of all waveforms (Hz)."""

MISSING_EMOTION = -1
"""Category index of an utterance without a consensus category."""


@flax.struct.dataclass
class StoredRows:
    """Precomputed arrays read from a feature store, e.g. hidden states of an encoder.

    Attributes:
      values: rows of each utterance, padded to a common length T; T is 1 for pooled features.
      num_rows: number of valid rows; 0 for an utterance without any (no transcript).
    """

    values: Float[AnyArray, "B T ..."]
    num_rows: Int[AnyArray, "B"]

    @property
    def mask(self) -> Bool[Array, "B T"]:
        """True on valid rows."""
        return jnp.arange(self.values.shape[1]) < self.num_rows[:, None]


@flax.struct.dataclass
class FrameStates:
    """Hidden states of an encoder for a batch, as a loss compares them.

    Attributes:
      values: L layers of every frame.
      weights: 1 on valid frames, 0 elsewhere.
    """

    values: Float[AnyArray, "B T L D"]
    weights: Float[AnyArray, "B T"]


@flax.struct.dataclass
class TeacherOutput:
    """Outputs of a teacher, or of an ensemble of teachers, for a batch.

    Attributes:
      attributes: activation, valence, dominance on the scale of `Batch.attributes`; NaN without an output.
      residual: absolute error of the teacher in units of a reference error (see `emojax.teachers.calibration`); for
        utterances without label, the spread of the ensemble in the same units; 0 where neither is available.
      emotion_probabilities: probabilities of the student's categories; NaN without an output.
      embedding: utterance embedding; those of several teachers are concatenated.
      attribute_variance: variance of `attributes` over the training data, equal in every row; None if unavailable.
      embedding_variance: variance of `embedding` over the training data, summed over E, equal in every row; None if
        unavailable.
      hidden_states: of its speech encoder; None without a loss towards them.
    """

    attributes: Float[AnyArray, "B 3"]
    residual: Float[AnyArray, "B 3"]
    emotion_probabilities: Float[AnyArray, "B C"]
    embedding: Float[AnyArray, "B E"]
    attribute_variance: Float[AnyArray, "B 3"] | None = None
    embedding_variance: Float[AnyArray, "B"] | None = None
    hidden_states: FrameStates | None = None


@flax.struct.dataclass
class Batch:
    """Utterances padded to one static shape, with the lengths and weights that mask the padding.

    Filler rows, which complete a batch, have `weight` 0, `num_samples` 0 and `index` -1.

    Attributes:
      waveform: mono PCM at 16 kHz, int16 (full scale 32768) or float (full scale 1.0); zero after `num_samples`.
      num_samples: valid samples per row.
      tokens: token ids of the transcript; L is 0 if no tokenizer is configured.
      num_tokens: valid tokens per row; 0 without a transcript.
      attributes: activation, valence, dominance mapped from the corpus's scale to [0, 1]; NaN where missing.
      emotion: consensus category; -1 where missing.
      emotion_votes: share of the raters' votes per category; NaN where missing.
      weight: 1 for an utterance, 0 for a filler row.
      index: position of the example in its split; -1 for a filler row.
      stored: arrays from feature stores by name, e.g. of the modality that uses them.
      teacher: teacher outputs; None without a teacher.
      attributes_std: standard deviation of the raters' choices, on the scale of `attributes`; NaN where missing; None
        where a batch is loaded without ratings.
      rating_counts: number of raters per attribute and value of the rating scale, lowest first; all 0 where missing;
        K is 0 for a corpus without histograms; None where a batch is loaded without ratings.
    """

    waveform: Int[AnyArray, "B S"] | Float[AnyArray, "B S"]
    num_samples: Int[AnyArray, "B"]
    tokens: Int[AnyArray, "B L"]
    num_tokens: Int[AnyArray, "B"]
    attributes: Float[AnyArray, "B 3"]
    emotion: Int[AnyArray, "B"]
    emotion_votes: Float[AnyArray, "B C"]
    weight: Float[AnyArray, "B"]
    index: Int[AnyArray, "B"]
    stored: dict[str, StoredRows] = flax.struct.field(default_factory=dict)
    teacher: TeacherOutput | None = None
    attributes_std: Float[AnyArray, "B 3"] | None = None
    rating_counts: Float[AnyArray, "B 3 K"] | None = None

    @property
    def sample_mask(self) -> Bool[Array, "B S"]:
        """True on valid samples."""
        return jnp.arange(self.waveform.shape[1]) < self.num_samples[:, None]

    @property
    def token_mask(self) -> Bool[Array, "B L"]:
        """True on valid tokens."""
        return jnp.arange(self.tokens.shape[1]) < self.num_tokens[:, None]


@flax.struct.dataclass
class EmotionOutput:
    """Outputs of an emotion model.

    Attributes:
      attributes: activation, valence, dominance on the [0, 1] scale of `Batch.attributes`; in training, and where
        `model.clip_attributes` is False, unbounded.
      emotion_logits: unnormalised log-probabilities of the corpus's categories; C is 0 without a category head.
      embedding: utterance embedding, the input of both heads.
      hidden_states: last hidden states of the speech encoder; None except in training with a loss on them.
      rating_logits: unnormalised log-probabilities of K equally spaced values from 0 to 1 per attribute, whose
        expectation is `attributes`; None without rating heads (`model.rating_bins`).
    """

    attributes: Float[Array, "B 3"]
    emotion_logits: Float[Array, "B C"]
    embedding: Float[Array, "B E"]
    hidden_states: FrameStates | None = None
    rating_logits: Float[Array, "B 3 K"] | None = None


@dataclasses.dataclass(frozen=True)
class SplitAssignment:
    """Default training, validation and test splits of a corpus.

    Attributes:
      train: training split.
      validation: split that checkpoints are selected on.
      test: test splits, each evaluated separately.
    """

    train: str
    validation: str
    test: tuple[str, ...]


@settings
class CorpusInfo:
    """Metadata of a corpus, saved with every model and result obtained from it."""

    name: Annotated[str, MinLen(1), "TFDS name with builder config and version, e.g. `emobank_spoken/full/1.0.0`."]
    scale: Annotated[tuple[float, float], "Lowest and highest value of the attribute scale, e.g. (1, 7)."]
    categories: Annotated[
        tuple[Annotated[str, MinLen(1)], ...], MaxLen(1000), "Emotion categories, indexed by `Batch.emotion`."
    ]
    speech: Annotated[Literal["recorded", "synthesised"], "Recorded or synthetic speech."]
    attribute_source: Annotated[
        Literal["rated", "derived", "none"], "Origin of the attributes: human ratings, derived, or none."
    ]
    licence: Annotated[str, "Licence of the corpus."]
    citation: Annotated[str, "Reference to cite."]

    def __post_init__(self):
        """Checks the scale and the categories.

        Raises:
          ConfigError: the scale is empty or swapped, or a category occurs twice.
        """
        low, high = self.scale
        if not low < high or math.isinf(high - low):
            raise ConfigError(f"scale must be a lower and a higher number, got {[low, high]}")
        if len(set(self.categories)) < len(self.categories):
            raise ConfigError(f"categories must differ, got {list(self.categories)}")
