"""Config of an experiment as one frozen dataclass; each part is declared by the package that uses it."""

import json
from collections.abc import Mapping
from pathlib import PurePath
from typing import Annotated, Any

from emojax.audio import WaveformAugmentConfig
from emojax.config.parts import CorpusConfig, EvaluationConfig, OptimizerConfig, TeacherConfig, TrainingConfig
from emojax.data import DataConfig
from emojax.errors import ConfigError
from emojax.losses import DistillationConfig, ObjectiveConfig
from emojax.models import EmotionModelConfig
from emojax.parallel import MeshConfig
from emojax.schema import Ge, Lt, parse, settings


@settings
class ExperimentConfig:
    """Config of an experiment."""

    seed: Annotated[
        int,
        Ge(0),
        Lt(2**32),
        "Seed of initialisation, data order, cropping, dropout, augmentation and bootstrap; equal configs give equal "
        "results.",
    ] = 0
    corpus: CorpusConfig = CorpusConfig()
    data: DataConfig = DataConfig()
    augment: WaveformAugmentConfig = WaveformAugmentConfig()
    model: EmotionModelConfig = EmotionModelConfig()
    objective: ObjectiveConfig = ObjectiveConfig()
    teacher: TeacherConfig = TeacherConfig()
    distillation: DistillationConfig = DistillationConfig()
    optimizer: OptimizerConfig = OptimizerConfig()
    training: TrainingConfig = TrainingConfig()
    evaluation: EvaluationConfig = EvaluationConfig()
    mesh: MeshConfig = MeshConfig()

    def __post_init__(self):
        """Checks rules between groups.

        Raises:
          ConfigError: naming the field and what is allowed.
        """
        if self.distillation.uses_outputs and not self.teacher.has_outputs:
            raise ConfigError("teacher.workdir or teacher.cache must be given with distillation, got ''")
        self._check_linear_heads()
        self._check_hidden_states()
        if self.objective.rating_weight and not self.model.rating_bins:
            raise ConfigError(
                "model.rating_bins must be >= 2 with objective.rating_weight, e.g. 7 for ratings from 1 to 7, got 0"
            )
        if self.corpus.unlabelled_split and not self.distillation.on:
            raise ConfigError("corpus.unlabelled_split must be empty without distillation")
        if self.teacher.given and not self.distillation.on:
            raise ConfigError("distillation must have a weight > 0 when a teacher is given")

    def _check_linear_heads(self) -> None:
        modalities = self.model.modalities
        if self.training.linear_heads and (len(modalities) > 1 or self.model.network(modalities[0]).embedding_size):
            raise ConfigError(
                "training.linear_heads must be False unless the model has one modality and network.embedding_size 0"
            )
        if self.training.linear_heads and self.model.rating_bins:
            raise ConfigError(f"model.rating_bins must be 0 with training.linear_heads, got {self.model.rating_bins}")

    def _check_hidden_states(self) -> None:
        """Checks the rules of `distillation.hidden_weight`."""
        if not self.distillation.hidden_weight:
            if self.teacher.states:
                raise ConfigError(
                    f"teacher.states must be '' without distillation.hidden_weight, got {self.teacher.states!r}"
                )
            return
        if not (self.teacher.workdirs or self.teacher.state_stores):
            raise ConfigError("teacher.workdir or teacher.states must be given with distillation.hidden_weight, got ''")
        if "acoustic" not in self.model.modalities or self.model.acoustic.train == "nothing":
            raise ConfigError(
                "distillation.hidden_weight must be 0 without an acoustic encoder that is trained "
                f"(model.acoustic.train), got {self.distillation.hidden_weight}"
            )
        if self.augment.speed.probability:
            raise ConfigError(
                "augment.speed.probability must be 0 with distillation.hidden_weight, which compares frames, got "
                f"{self.augment.speed.probability}"
            )


CHANGEABLE = (
    "corpus.data_dir",
    "data.workers",
    "evaluation",
    "mesh",
    "model.keep_stored_encoders",
    "training.checkpoint_digests",
    "training.checkpoint_dir",
    "training.checkpoint_every_steps",
    "training.log_every_steps",
    "training.profile_steps",
)
"""Fields and groups that do not affect the result of training, and may change when a run is continued."""


def parse_experiment(tree: Mapping[str, Any]) -> ExperimentConfig:
    """Converts a config tree to an `ExperimentConfig`.

    Raises:
      ConfigError: one line with the key, the constraint and the value.
    """
    return parse(ExperimentConfig, tree)


LOCATIONS = ("checkpoint", "store", "transcripts", "workdir", "cache", "states", "folder", "init_from", "ratings")
"""Names of fields that hold paths; comparisons of runs use their last component only."""

RECOMPUTATION = ("remat", "remat_saves")
"""Names of fields that exchange time for memory: results differ by rounding. Comparisons of runs ignore them, but a run
continues bit-exactly only with the same."""


def configuration(tree: Mapping[str, Any]) -> str:
    """Serialises the fields of a config that identify an experiment, so that runs can be grouped over seeds.

    The seed and fields that affect neither training nor evaluation are ignored, as are those in `RECOMPUTATION`; of the
    paths in `LOCATIONS` only the last component is compared (`fusion_seed0` and `fusion_seed1` remain different
    teachers).

    Args:
      tree: migrated config of a workdir (`migrate`); may be untrusted.
    """
    ignored = {"seed", *CHANGEABLE} - {"evaluation"}

    def kept(branch: Mapping[str, Any], path: str = "") -> dict[str, Any]:
        found = {}
        for key, value in branch.items():
            name = f"{path}{key}"
            if name in ignored or key in RECOMPUTATION:
                continue
            if isinstance(value, Mapping):
                value = kept(value, f"{name}.")
            elif key in LOCATIONS and isinstance(value, str):
                value = ",".join(PurePath(part).name for part in value.split(","))
            found[key] = value
        return found

    return json.dumps(kept(tree), sort_keys=True)


def difference(old: Mapping[str, Any], new: Mapping[str, Any], path: str = "") -> str | None:
    """Describes the first field outside `CHANGEABLE` in which two config trees differ; None without a difference."""
    for key in sorted({*old, *new}):
        name = f"{path}{key}"
        if name in CHANGEABLE:
            continue
        before, after = old.get(key), new.get(key)
        if isinstance(before, Mapping) and isinstance(after, Mapping):
            found = difference(before, after, f"{name}.")
            if found:
                return found
        elif before != after:
            return f"{name} was {before!r}, now {after!r}"
    return None
