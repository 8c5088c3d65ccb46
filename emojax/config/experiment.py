"""The whole config of a run as one frozen dataclass, each part owned by the code that reads it."""

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
    """Everything that determines a run."""

    seed: Annotated[
        int,
        Ge(0),
        Lt(2**32),
        "Seed of parameters, order of the data, cropping, dropout, augmentation and bootstrap. Same config, same "
        "result.",
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
        if self.distillation.on and not self.teacher.given:
            raise ConfigError("teacher.workdir must be a folder with distillation (or teacher.cache), got ''")
        if self.corpus.unlabelled_split and not self.distillation.on:
            raise ConfigError("corpus.unlabelled_split must be empty without distillation: it has no labels")
        if self.teacher.given and not self.distillation.on:
            raise ConfigError("distillation must have a weight > 0 when a teacher is given")


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
"""Fields (or groups) a run may be continued with other values of: they change no result of training."""


def parse_experiment(tree: Mapping[str, Any]) -> ExperimentConfig:
    """Checks a config tree whole.

    Raises:
      ConfigError: one line naming the key, what is wrong with it and what is allowed.
    """
    return parse(ExperimentConfig, tree)


LOCATIONS = ("checkpoint", "store", "workdir", "cache", "folder")
"""Keys of fields that say where something is: moving it changes its folder, seldom its name."""


def configuration(tree: Mapping[str, Any]) -> str:
    """What makes runs comparable over seeds: text that is equal for configs that differ in nothing but the seed.

    Where things lie does not count, nor what changes neither training nor evaluation: of `LOCATIONS`, only the last
    part of a path is looked at (`fusion_seed0` stays another teacher than `fusion_seed1`).

    Args:
      tree: the config of a workdir, brought up to today's fields (`migrate`); perhaps from a stranger.
    """
    ignored = {"seed", *CHANGEABLE} - {"evaluation"}

    def kept(branch: Mapping[str, Any], path: str = "") -> dict[str, Any]:
        found = {}
        for key, value in branch.items():
            name = f"{path}{key}"
            if name in ignored:
                continue
            if isinstance(value, Mapping):
                value = kept(value, f"{name}.")
            elif key in LOCATIONS and isinstance(value, str):
                value = ",".join(PurePath(part).name for part in value.split(","))
            found[key] = value
        return found

    return json.dumps(kept(tree), sort_keys=True)


def difference(old: Mapping[str, Any], new: Mapping[str, Any], path: str = "") -> str | None:
    """The first field, outside `CHANGEABLE`, in which two config trees differ, as `name: old value, new value`."""
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
