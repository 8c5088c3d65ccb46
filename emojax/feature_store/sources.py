"""What determines the values of a store: the two kinds of `source` that a `store.json` can have."""

from pathlib import Path
from typing import Annotated, Literal, TypeVar

from emojax.errors import CheckpointError
from emojax.feature_store.layout import StoreMetadata
from emojax.feature_store.shards import ArraySpec
from emojax.schema import Ge, Le, MaxLen, MinLen, parse, settings

STATES = "states"
"""Array of an encoder's store: (frames or tokens, layers, D), one row where pooled; none for an empty
transcript or a recording too short for a frame."""

OUTPUTS = "outputs"
"""Array of a teacher's cache, one row: attributes, spread, probabilities, embedding, one behind the other."""

T = TypeVar("T")


@settings
class StatesSource:
    """Hidden states of an encoder.

    Attributes:
      checkpoint: its fingerprint.
      model_type: of its `config.json`.
      layers: that are kept.
      combine: whether they are stacked or averaged.
      pooling: over frames or tokens.
      dtype: that they were computed in.
      max_tokens: what transcripts were cut to; of text encoders.
      samples_per_frame: distance of two frames; of speech encoders.
    """

    checkpoint: str
    model_type: str
    layers: Annotated[tuple[Annotated[int, Ge(0), Le(1000)], ...], MinLen(1)]
    combine: Literal["stack", "mean"]
    pooling: Literal["none", "mean", "statistics"]
    dtype: Literal["float32", "bfloat16"]
    max_tokens: Annotated[int, Ge(1), Le(2**20)] | None = None
    samples_per_frame: Annotated[int, Ge(1), Le(2**20)] | None = None

    def row_shape(self, num_features: int) -> tuple[int, int]:
        """Computes the shape of a row of an encoder with D = `num_features`."""
        width = num_features * (2 if self.pooling == "statistics" else 1)
        return (1 if self.combine == "mean" else len(self.layers), width)


@settings
class TeacherSource:
    """Outputs of one or several teachers.

    Attributes:
      teacher: fingerprint of each.
      weights: of each, sum 1.
      dtype: that they were computed in.
      teacher_categories: that probabilities are of.
      max_tokens: what transcripts were cut to; None where none are read.
      min_samples: utterances with fewer samples have no outputs; their rows are 0.
    """

    teacher: Annotated[tuple[str, ...], MinLen(1)]
    weights: tuple[float, ...]
    dtype: Literal["float32", "bfloat16"]
    teacher_categories: Annotated[tuple[str, ...], MaxLen(2**12)]
    max_tokens: Annotated[int, Ge(1), Le(2**20)] | None = None
    min_samples: Annotated[int, Ge(0), Le(2**40)] = 0


def source_of(store: StoreMetadata, kind: type[T], place: Path) -> T:
    """Reads the source of a store.

    Args:
      store: from its `store.json`.
      kind: `StatesSource` or `TeacherSource`.
      place: folder of the store, for messages.

    Raises:
      CheckpointError: the source is of another kind, or damaged.
    """
    what = {StatesSource: "hidden states of an encoder", TeacherSource: "outputs of a teacher"}
    key = {StatesSource: "checkpoint", TeacherSource: "teacher"}[kind]
    if key not in store.source:
        raise CheckpointError(f"{place}: holds no {what[kind]}")
    return parse(kind, dict(store.source), f"{place}, source", error=CheckpointError, missing="default")


def array_of(store: StoreMetadata, name: str, place: Path) -> ArraySpec:
    """Finds the one array that a kind of store has.

    Raises:
      CheckpointError: it has others.
    """
    if [spec.name for spec in store.arrays] != [name]:
        raise CheckpointError(f"{place}: arrays must be {name!r} alone, got {[spec.name for spec in store.arrays]}")
    return store.arrays[0]
