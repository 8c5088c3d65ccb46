"""One experiment: model, teacher, train state and step of a config on a mesh, the only place where they are assembled.

Training, planning and benchmarks use it: with arrays, or abstract, with shapes and shardings in their place.
"""

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.sharding import Mesh

from emojax.audio import load_sounds
from emojax.config import ExperimentConfig
from emojax.errors import ConfigError
from emojax.losses import class_weights, hidden_state_heads, make_loss, objective_parameters, projection_parameters
from emojax.models import (
    EmotionModel,
    build_model,
    embedding_size,
    example_batch,
    parameter_axes,
    start_heads,
    trainable_mask,
)
from emojax.parallel import num_batch_shards, to_device
from emojax.teachers import Teacher, TeacherSplit, frame_shift, load_teacher
from emojax.training.loop import StepFunction
from emojax.training.state import InitialVariables, TrainState, init_train_state
from emojax.training.step import jit_step, make_train_step
from emojax.types import Batch
from emojax.workdir import CorpusMetadata, TrainedOutputs, load_encoders, stored_modalities, trained_outputs


@dataclasses.dataclass(frozen=True, eq=False)
class Experiment:
    """What train state and training step are made of.

    Attributes:
      config: config of the run.
      metadata: metadata of the training corpus.
      mesh: device mesh; for an abstract state, its devices need not exist.
      model: model being trained.
      encoders: parameters by encoder modality, on the devices; the others are initialised at random.
      teacher: its teacher, if any.
    """

    config: ExperimentConfig
    metadata: CorpusMetadata
    mesh: Mesh
    model: EmotionModel
    encoders: Mapping[str, Mapping[str, Any]]
    teacher: Teacher | None

    @property
    def online(self) -> tuple[str, ...]:
        """Encoder modalities that are computed in the step; the others are read from a feature store."""
        return online_modalities(self.config)

    @property
    def example(self) -> Batch:
        """A batch of one row, with the inputs of the model."""
        return example_batch(self.model, self.online, self.config.data.max_tokens)

    @property
    def min_samples(self) -> int:
        """Fewest samples at 16 kHz that model and teacher need."""
        return max(self.model.min_samples, self.teacher.min_samples if self.teacher else 0)

    @property
    def outputs(self) -> TrainedOutputs:
        """Outputs of the model that are trained."""
        return trained_outputs(self.config.objective, self.config.distillation, self.metadata)

    def init_state(self, optimizer: optax.GradientTransformation, abstract: bool = False) -> TrainState:
        """Makes the train state; its teacher is not calibrated.

        Args:
          optimizer: from `make_optimizer`.
          abstract: return shapes, dtypes and shardings, and compute nothing.
        """
        example, objective, first = self.example, self._objective_parameters(), self._first_predictions()
        loaded = {modality: {"encoder": params} for modality, params in self.encoders.items()}

        def initialise() -> InitialVariables:
            variables: Any = self.model.init(jax.random.key(self.config.seed), example, train=False)
            params = {  # without random parameters of encoders that are loaded
                modality: {name: part for name, part in tree.items() if name != "encoder" or modality not in loaded}
                for modality, tree in variables["params"].items()
            }
            params["heads"] = start_heads(params["heads"], *first)
            return {"params": params, "statistics": variables.get("statistics", {}), "objective": objective}

        state = init_train_state(
            initialise,
            optimizer,
            self.mesh,
            parameter_axes(self.model.encoders),
            loaded=loaded,
            trainable=lambda params: trainable_mask(params, self.config.model),
            ema=self.config.optimizer.ema_decay > 0,
            abstract=abstract,
        )
        return state.replace(teacher=self.teacher.arrays) if self.teacher else state  # type: ignore[attr-defined]

    def jitted_step(self, optimizer: optax.GradientTransformation, state: TrainState) -> Any:
        """Jits the training step for the shardings of a state, concrete or abstract.

        Where the waveform is augmented, `load_sounds` are its third argument.
        """
        loss = make_loss(self.config.objective, self.config.distillation, self.metadata.emotion_counts)
        step = make_train_step(
            self.model,
            optimizer,
            loss,
            self.config.seed,
            self.config.optimizer.ema_decay,
            self.config.training.micro_batches,
            self.config.augment if self.config.augment.on else None,
            self.teacher,
            hidden_states=self.config.distillation.hidden_weight > 0,
        )
        return jit_step(step, state)

    def train_step(self, optimizer: optax.GradientTransformation, state: TrainState) -> StepFunction:
        """The jitted step from state and batch alone, sounds for augmentation on the devices."""
        step = self.jitted_step(optimizer, state)
        if not self.config.augment.on:
            return step
        sounds = jax.tree.map(
            lambda values: to_device(values, state.step.sharding), load_sounds(self.config.augment, self.config.seed)
        )
        return lambda state, batch: step(state, batch, sounds)

    def _first_predictions(self) -> tuple[Any, Any]:
        """Means of the attributes' training labels, and logarithms of the categories' shares in the loss."""
        counts = self.metadata.emotion_counts
        # One more of each, so that a category without training items has a finite logarithm.
        shares = (counts + 1) * np.asarray(class_weights(counts + 1, self.config.objective.class_balance))
        return jnp.asarray(self.metadata.attribute_means, jnp.float32), jnp.log(jnp.asarray(shares / shares.sum()))

    def _objective_parameters(self) -> dict[str, Any]:
        """Task weights, and maps from the student's embedding and hidden states to the teacher's, where learned."""
        parameters: dict[str, Any] = dict(objective_parameters(self.config.objective))
        if self.teacher is None:
            return parameters
        key = jax.random.fold_in(jax.random.key(self.config.seed), 1)
        sizes = embedding_size(self.model, self.example), self.teacher.embedding_size
        parameters |= projection_parameters(self.config.distillation, key, *sizes)
        if (targets := self.teacher.hidden_states) is None:
            return parameters
        student, layers = self.model.encoders["acoustic"], self.config.distillation.hidden_layers
        if frame_shift(student) != targets.samples_per_frame:
            raise ConfigError(
                f"config.model.acoustic.checkpoint must be an encoder with a frame every {targets.samples_per_frame} "
                f"samples, as the teacher's, got one every {frame_shift(student)}"
            )
        key = jax.random.fold_in(key, 1)
        return parameters | hidden_state_heads(key, len(layers), student.num_features, targets.num_features)


