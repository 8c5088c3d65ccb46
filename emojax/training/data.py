"""Data of a run: splits of its corpus, batches for training and validation."""

import dataclasses
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float

from emojax.config import ExperimentConfig
from emojax.data import (
    BatchInputs,
    BatchStream,
    Corpus,
    SplitIndex,
    Unlabelled,
    choose_categories,
    open_corpus,
    read_index,
    split_names,
    with_rating_table,
    with_speaker_splits,
)
from emojax.data.plan import FILLER
from emojax.data.transcripts import find_transcripts
from emojax.errors import ConfigError
from emojax.evaluation import PredictStep, match_categories, predict_split, validation_metrics, windows_of
from emojax.parallel import to_host
from emojax.teachers import TeacherSplit
from emojax.training.defaults import fill_epochs
from emojax.training.experiment import Experiment, online_modalities
from emojax.training.state import TrainState
from emojax.types import SAMPLE_RATE
from emojax.workdir import CorpusMetadata, batch_inputs, corpus_metadata


@dataclasses.dataclass(frozen=True, eq=False)
class TrainingData:
    """Corpus and splits of a run.

    Attributes:
      config: config of the run, with its splits and bucket lengths filled in.
      corpus: with the categories of the config.
      training: index of `config.corpus.train_split`.
      validation: index of `config.corpus.validation_split`; None if there is none.
    """

    config: ExperimentConfig
    corpus: Corpus
    training: SplitIndex
    validation: SplitIndex | None

    @property
    def metadata(self) -> CorpusMetadata:
        """Metadata and label statistics of the training split."""
        return corpus_metadata(self.corpus.info, self.training)


def open_data(config: ExperimentConfig) -> TrainingData:
    """Opens corpus and splits.

    Raises:
      EmojaxError: a corpus, split or category is absent.
    """
    corpus = open_corpus(config.corpus.name, config.corpus.data_dir)
    try:
        config = dataclasses.replace(config, corpus=config.corpus.with_splits(corpus.split_assignment, corpus.folds))
    except ConfigError as error:
        raise ConfigError(f"config.{error}") from error
    corpus = with_rating_table(corpus, config.corpus.ratings)
    corpus = with_speaker_splits(choose_categories(corpus, config.corpus.categories), config.corpus.speakers)
    training = _with_transcripts(config, corpus, read_index(corpus, config.corpus.train_split))
    validation = read_index(corpus, config.corpus.validation_split) if config.corpus.has_validation else None
    config = fill_epochs(config, len(training))
    config = dataclasses.replace(config, data=config.data.with_buckets(training.num_samples))
    return TrainingData(config, corpus, training, validation)


def _with_transcripts(config: ExperimentConfig, corpus: Corpus, training: SplitIndex) -> SplitIndex:
    """Replaces the digest of the transcripts in the training index by that of recognised ones, if they are inputs."""
    if "lexical" not in config.model.modalities:
        return training
    field, split = "config.model.lexical.transcripts", corpus.selected_from(config.corpus.train_split)
    transcripts = find_transcripts(config.model.lexical.transcripts, corpus.info.name, split, field)
    return transcripts.for_split(training).replaced(training) if transcripts else training


def student_inputs(data: TrainingData, workdir: Path) -> dict[str, BatchInputs]:
    """Inputs of the model by split, test splits included: what is missing of them is found before training.

    Raises:
      ConfigError: the waveform is augmented, and no modality reads it.
      CheckpointError: a feature store or the transcripts of a split are absent, unfinished, or do not fit config or
        corpus.
    """
    config, corpus = data.config, data.corpus
    splits = (config.corpus.train_split, *config.corpus.evaluated_splits)
    online = online_modalities(config)
    inputs = {
        split: batch_inputs(
            workdir, config.model, corpus.info.name, corpus.selected_from(split), config.data.max_tokens, online
        )
        for split in splits
    }
    for split in splits:
        inputs[split].for_split(read_index(corpus, split))
    if config.objective.uses_ratings:
        split = config.corpus.train_split
        inputs[split] = dataclasses.replace(inputs[split], ratings=True)
    if config.augment.on and not inputs[config.corpus.train_split].audio:
        raise ConfigError("config.augment: every probability must be 0 where no modality reads the waveform")
    return inputs


def training_stream(data: TrainingData, experiment: Experiment, student: BatchInputs) -> BatchStream:
    """Batches of the training split, and of unlabelled utterances.

    Args:
      data: corpus and splits.
      experiment: model and teacher.
      student: inputs of the model, from `student_inputs`.

    Raises:
      EmojaxError: inputs of the teacher are absent, the batch does not divide over the mesh, or a bucket is longer than
        the speech encoder's longest input.
    """
    config, corpus, split = data.config, data.corpus, data.config.corpus.train_split
    teacher = experiment.teacher
    limits = {
        "the speech encoder's": experiment.model.max_samples if "acoustic" in experiment.online else None,
        "the teacher's": teacher.max_samples if teacher else None,
    }
    for whose, limit in limits.items():
        if limit is not None and max(config.data.buckets) > limit:
            raise ConfigError(
                f"config.data.bucket_seconds, max_seconds must be <= {limit / SAMPLE_RATE:g}, {whose} longest input, "
                f"got {max(config.data.bucket_seconds):g}; longer utterances are then cropped in training"
            )
    return BatchStream(
        corpus,
        split,
        data.training,
        config.data,
        experiment.mesh,
        training=True,
        seed=config.seed,
        epochs=config.training.epochs,
        inputs=teacher.batch_inputs(student, corpus.info.name, corpus.selected_from(split)) if teacher else student,
        unlabelled=_unlabelled(data, experiment, student),
        min_samples=experiment.min_samples,
    )


