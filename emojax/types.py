"""The vocabulary every part shares: attribute order, sample rate, batches, outputs, corpus metadata."""

import dataclasses
import math
from typing import Annotated, Any, Literal

import flax.struct
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from emojax.errors import ConfigError
from emojax.schema import MaxLen, MinLen, settings

AnyArray = Any
"""Batches are NumPy arrays on the host and JAX arrays on devices."""

ATTRIBUTES = ("activation", "valence", "dominance")
"""The one order of attributes in every array, file and table of this project."""

NUM_ATTRIBUTES = len(ATTRIBUTES)

SAMPLE_RATE = 16_000
"""Samples per second of every waveform inside the system (Hz)."""

MISSING_EMOTION = -1
"""Category index of an utterance that has no consensus category."""


@flax.struct.dataclass
class StoredRows:
    """Arrays that were computed before and are read beside the batch, e.g. states of an encoder.

    Attributes:
      values: rows of each utterance, padded to one length T; one row where a whole utterance has one.
      num_rows: valid ones; 0 where the utterance has none (no transcript).
    """

    values: Float[AnyArray, "B T ..."]
    num_rows: Int[AnyArray, "B"]

    @property
    def mask(self) -> Bool[Array, "B T"]:
        """True on valid rows."""
        return jnp.arange(self.values.shape[1]) < self.num_rows[:, None]


@flax.struct.dataclass
class TeacherOutput:
    """What a teacher, or several together, say of a batch.

    Attributes:
      attributes: activation, valence, dominance on the scale of `Batch.attributes`; NaN where the teacher has none.
      residual: how wrong the teacher is there, in units of what counts as much (see `emojax.training.teachers`); where
        there is no label, how far several teachers are apart, in such units; 0 where nothing is known.
      emotion_probabilities: of the student's categories; NaN where the teacher has none.
      embedding: of the utterance; of several teachers side by side.
      attribute_variance: of `attributes` over the training data, the same in every row; None where unknown.
      embedding_variance: of `embedding` over the training data, summed over E, the same in every row; None likewise.
    """

    attributes: Float[AnyArray, "B 3"]
    residual: Float[AnyArray, "B 3"]
    emotion_probabilities: Float[AnyArray, "B C"]
    embedding: Float[AnyArray, "B E"]
    attribute_variance: Float[AnyArray, "B 3"] | None = None
    embedding_variance: Float[AnyArray, "B"] | None = None


@flax.struct.dataclass
class Batch:
    """Utterances padded to one static shape, with what is needed to ignore the padding.

    Rows that only fill the batch up have `weight` 0, `num_samples` 0 and `index` -1.

    Attributes:
      waveform: mono PCM at 16 kHz, int16 (full scale 32768) or float (full scale 1.0); zero after `num_samples`.
      num_samples: valid samples per row.
      tokens: token ids of the transcript; L is 0 where no tokenizer is configured.
      num_tokens: valid tokens per row; 0 where there is no transcript.
      attributes: activation, valence, dominance mapped from the corpus's scale to [0, 1]; NaN where missing.
      emotion: consensus category; -1 where missing.
      emotion_votes: share of raters' votes per category; NaN where unknown.
      weight: 1 for an utterance, 0 for a filler row.
      index: position of the example in its split; -1 for a filler row.
      stored: arrays from stores by name, e.g. of the modality that reads them.
      teacher: what a teacher says of them; None without.
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
    """What every emotion model returns.

    Attributes:
      attributes: activation, valence, dominance on the [0, 1] scale of `Batch.attributes` (unbounded regression).
      emotion_logits: unnormalised log-probabilities of the corpus's categories; C is 0 without a category head.
      embedding: the utterance embedding both heads read.
    """

    attributes: Float[Array, "B 3"]
    emotion_logits: Float[Array, "B C"]
    embedding: Float[Array, "B E"]


@dataclasses.dataclass(frozen=True)
class SplitRoles:
    """Which of its splits a corpus is trained, steered and tested on, where an experiment does not say otherwise.

    Attributes:
      train: training split.
      validation: split that chooses checkpoints.
      test: splits that results are told of, each on its own.
    """

    train: str
    validation: str
    test: tuple[str, ...]


@settings
class CorpusInfo:
    """Metadata of a corpus that travels with every model and number made from it."""

    name: Annotated[str, MinLen(1), "TFDS name with builder config and version, e.g. `emobank_spoken/full/1.0.0`."]
    scale: Annotated[tuple[float, float], "Lowest and highest value of the attribute scale, e.g. (1, 7)."]
    categories: Annotated[tuple[Annotated[str, MinLen(1)], ...], MaxLen(1000), "Emotions, as `Batch.emotion` counts."]
    speech: Annotated[Literal["recorded", "synthesised"], "Whether people were recorded, or the speech is synthetic."]
    attribute_source: Annotated[Literal["rated", "derived", "none"], "Rated by people, derived, or there are none."]
    licence: Annotated[str, "Licence of the corpus."]
    citation: Annotated[str, "How to cite it."]

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