def build_experiment(
    config: ExperimentConfig,
    metadata: CorpusMetadata,
    workdir: Path,
    mesh: Mesh,
    teacher_splits: Sequence[TeacherSplit] = (),
) -> Experiment:
    """Loads teacher and encoders, and builds the model.

    Args:
      config: config of the run.
      metadata: metadata of the training corpus.
      workdir: where `keep_encoders` put the encoders.
      mesh: device mesh.
      teacher_splits: splits of the training batches, whose hidden states the teacher's feature stores may have.

    Raises:
      EmojaxError: an encoder or the teacher is absent, damaged, or does not fit the config.
    """
    teacher = None
    if config.distillation.on:
        categories = metadata.info.categories
        teacher = load_teacher(config.teacher, config.distillation, categories, mesh, teacher_splits)
    online = online_modalities(config)
    encoders = load_encoders(workdir, config.model, mesh, online)
    model = build_model(config.model, len(metadata.info.categories), encoders)
    params = {modality: encoders[modality].params for modality in online}
    return Experiment(config, metadata, mesh, model, params, teacher)


def online_modalities(config: ExperimentConfig) -> tuple[str, ...]:
    """Encoder modalities whose hidden states are computed in the step."""
    stored = stored_modalities(config.model)
    return tuple(modality for modality in config.model.encoder_modalities if modality not in stored)


def check_micro_batches(config: ExperimentConfig, mesh: Mesh) -> None:
    """Checks that a batch divides over micro-batches and devices.

    Raises:
      ConfigError: it does not.
    """
    parts, rows, shards = config.training.micro_batches, config.data.batch_size, num_batch_shards(mesh)
    if rows % (parts * shards):
        raise ConfigError(
            f"config.training.micro_batches times the {shards} batch shards must divide data.batch_size ({rows}), "
            f"got {parts}"
        )
