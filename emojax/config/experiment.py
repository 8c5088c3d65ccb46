"""The whole config of a run as one frozen dataclass, each part owned by the code that reads it."""

import dataclasses
from collections.abc import Mapping
from typing import Any

from emojax.audio import WaveformAugmentConfig
from emojax.config.parse import parse
from emojax.config.parts import CorpusConfig, EvaluationConfig, OptimizerConfig, TrainingConfig
from emojax.data import DataConfig
from emojax.models import EmotionModelConfig
from emojax.objectives import ObjectiveConfig
from emojax.parallel import MeshConfig


@dataclasses.dataclass(frozen=True)
class ExperimentConfig:
    """Everything that determines a run."""

    seed: int
    corpus: CorpusConfig
    data: DataConfig
    augment: WaveformAugmentConfig
    model: EmotionModelConfig
    objective: ObjectiveConfig
    optimizer: OptimizerConfig
    training: TrainingConfig
    evaluation: EvaluationConfig
    mesh: MeshConfig


CHANGEABLE = (
    "corpus.data_dir",
    "data.workers",
    "evaluation",
    "mesh",
    "training.checkpoint_every_steps",
    "training.log_every_steps",
)
"""Fields (or groups) a run may be continued with other values of: they change no result of training."""


def parse_experiment(tree: Mapping[str, Any]) -> ExperimentConfig:
    """Checks a config tree whole.

    Raises:
      ConfigError: one line naming the key, what is wrong with it and what is allowed.
    """
    return parse(ExperimentConfig, tree)


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