def describe_stream(stream: BatchStream, seconds: tuple[float, ...]) -> str:
    """Lines about utterances that are skipped, lengths of batches, and padding."""
    lengths = ", ".join(f"{length:g}" for length in seconds)
    padding = f"batches of {lengths} s, {100 * stream.plan.padding():.0f} % of them padding"
    return "\n".join([*stream.skipped, padding])


def make_validation(
    data: TrainingData, experiment: Experiment, student: Mapping[str, BatchInputs]
) -> Callable[[dict[str, Any]], dict[str, float]] | None:
    """A function from variables of the model to its scores on the validation split, of which `score` ranks checkpoints.

    Args:
      data: corpus and splits; None is returned if there is no validation split.
      experiment: the model.
      student: inputs of the model by split, from `student_inputs`.
    """
    index = data.validation
    if index is None:
        return None
    config, corpus, split = data.config, data.corpus, data.config.corpus.validation_split
    model, mesh, outputs = experiment.model, experiment.mesh, experiment.outputs
    predict = PredictStep(model, mesh, windows_of(config, model, experiment.online))
    match = match_categories(corpus.info.categories, corpus.info.categories)

    stream = BatchStream(
        corpus,
        split,
        index,
        config.data,
        mesh,
        training=False,
        inputs=student[split],
        min_samples=model.min_samples,
    )
    start = stream.get_state()

    def validate(variables: dict[str, Any]) -> dict[str, float]:
        stream.set_state(start)
        predictions = predict_split(predict, variables, stream, index, corpus.info, split, outputs, match)
        return validation_metrics(predictions, config.evaluation.score)

    return validate


def initial_embeddings(
    data: TrainingData, experiment: Experiment, state: TrainState, student: BatchInputs
) -> Float[np.ndarray, "N E"]:
    """Embeddings of the training utterances at the initial parameters; 0 for those that are too short.

    Args:
      data: corpus and splits.
      experiment: the model.
      state: initial state, with its statistics.
      student: inputs of the model, from `student_inputs`.
    """
    config, model, mesh = data.config, experiment.model, experiment.mesh
    predict = PredictStep(model, mesh, windows_of(config, model, experiment.online))
    stream = BatchStream(
        data.corpus,
        config.corpus.train_split,
        data.training,
        config.data,
        mesh,
        training=False,
        inputs=student,
        min_samples=model.min_samples,
    )
    embeddings: np.ndarray | None = None
    for batch in stream:
        rows, found = to_host(batch.index), predict(state.eval_variables, batch).embedding
        if embeddings is None:
            embeddings = np.zeros((len(data.training), found.shape[1]))
        embeddings[rows[rows != FILLER]] = found[rows != FILLER]
    assert embeddings is not None  # a stream without batches is an error
    return embeddings


def teacher_splits(data: TrainingData, student: BatchInputs) -> list[TeacherSplit]:
    """Splits of the training batches that a teacher is applied to; none without distillation.

    Args:
      data: corpus and splits.
      student: inputs of the model, from `student_inputs`.

    Raises:
      EmojaxError: the corpus of unlabelled utterances cannot be read.
    """
    config, corpus = data.config, data.corpus
    if not config.distillation.on:
        return []
    train, split, max_tokens = config.corpus.train_split, config.corpus.unlabelled_split, config.data.max_tokens
    splits = [TeacherSplit(corpus.info.name, corpus.selected_from(train), data.training, student, max_tokens)]
    if split:
        other = _unlabelled_corpus(data)
        inputs = _unlabelled_inputs(data, other, student)
        splits.append(TeacherSplit(other.info.name, split, read_index(other, split), inputs, max_tokens))
    return splits


def _unlabelled(data: TrainingData, experiment: Experiment, student: BatchInputs) -> Unlabelled | None:
    """Utterances that are used without their labels."""
    config, corpus, teacher = data.config, data.corpus, experiment.teacher
    split = config.corpus.unlabelled_split
    if not split or teacher is None:
        return None
    other = _unlabelled_corpus(data)
    if other.info.name == corpus.info.name:
        evaluated = map(corpus.selected_from, config.corpus.evaluated_splits)
        evaluated_parts = {part for each in evaluated for part in split_names(each)}
        for part in split_names(split):
            if part in evaluated_parts:
                raise ConfigError(
                    f"config.corpus.unlabelled_split must not be a validation or test split, got {part!r}"
                )
    student = _unlabelled_inputs(data, other, student)
    if student.stored:
        modality = next(iter(student.stored))
        raise ConfigError(f"config.model.{modality}.store must be '' with corpus.unlabelled_split")
    rows = round(config.data.unlabelled_share * config.data.batch_size)
    inputs = teacher.batch_inputs(student, other.info.name, split)
    return Unlabelled(other, split, read_index(other, split), inputs, rows)


def _unlabelled_corpus(data: TrainingData) -> Corpus:
    name = data.config.corpus.unlabelled_name
    return open_corpus(name, data.config.corpus.data_dir) if name else data.corpus


def _unlabelled_inputs(data: TrainingData, other: Corpus, student: BatchInputs) -> BatchInputs:
    """Inputs of the model on the corpus of unlabelled utterances: with its own transcripts."""
    config = data.config
    if "lexical" not in config.model.modalities:
        return student
    field, split = "config.model.lexical.transcripts", config.corpus.unlabelled_split
    transcripts = find_transcripts(config.model.lexical.transcripts, other.info.name, split, field)
    return dataclasses.replace(student, transcripts=transcripts)
