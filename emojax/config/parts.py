"""Parts of the config that belong to a run as a whole; models, objectives and data own theirs."""

import dataclasses
from typing import Literal

from emojax.errors import ConfigError
from emojax.types import SplitRoles


@dataclasses.dataclass(frozen=True)
class CorpusConfig:
    """What to train and evaluate on; every field is documented in configs/default.py."""

    name: str
    data_dir: str
    train_split: str
    validation_split: str
    test_splits: tuple[str, ...]
    fold: int
    categories: tuple[str, ...]
    unlabelled_name: str
    unlabelled_split: str

    def __post_init__(self):
        """Checks the values.

        Raises:
          ConfigError: naming the field and what is allowed.
        """
        if self.fold < 0:
            raise ConfigError(f"corpus.fold: {self.fold} is not allowed; allowed: an integer >= 0")
        if not self.name:
            raise ConfigError("corpus.name: '' is not allowed; allowed: a name")
        if self.unlabelled_name and not self.unlabelled_split:
            raise ConfigError(
                "corpus.unlabelled_split: '' is not allowed with corpus.unlabelled_name; allowed: a split"
            )
        held_out = {part for split in (self.validation_split, *self.test_splits) for part in split.split("+")}
        for part in self.train_split.split("+"):
            if part and any(_share_utterances(part, held) for held in held_out):
                raise ConfigError(
                    f"corpus.train_split: {part!r} is also validated or tested on; allowed: a split of its own"
                )

    def with_roles(self, roles: SplitRoles | None, folds: tuple[SplitRoles, ...]) -> "CorpusConfig":
        """Fills in the splits that are left open with those the corpus names, of the fold chosen.

        Raises:
          ConfigError: one is left open and the corpus names none, it has no such fold, or the split trained on is also
            tested on.
        """
        if self.fold > len(folds):
            raise ConfigError(f"corpus.fold: {self.fold} is not allowed; {self.name} has {len(folds)} folds")
        if self.train_split and self.validation_split and self.test_splits:
            return self
        roles = folds[self.fold - 1] if self.fold else roles
        if roles is None:
            raise ConfigError(
                f"corpus.train_split: {self.name} does not say what its splits are for; "
                "set train_split, validation_split and test_splits"
            )
        return dataclasses.replace(
            self,
            train_split=self.train_split or roles.train,
            validation_split=self.validation_split or roles.validation,
            test_splits=self.test_splits or roles.test,
        )


def _share_utterances(part: str, other: str) -> bool:
    """Whether two splits surely overlap; of two parts of the same one only equal ones do."""
    whole = "[" not in part or "[" not in other
    return part == other or (whole and part.partition("[")[0] == other.partition("[")[0])


@dataclasses.dataclass(frozen=True)
class OptimizerConfig:
    """Every field is documented in configs/default.py."""

    learning_rate: float
    encoder_learning_rate: float
    layer_decay: float
    schedule: Literal["constant", "cosine"]
    warmup_steps: int
    weight_decay: float
    clip_norm: float
    ema_decay: float

    def __post_init__(self):
        """Checks the values.

        Raises:
          ConfigError: naming the field and what is allowed.
        """
        if self.learning_rate <= 0:
            raise ConfigError(f"optimizer.learning_rate: {self.learning_rate} is not allowed; allowed: a number > 0")
        if not 0 < self.layer_decay <= 1:
            raise ConfigError(f"optimizer.layer_decay: {self.layer_decay} is not allowed; allowed: 0 < number <= 1")
        for name in ("encoder_learning_rate", "warmup_steps", "weight_decay", "clip_norm"):
            if getattr(self, name) < 0:
                raise ConfigError(f"optimizer.{name}: {getattr(self, name)} is not allowed; allowed: a number >= 0")
        if not 0 <= self.ema_decay < 1:
            raise ConfigError(f"optimizer.ema_decay: {self.ema_decay} is not allowed; allowed: 0 <= number < 1")


@dataclasses.dataclass(frozen=True)
class TrainingConfig:
    """Length and rhythm of training; every field is documented in configs/default.py."""

    epochs: int
    evaluate_every_epochs: int
    checkpoint_every_steps: int
    log_every_steps: int
    patience: int
    micro_batches: int
    profile_steps: int
    checkpoint_dir: str

    def __post_init__(self):
        """Checks the values.

        Raises:
          ConfigError: naming the field and what is allowed.
        """
        for name in ("epochs", "evaluate_every_epochs", "log_every_steps", "micro_batches"):
            if getattr(self, name) < 1:
                raise ConfigError(f"training.{name}: {getattr(self, name)} is not allowed; allowed: an integer >= 1")
        for name in ("checkpoint_every_steps", "patience", "profile_steps"):
            if getattr(self, name) < 0:
                raise ConfigError(f"training.{name}: {getattr(self, name)} is not allowed; allowed: an integer >= 0")


@dataclasses.dataclass(frozen=True)
class EvaluationConfig:
    """How results are measured; every field is documented in configs/default.py."""

    score: Literal["auto", "ccc", "uar"]
    window_seconds: float
    bootstrap_resamples: int

    def __post_init__(self):
        """Checks the values.

        Raises:
          ConfigError: naming the field and what is allowed.
        """
        if self.window_seconds < 0:
            given = self.window_seconds
            raise ConfigError(f"evaluation.window_seconds: {given} is not allowed; allowed: a number >= 0")
        if self.bootstrap_resamples < 1:
            given = self.bootstrap_resamples
            raise ConfigError(f"evaluation.bootstrap_resamples: {given} is not allowed; allowed: an integer >= 1")


@dataclasses.dataclass(frozen=True)
class TeacherConfig:
    """Who teaches; every field is documented in configs/default.py."""

    workdir: str
    weights: tuple[float, ...]
    cache: str
    dtype: Literal["float32", "bfloat16"]

    def __post_init__(self):
        """Checks the values.

        Raises:
          ConfigError: naming the field and what is allowed.
        """
        if self.workdir and self.cache:
            raise ConfigError("teacher.cache: is not allowed beside teacher.workdir; allowed: one of the two")
        if self.weights and (len(self.weights) != len(self.workdirs) or min(self.weights) <= 0):
            raise ConfigError(
                f"teacher.weights: {self.weights} is not allowed; allowed: a number > 0 for each of the "
                f"{len(self.workdirs)} workdirs, or ()"
            )

    @property
    def workdirs(self) -> tuple[str, ...]:
        """The teachers' folders."""
        return _comma_separated(self.workdir)

    @property
    def caches(self) -> tuple[str, ...]:
        """Folders of the teachers' outputs, one for each corpus that is read."""
        return _comma_separated(self.cache)

    @property
    def given(self) -> bool:
        """Whether there is a teacher."""
        return bool(self.workdirs or self.caches)


def _comma_separated(text: str) -> tuple[str, ...]:
    return tuple(part.strip() for part in text.split(",") if part.strip())
