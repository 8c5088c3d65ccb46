"""Hidden states of a teacher's speech encoder as targets: computed by a teacher in the step, or read from a store."""

import dataclasses
from pathlib import Path
from typing import Any

import jax.numpy as jnp

from emojax.config import TeacherConfig
from emojax.data import BatchInputs, StoredInput
from emojax.encoders import resolve_layers, select_layers
from emojax.errors import CheckpointError, ConfigError
from emojax.feature_store import STATES, StatesSource, Store, parse_source, single_array
from emojax.losses import DistillationConfig
from emojax.teachers.cache import TeacherCache
from emojax.teachers.ensemble import Ensemble
from emojax.types import Batch, FrameStates
from emojax.workdir import TrainedModel

TEACHER_STATES = "teacher_states"
"""Key of `Batch.stored` that holds the hidden states of a teacher."""


@dataclasses.dataclass(frozen=True, eq=False)
class ComputedStates:
    """Hidden states of the acoustic encoder of a model of an ensemble.

    The encoder is applied once in the step: XLA merges this computation with that of the model's outputs.

    Attributes:
      member: the model.
      number: its position in the ensemble.
      layers: layers by number, from `resolve_layers`.
    """

    member: TrainedModel
    number: int
    layers: tuple[int, ...]

    @property
    def num_features(self) -> int:
        """E, width of the hidden states."""
        return self.member.model.encoders["acoustic"].num_features

    @property
    def samples_per_frame(self) -> int:
        """Frame shift in samples."""
        return frame_shift(self.member.model.encoders["acoustic"])

    def __call__(self, members: Any, batch: Batch) -> FrameStates:
        """Computes them from variables of the ensemble's models and a batch."""
        part = self.member.model.encoders["acoustic"]
        inputs, lengths = part.inputs.of_batch(batch)
        inputs = part.inputs(inputs, lengths)
        params = members[self.number]["params"]["acoustic"]["encoder"]
        output: Any = part.module.apply({"params": params}, inputs, lengths, train=False, hidden_states=True)
        states = select_layers(output, self.layers, part.num_layers)
        return FrameStates(states, output.mask.astype(jnp.float32))

    def batch_inputs(self, student: BatchInputs, corpus: str, split: str) -> BatchInputs:
        """Adds the waveform to the inputs of a batch."""
        del corpus, split
        return dataclasses.replace(student, audio=True)


@dataclasses.dataclass(frozen=True, eq=False)
class StoredStates:
    """Hidden states in feature stores of one encoder, one store for each corpus.

    Attributes:
      stores: written by `--mode=extract`, with every frame of every layer.
      columns: positions in a row of the layers that are used.
      num_features: E, width of the hidden states.
      samples_per_frame: frame shift in samples.
    """

    stores: tuple[Store, ...]
    columns: tuple[int, ...]
    num_features: int
    samples_per_frame: int

    def __call__(self, members: Any, batch: Batch) -> FrameStates:
        """Selects them from a batch; `members` is not used."""
        del members
        stored = batch.stored[TEACHER_STATES]
        return FrameStates(stored.values[:, :, jnp.asarray(self.columns)], stored.mask.astype(jnp.float32))

    def batch_inputs(self, student: BatchInputs, corpus: str, split: str) -> BatchInputs:
        """Adds the store of a corpus to the inputs of a batch.

        Raises:
          CheckpointError: no store is of that corpus, or it lacks the split.
        """
        for store in self.stores:
            if store.metadata.corpus == corpus:
                rows = StoredInput(store.split(split), STATES, "frames", self.samples_per_frame)
                return dataclasses.replace(student, stored={**student.stored, TEACHER_STATES: rows})
        found = ", ".join(store.metadata.corpus for store in self.stores)
        raise CheckpointError(f"config.teacher.states: has nothing of {corpus}, only of {found}")


HiddenStates = ComputedStates | StoredStates


def load_hidden_states(
    config: TeacherConfig, distillation: DistillationConfig, source: Ensemble | TeacherCache
) -> HiddenStates | None:
    """Finds the hidden states of a teacher: in `config.states`, else of the first model with an acoustic encoder.

    Args:
      config: teacher.
      distillation: layers; None is returned if `hidden_weight` is 0.
      source: models of the teacher, or their cached outputs.

    Raises:
      CheckpointError: a store is absent or damaged, or lacks a layer or single frames.
      ConfigError: no model has an acoustic encoder, or a layer does not exist.
    """
    if not distillation.hidden_weight:
        return None
    if config.state_stores:
        return _open_stores(config, distillation.hidden_layers)
    for number, member in enumerate(source.members if isinstance(source, Ensemble) else ()):
        if "acoustic" in member.config.model.modalities:
            num_layers = member.model.encoders["acoustic"].num_layers
            layers = resolve_layers(distillation.hidden_layers, num_layers, "config.distillation.hidden_layers")
            return ComputedStates(member, number, layers)
    raise ConfigError(
        "config.teacher.states must name a feature store with distillation.hidden_weight, got '': no teacher has an "
        "acoustic encoder that computes in the step"
    )


def frame_shift(encoder: Any) -> int:
    """Samples between two frames of a speech encoder (`EncoderPart`)."""
    return int(encoder.inputs.resolution(encoder.module.config, 0)["samples_per_frame"])


def _open_stores(config: TeacherConfig, layers: tuple[int, ...]) -> StoredStates:
    stores = tuple(Store(Path(folder).expanduser()) for folder in config.state_stores)
    first = stores[0]
    source = parse_source(first.metadata, StatesSource, first.directory)
    for store in stores:
        store.metadata.check_same(
            dataclasses.replace(first.metadata, corpus=store.metadata.corpus), str(store.directory)
        )
    if source.combine != "stack" or source.pooling != "none" or source.samples_per_frame is None:
        raise CheckpointError(
            f"config.teacher.states: {first.directory} must hold every frame of each layer of a speech encoder, has "
            f"combine {source.combine!r}, pooling {source.pooling!r}"
        )
    if source.padded:
        raise CheckpointError(f"config.teacher.states: {first.directory} must hold clips at their own length")
    missing = [layer for layer in layers if layer not in source.layers]
    if missing:
        raise CheckpointError(
            f"config.distillation.hidden_layers must be layers of {first.directory}, {source.layers}, got {missing[0]}"
        )
    columns = tuple(source.layers.index(layer) for layer in layers)
    width = single_array(first.metadata, STATES, first.directory).shape[1]
    return StoredStates(stores, columns, width, source.samples_per_frame)
