"""Parts of the config that belong to a run as a whole; models, objectives and data own theirs."""

import dataclasses
from typing import Annotated, Literal

from emojax.errors import ConfigError
from emojax.schema import Ge, Gt, Le, Lt, MinLen, settings
from emojax.types import SplitRoles


@settings
class CorpusConfig:
    """Corpus and splits to train and evaluate on."""

    name: Annotated[
        str,
        MinLen(1),
        "TFDS name of a corpus built with `python -m tfds_builders`: NAME, NAME/CONFIG or NAME/CONFIG:VERSION.",
    ] = "msp_podcast"
    data_dir: Annotated[str, "Folder that holds NAME/; empty: $TFDS_DATA_DIR, else ~/tensorflow_datasets."] = ""
    train_split: Annotated[
        str,
        "Split to train on, by the corpus's own name; empty: the one that the corpus names for the purpose. It must "
        "not be validated or tested on.",
    ] = ""
    validation_split: Annotated[str, "Split that checkpoints are chosen on; empty: as the corpus names it."] = ""
    test_splits: Annotated[
        tuple[str, ...],
        "Splits evaluated at the end, each on its own, never averaged; empty: as the corpus names them.",
    ] = ()
    fold: Annotated[
        int,
        Ge(0),
        Le(10_000),
        "Fold that names the empty splits above, of a corpus with folds (IEMOCAP has five); 0: its usual splits.",
    ] = 0
    categories: Annotated[
        tuple[str, ...],
        "Categories to train on, in this order; utterances of other categories count for attributes alone. Empty: all.",
    ] = ()
    unlabelled_split: Annotated[
        str,
        'Utterances used without their labels, for the teacher alone: a split, e.g. "train[50%:]" beside train_split '
        '"train[:50%]"; empty: none.',
    ] = ""
    unlabelled_name: Annotated[str, "Corpus of unlabelled_split; empty: the same corpus."] = ""

    def __post_init__(self):
        """Checks rules between fields.

        Raises:
          ConfigError: naming the field and what is allowed.
        """
        if self.unlabelled_name and not self.unlabelled_split:
            raise ConfigError("corpus.unlabelled_split must name a split when corpus.unlabelled_name is given, got ''")
        held_out = {part for split in (self.validation_split, *self.test_splits) for part in split.split("+")}
        for part in self.train_split.split("+"):
            if part and any(_share_utterances(part, held) for held in held_out):
                raise ConfigError(f"corpus.train_split must not overlap the validation and test splits, got {part!r}")

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


@settings
class OptimizerConfig:
    """AdamW, its schedule and the average of parameters."""

    learning_rate: Annotated[float, Gt(0), "Peak learning rate of AdamW."] = 1e-3
    encoder_learning_rate: Annotated[float, Ge(0), "Peak learning rate of encoders that are trained."] = 2e-5
    layer_decay: Annotated[
        float, Gt(0), Le(1), "Factor of the learning rate from each encoder layer to the one below; 1: all alike."
    ] = 1.0
    schedule: Annotated[
        Literal["constant", "cosine"], '"cosine" decays to 0 at the last step; both start after the warm-up.'
    ] = "constant"
    warmup_steps: Annotated[int, Ge(0), Le(10**9), "Steps of linear warm-up."] = 100
    weight_decay: Annotated[float, Ge(0), Le(100), "Decoupled weight decay of matrices; vectors have none."] = 0.0
    clip_norm: Annotated[float, Ge(0), "Global norm that gradients are clipped to; 0: not clipped."] = 1.0
    ema_decay: Annotated[
        float,
        Ge(0),
        Lt(1),
        "Decay of the exponential moving average of parameters, which is then evaluated and saved; 0: no average.",
    ] = 0.0


@settings
class TrainingConfig:
    """Length of training and when to validate, save and log."""

    epochs: Annotated[int, Ge(1), Le(10**6), "Passes over the training split."] = 50
    evaluate_every_epochs: Annotated[
        int,
        Ge(1),
        Le(10**6),
        "Passes between validations; each saves a checkpoint, and the best by evaluation.score is kept.",
    ] = 1
    checkpoint_every_steps: Annotated[
        int, Ge(0), Le(10**9), "Steps between further checkpoints, of which the latest is kept; 0: none."
    ] = 1000
    log_every_steps: Annotated[int, Ge(1), Le(10**9), "Steps between lines of metrics.jsonl."] = 10
    patience: Annotated[
        int, Ge(0), Le(10**6), "Validations without a better score after which training stops; 0: never."
    ] = 10
    micro_batches: Annotated[
        int,
        Ge(1),
        Le(10**6),
        "Parts that each batch is computed in, one after the other, to save memory; divides the batch size. Losses and "
        "gradients stay those of the whole batch, for one more forward pass.",
    ] = 1
    profile_steps: Annotated[
        int,
        Ge(0),
        Le(10**4),
        "Steps traced for TensorBoard or XProf into WORKDIR/profile, from the sixth of a command on; 0: none.",
    ] = 0
    checkpoint_dir: Annotated[
        str, "Folder of the checkpoints, for instance on a bucket (gs://BUCKET/FOLDER); empty: WORKDIR/checkpoints."
    ] = ""
    checkpoint_digests: Annotated[
        bool,
        "Whether SHA-256 digests are saved with checkpoints and compared when these are read (2 s per GB); not on "
        "buckets.",
    ] = True


@settings
class EvaluationConfig:
    """How results are measured."""

    score: Annotated[
        Literal["auto", "ccc", "uar"],
        'Validation score that ranks checkpoints: "ccc", the mean CCC of the attributes whose validation labels '
        'differ; "uar"; "auto": CCC where there is one, else UAR.',
    ] = "auto"
    window_seconds: Annotated[
        float,
        Ge(0),
        Le(3600),
        "Length of the windows that utterances are predicted in, and averaged over by length, in validation, in "
        "evaluation and by `predict`; a last window below a quarter of one is left out. 0: whole utterances, except "
        "that with a speech encoder, whose attention takes memory by the square of the length, an utterance of more "
        "than 40 s becomes as few windows of equal length as possible. Inputs read from a store are taken whole.",
    ] = 0.0
    bootstrap_resamples: Annotated[int, Ge(1), Le(10**6), "Resamples of the bootstrap intervals."] = 1000


@settings
class TeacherConfig:
    """Model, or models, to distil from."""

    workdir: Annotated[
        str, "Workdir of the teacher, or several with commas between: their mean. It runs inside the step; empty: none."
    ] = ""
    weights: Annotated[
        tuple[Annotated[float, Gt(0)], ...], "Weight of each of several teachers in the mean; (): equal."
    ] = ()
    cache: Annotated[
        str,
        "In place of workdir: folder of teacher outputs, written by `--mode=extract "
        "--config=configs/extract_teacher.py`; "
        "one for each corpus that is read (corpus.unlabelled_name), with commas between.",
    ] = ""
    dtype: Annotated[Literal["float32", "bfloat16"], "Type of the teacher's matrix products."] = "float32"

    def __post_init__(self):
        """Checks rules between fields.

        Raises:
          ConfigError: naming the field and what is allowed.
        """
        if self.workdir and self.cache:
            raise ConfigError("teacher.cache must be empty when teacher.workdir is given")
        if self.weights and len(self.weights) != len(self.workdirs):
            raise ConfigError(
                f"teacher.weights must have one number for each of the {len(self.workdirs)} workdirs, or be (), "
                f"got {self.weights}"
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
