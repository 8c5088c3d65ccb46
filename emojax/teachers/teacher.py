"""A teacher as the training step uses it: from a batch to targets of the student, without gradient."""

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any

import flax.struct
import jax
import jax.numpy as jnp
from jax.sharding import Mesh

from emojax.config import TeacherConfig
from emojax.data import BatchInputs
from emojax.errors import ConfigError
from emojax.evaluation import match_categories
from emojax.losses import DistillationConfig
from emojax.teachers.cache import TeacherCache, open_cache
from emojax.teachers.calibration import Calibration, identity_calibration, put_calibration
from emojax.teachers.ensemble import AveragedOutputs, Ensemble, load_ensemble, select_categories
from emojax.teachers.hidden_states import HiddenStates, load_hidden_states
from emojax.teachers.stores import TeacherSplit
from emojax.types import Batch, TeacherOutput


@flax.struct.dataclass
class TeacherArrays:
    """Arrays of a teacher on the devices; constant during training.

    Attributes:
      members: variables of each model of an ensemble; [] with a cache.
      calibration: units of its residuals, and variances of its outputs.
    """

    members: Any
    calibration: Calibration


TeacherFunction = Callable[[TeacherArrays, Batch], TeacherOutput]


@dataclasses.dataclass(frozen=True, eq=False)
class Teacher:
    """Teacher of one student.

    Attributes:
      source: models that compute its outputs, or a cache of them.
      categories: C categories of the student.
      arrays: its arrays on the devices.
      hidden_states: source of hidden states of its speech encoder; None without a loss towards them.
    """

    source: Ensemble | TeacherCache
    categories: tuple[str, ...]
    arrays: TeacherArrays
    hidden_states: HiddenStates | None = None

    def __call__(self, arrays: TeacherArrays, batch: Batch) -> TeacherOutput:
        """Computes the student's targets, without gradient."""
        outputs, calibration = self.outputs(arrays.members, batch), arrays.calibration
        attributes = outputs.attributes
        output = TeacherOutput(
            attributes=attributes,
            residual=calibration.residual(outputs, batch.attributes),
            emotion_probabilities=select_categories(outputs.probabilities, self.source.categories, self.categories),
            embedding=outputs.embedding,
            attribute_variance=jnp.broadcast_to(calibration.attribute_variance, attributes.shape),
            embedding_variance=jnp.broadcast_to(calibration.embedding_variance, attributes.shape[:1]),
            hidden_states=self.hidden_states(arrays.members, batch) if self.hidden_states else None,
        )
        return jax.lax.stop_gradient(output)

    def outputs(self, members: Any, batch: Batch) -> AveragedOutputs:
        """Outputs of the ensemble, computed or cached; see `TeacherArrays.members`."""
        return self.source.outputs(members, batch)

    def batch_inputs(self, student: BatchInputs, corpus: str, split: str) -> BatchInputs:
        """Inputs of a batch for student and teacher.

        Args:
          student: inputs of the student.
          corpus: TFDS name of the corpus, with config and version.
          split: split of that corpus.

        Raises:
          ConfigError: student and teacher need different tokens.
          CheckpointError: no cache or store is of that corpus, or it lacks the split.
        """
        inputs = self.source.batch_inputs(student, corpus, split)
        return self.hidden_states.batch_inputs(inputs, corpus, split) if self.hidden_states else inputs

    @property
    def min_samples(self) -> int:
        """Fewest samples at 16 kHz of an utterance that has outputs."""
        return self.source.min_samples

    @property
    def max_samples(self) -> int | None:
        """Longest input in samples at 16 kHz of models that compute in the step; None: no limit."""
        return self.source.max_samples

    @property
    def embedding_size(self) -> int:
        """E, size of its embedding."""
        return self.source.embedding_size


def load_teacher(
    config: TeacherConfig,
    distillation: DistillationConfig,
    categories: tuple[str, ...],
    mesh: Mesh,
    splits: Sequence[TeacherSplit] = (),
) -> Teacher:
    """Restores the models of a teacher, or opens the cache of their outputs; it is not calibrated yet.

    Args:
      config: workdirs or caches.
      distillation: loss terms.
      categories: categories of the student.
      mesh: device mesh of the arrays.
      splits: splits of the training batches, for feature stores of the models; (): all encoders are computed.

    Raises:
      CheckpointError: a workdir or cache is absent or damaged.
      ConfigError: teacher and student share too few categories for the loss.
    """
    computed = ("acoustic",) if distillation.hidden_weight and not config.state_stores else ()
    source = open_cache(config) if config.caches else load_ensemble(config, mesh, splits, computed)
    members = source.variables if isinstance(source, Ensemble) else []
    arrays = TeacherArrays(members, put_calibration(identity_calibration(), mesh))
    teacher = Teacher(source, categories, arrays, load_hidden_states(config, distillation, source))
    if distillation.emotion_weight:
        match = match_categories(source.categories, categories)
        if not match.usable:
            raise ConfigError(
                f"config.distillation.emotion_weight must be 0, got {distillation.emotion_weight}: teacher and corpus "
                f"share {len(match.scored)} categories, at least 2 are needed ({match})"
            )
        if str(match):
            print(f"categories of teacher (model) and corpus: {match}", flush=True)
    return teacher
