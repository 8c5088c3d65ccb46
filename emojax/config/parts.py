"""Config of the run itself; models, losses and data declare their own."""

import dataclasses
from typing import Annotated, Literal

from emojax.errors import ConfigError
from emojax.schema import Ge, Gt, Le, Lt, MinLen, settings
from emojax.types import SplitAssignment

NO_SPLIT = "none"
"""Stands for no validation split, or no test split."""


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
        "Training split, by the corpus's own name; empty: the corpus's default. It must not overlap the validation "
        "and test splits.",
    ] = ""
    validation_split: Annotated[
        str,
        "Split that checkpoints are selected on; empty: the corpus's default; none: no split, the last checkpoint is "
        "the result.",
    ] = ""
    test_splits: Annotated[
        tuple[str, ...],
        "Splits evaluated at the end, each separately, never averaged; empty: the corpus's default; none: no split.",
    ] = ()
    speakers: Annotated[
        tuple[str, ...],
        "Speakers that define two further splits over all utterances of the corpus: `speakers`, theirs, and "
        "`other_speakers`, the rest. `--folds` sets it in every fold.",
    ] = ()
    fold: Annotated[
        int,
        Ge(0),
        Le(10_000),
        "Cross-validation fold that the defaults above are taken from (IEMOCAP has five); 0: the usual splits.",
    ] = 0
    categories: Annotated[
        tuple[str, ...],
        "Categories to train on, in this order; utterances of other categories train the attributes only. Empty: all.",
    ] = ()
    unlabelled_split: Annotated[
        str,
        'Split whose utterances are used for distillation without their labels, e.g. "train[50%:]" with train_split '
        '"train[:50%]"; empty: none.',
    ] = ""
    unlabelled_name: Annotated[str, "Corpus of unlabelled_split; empty: the same corpus."] = ""
    ratings: Annotated[
        str,
        "CSV file with the number of raters per value of the rating scale, by utterance id, in place of the histograms "
        "of the corpus; columns: emojax/data/ratings.py. Empty: those of the corpus, if it has any.",
    ] = ""

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

    @property
    def has_validation(self) -> bool:
        """Whether checkpoints are selected on a split."""
        return self.validation_split != NO_SPLIT

    @property
    def evaluated_splits(self) -> tuple[str, ...]:
        """Validation and test splits."""
        return tuple(split for split in (self.validation_split, *self.test_splits) if split != NO_SPLIT)

    @property
    def tested_splits(self) -> tuple[str, ...]:
        """Test splits."""
        return tuple(split for split in self.test_splits if split != NO_SPLIT)

    def with_splits(self, default: SplitAssignment | None, folds: tuple[SplitAssignment, ...]) -> "CorpusConfig":
        """Fills in empty splits with those of the corpus, or of the chosen fold.

        Args:
          default: default splits of the corpus.
          folds: splits of each cross-validation fold.

        Raises:
          ConfigError: a split is empty and the corpus has no default, the corpus has no such fold, or the training
            split overlaps a validation or test split.
        """
        if self.fold > len(folds):
            raise ConfigError(f"corpus.fold must be <= {len(folds)} for {self.name}, got {self.fold}")
        if self.train_split and self.validation_split and self.test_splits:
            return self
        assignment = folds[self.fold - 1] if self.fold else default
        if assignment is None:
            raise ConfigError(
                f"corpus.train_split: {self.name} has no default splits; "
                "set train_split, validation_split and test_splits, or cross-validate with --folds"
            )
        return dataclasses.replace(
            self,
            train_split=self.train_split or assignment.train,
            validation_split=self.validation_split or assignment.validation,
            test_splits=self.test_splits or assignment.test,
        )


def _share_utterances(part: str, other: str) -> bool:
    """Whether two splits certainly overlap; different parts of one split are assumed disjoint."""
    whole = "[" not in part or "[" not in other
    return part == other or (whole and part.partition("[")[0] == other.partition("[")[0])


@settings
class OptimizerConfig:
    """AdamW, its schedule and parameter averaging."""

    learning_rate: Annotated[float, Gt(0), "Peak learning rate of AdamW."] = 1e-3
    encoder_learning_rate: Annotated[float, Ge(0), "Peak learning rate of encoders that are trained."] = 2e-5
    layer_decay: Annotated[
        float, Gt(0), Le(1), "Factor between the learning rates of an encoder layer and the one below; 1: equal rates."
    ] = 1.0
    schedule: Annotated[
        Literal["constant", "cosine"], '"cosine" decays to 0 at the last step; both follow the warm-up.'
    ] = "constant"
    warmup_steps: Annotated[int, Ge(0), Le(10**9), "Steps of linear warm-up."] = 100
    weight_decay: Annotated[float, Ge(0), Le(100), "Decoupled weight decay of matrices; not applied to vectors."] = 0.0
    clip_norm: Annotated[float, Ge(0), "Global norm that gradients are clipped to; 0: no clipping."] = 1.0
    ema_decay: Annotated[
        float,
        Ge(0),
        Lt(1),
        "Decay of the exponential moving average of parameters, which is evaluated and saved; 0: no average.",
    ] = 0.0


