"""Sources of stored values: the two types of `source` in `store.json`."""

from pathlib import Path
from typing import Annotated, Literal, TypeVar

from emojax.errors import CheckpointError
from emojax.feature_store.layout import StoreMetadata
from emojax.feature_store.shards import ArraySpec
from emojax.schema import Ge, Le, MaxLen, MinLen, parse, settings

STATES = "states"
"""Name of the array of hidden states: (frames or tokens, layers, D), one row if pooled; no row for an empty
transcript or a recording shorter than a frame."""

OUTPUTS = "outputs"
"""Name of the array of teacher outputs, one row: attributes, spread, probabilities and embedding, concatenated."""

T = TypeVar("T")


@settings
class StatesSource:
    """Hidden states of an encoder.

    Attributes:
      checkpoint: fingerprint of the checkpoint.
      model_type: model type in the checkpoint's `config.json`.
      layers: layers that are stored.
      combine: whether layers are stacked or averaged.
      pooling: pooling over frames or tokens.
      dtype: type of the computation.
      max_tokens: number of tokens that transcripts were truncated to; text encoders only.
      samples_per_frame: frame shift in samples; speech encoders only.
      padded: whether clips, or windows of them, were padded to the encoder's longest input.
    """

    checkpoint: str
    model_type: str
    layers: Annotated[tuple[Annotated[int, Ge(0), Le(1000)], ...], MinLen(1)]
    combine: Literal["stack", "mean"]
    pooling: Literal["none", "mean", "statistics"]
    dtype: Literal["float32", "bfloat16"]
    max_tokens: Annotated[int, Ge(1), Le(2**20)] | None = None
    samples_per_frame: Annotated[int, Ge(1), Le(2**20)] | None = None
    padded: bool = False

    def row_shape(self, num_features: int) -> tuple[int, int]:
        """Returns the shape (layers, D) of a row for an encoder with `num_features` features."""
        width = num_features * (2 if self.pooling == "statistics" else 1)
        return (1 if self.combine == "mean" else len(self.layers), width)


@settings
class TeacherSource:
    """Outputs of one or several teachers.

    Attributes:
      teacher: fingerprint of each teacher.
      weights: weight of each teacher; they sum to 1.
      dtype: type of the computation.
      teacher_categories: categories of the probabilities.
      max_tokens: number of tokens that transcripts were truncated to; None without transcripts.
      min_samples: utterances with fewer samples have no outputs; their rows are 0.
      transcripts: fingerprint of recognised transcripts; None for the corpus's own, or without transcripts.
    """

    teacher: Annotated[tuple[str, ...], MinLen(1)]
    weights: tuple[float, ...]
    dtype: Literal["float32", "bfloat16"]
    teacher_categories: Annotated[tuple[str, ...], MaxLen(2**12)]
    max_tokens: Annotated[int, Ge(1), Le(2**20)] | None = None
    min_samples: Annotated[int, Ge(0), Le(2**40)] = 0
    transcripts: str | None = None


def parse_source(store: StoreMetadata, cls: type[T], directory: Path) -> T:
    """Parses the source of a store.

    Args:
      store: metadata of the store.
      cls: `StatesSource` or `TeacherSource`.
      directory: folder of the store, for error messages.

    Raises:
      CheckpointError: the source is of another type, or damaged.
    """
    content = {StatesSource: "hidden states of an encoder", TeacherSource: "outputs of a teacher"}[cls]
    key = {StatesSource: "checkpoint", TeacherSource: "teacher"}[cls]
    if key not in store.source:
        raise CheckpointError(f"{directory}: holds no {content}")
    return parse(cls, dict(store.source), f"{directory}, source", error=CheckpointError, missing="default")


def single_array(store: StoreMetadata, name: str, directory: Path) -> ArraySpec:
    """Returns the spec of a store's only array.

    Args:
      store: metadata of the store.
      name: expected name of the array.
      directory: folder of the store, for error messages.

    Raises:
      CheckpointError: the store has other arrays.
    """
    if [spec.name for spec in store.arrays] != [name]:
        raise CheckpointError(f"{directory}: arrays must be {name!r} alone, got {[spec.name for spec in store.arrays]}")
    return store.arrays[0]