@settings
class TrainingConfig:
    """Length of training; intervals of validation, checkpoints and logging."""

    epochs: Annotated[
        int,
        Ge(0),
        Le(10**6),
        "Passes over the training split; 0: by the number of its utterances (`emojax/training/defaults.py`).",
    ] = 50
    evaluate_every_epochs: Annotated[
        int,
        Ge(0),
        Le(10**6),
        "Passes between validations; each saves a checkpoint, and the best one by evaluation.score is kept. 0: by the "
        "number of utterances.",
    ] = 1
    checkpoint_every_steps: Annotated[
        int, Ge(0), Le(10**9), "Steps between additional checkpoints, of which the latest is kept; 0: none."
    ] = 1000
    linear_heads: Annotated[
        bool,
        "Whether output heads start at ridge regression (attributes) and logistic regression (categories) from the "
        "initial embedding to the training labels, tuned by folds of the training speakers; for models of one modality "
        "whose embedding is pooled input (network.embedding_size 0).",
    ] = False
    log_every_steps: Annotated[int, Ge(1), Le(10**9), "Steps between records of metrics.jsonl."] = 10
    patience: Annotated[
        int, Ge(0), Le(10**6), "Validations without a better score after which training stops; 0: never."
    ] = 10
    micro_batches: Annotated[
        int,
        Ge(1),
        Le(10**6),
        "Number of micro-batches that each batch is computed in to save memory; divides the batch size. Losses and "
        "gradients remain those of the whole batch, at the cost of one more forward pass.",
    ] = 1
    profile_steps: Annotated[
        int,
        Ge(0),
        Le(10**4),
        "Steps traced for TensorBoard or XProf into WORKDIR/profile, starting at the sixth; 0: none.",
    ] = 0
    checkpoint_dir: Annotated[
        str, "Folder of the checkpoints, e.g. on a bucket (gs://BUCKET/FOLDER); empty: WORKDIR/checkpoints."
    ] = ""
    checkpoint_digests: Annotated[
        bool,
        "Whether to save SHA-256 digests with checkpoints and compare them on reading (2 s per GB); not on buckets.",
    ] = True


@settings
class EvaluationConfig:
    """Evaluation: score, windows and confidence intervals."""

    score: Annotated[
        Literal["auto", "ccc", "uar"],
        'Validation score that ranks checkpoints: "ccc", the mean CCC of the attributes whose validation labels '
        'vary; "uar"; "auto": CCC if it is defined, else UAR.',
    ] = "auto"
    window_seconds: Annotated[
        float,
        Ge(0),
        Le(3600),
        "Length (s) of the windows that utterances are divided into in validation, evaluation and `predict`; "
        "predictions are averaged, weighted by window length, and a last window shorter than a quarter is skipped. 0: "
        "whole utterances, except that those of more than 40 s with a speech encoder (Whisper: 30 s), whose attention "
        "needs memory quadratic in the length, and of more than 10 minutes with log-mel features alone are divided "
        "into as few equal windows as possible. Stored features are not divided.",
    ] = 0.0
    linear_baselines: Annotated[
        bool,
        "Whether training also fits ridge regression (attributes) and logistic regression (categories) on statistics "
        "of hidden states and of log-mel energies, whose scores are reported beside the model's.",
    ] = False
    bootstrap_resamples: Annotated[int, Ge(1), Le(10**6), "Resamples of the bootstrap confidence intervals."] = 1000


@settings
class TeacherConfig:
    """Teacher, or ensemble of teachers, for distillation."""

    workdir: Annotated[
        str,
        "Workdir of the teacher, which runs in every step, or comma-separated workdirs whose outputs are averaged; "
        "empty: none.",
    ] = ""
    weights: Annotated[
        tuple[Annotated[float, Gt(0)], ...], "Weights of several teachers in the average; (): equal."
    ] = ()
    cache: Annotated[
        str,
        "Instead of workdir: folder of precomputed teacher outputs, written by `--mode=extract "
        "--config=configs/extract_teacher.py`; comma-separated, one per corpus (see corpus.unlabelled_name).",
    ] = ""
    dtype: Annotated[Literal["float32", "bfloat16"], "Dtype of the teacher's matrix products."] = "float32"
    transcripts: Annotated[
        str,
        "Folders of transcripts that `--mode=transcribe` wrote, comma-separated, one per corpus, for teachers with a "
        "lexical modality; a student's must be the same. Empty: those of the student, else the corpus's own.",
    ] = ""
    states: Annotated[
        str,
        "Folder of hidden states of the teacher's speech encoder, written by `--mode=extract` with every frame of each "
        "layer of distillation.hidden_layers; comma-separated, one per corpus. Empty: computed in every step by the "
        "first teacher.workdir with an acoustic encoder.",
    ] = ""

    def __post_init__(self):
        """Checks rules between fields.

        Raises:
          ConfigError: naming the field and what is allowed.
        """
        if self.workdir and self.cache:
            raise ConfigError("teacher.cache must be empty when teacher.workdir is given")
        if self.transcripts and not self.workdir:
            raise ConfigError(f"teacher.transcripts must be '' without teacher.workdir, got {self.transcripts!r}")
        if self.weights and len(self.weights) != len(self.workdirs):
            raise ConfigError(
                f"teacher.weights must have one number per teacher.workdir ({len(self.workdirs)}) or be (), "
                f"got {self.weights}"
            )

    @property
    def workdirs(self) -> tuple[str, ...]:
        """Workdirs of the teachers."""
        return _comma_separated(self.workdir)

    @property
    def caches(self) -> tuple[str, ...]:
        """Folders of precomputed teacher outputs, one per corpus."""
        return _comma_separated(self.cache)

    @property
    def state_stores(self) -> tuple[str, ...]:
        """Folders of hidden states, one per corpus."""
        return _comma_separated(self.states)

    @property
    def has_outputs(self) -> bool:
        """Whether the teacher has attributes, categories and an embedding."""
        return bool(self.workdirs or self.caches)

    @property
    def given(self) -> bool:
        """Whether a teacher is configured."""
        return self.has_outputs or bool(self.state_stores)


def _comma_separated(text: str) -> tuple[str, ...]:
    return tuple(part.strip() for part in text.split(",") if part.strip())
