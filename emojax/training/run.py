"""Trains a workdir from a config: the one place where config becomes objects."""

import dataclasses
import functools
from pathlib import Path
from typing import Any

import jax
import numpy as np
import optax
from jax.sharding import Mesh

from emojax.audio import load_sounds
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
)
from emojax.errors import ConfigError
from emojax.evaluation import PredictStep, match_categories, predict_split, validation_metrics, windows_of
from emojax.losses import make_loss, objective_parameters, projection_parameters
from emojax.models import EmotionModel, count_parameters, parameter_table
from emojax.parallel import is_first, make_mesh, num_batch_shards, on_mesh, to_device, wait_for_all
from emojax.reporting import write_learning_curves
from emojax.training.labels import check_labels, fill_statistics
from emojax.training.loop import Outcome, StepFunction, train
from emojax.training.optimizer import make_optimizer
from emojax.training.state import TrainState, init_train_state
from emojax.training.step import make_train_step
from emojax.training.summary import write_summary
from emojax.training.teachers import Teacher, load_teacher, measure_teacher
from emojax.types import Batch
from emojax.workdir import (
    CHECKPOINTS,
    Checkpoints,
    CorpusMetadata,
    TrainedOutputs,
    batch_inputs,
    build_model,
    check_inside,
    check_same_config,
    check_same_corpus,
    corpus_metadata,
    example_batch,
    holds,
    keep_encoders,
    load_encoders,
    own_checkpoint_directory,
    stored_modalities,
    trained_outputs,
    write_config,
    write_corpus_metadata,
)


@holds("workdir")
def train_workdir(config: ExperimentConfig, workdir: Path) -> Outcome:
    """Trains, or continues, a workdir.

    Args:
      config: the whole config; of a workdir that exists, only fields that change no result may differ.
      workdir: folder of the run.

    Raises:
      EmojaxError: one line saying what is wrong with config, corpus, workdir or training.
    """
    corpus = open_corpus(config.corpus.name, config.corpus.data_dir)
    config = _with_splits(config, corpus)
    corpus = choose_categories(corpus, config.corpus.categories)
    splits = {name: read_index(corpus, name) for name in (config.corpus.train_split, config.corpus.validation_split)}
    training, validation = (splits[name] for name in (config.corpus.train_split, config.corpus.validation_split))
    config = dataclasses.replace(config, data=config.data.with_buckets(training.num_samples))
    check_same_config(config, workdir)
    check_labels(config, corpus, training, validation)
    for split in config.corpus.test_splits:  # found missing now, not after hours of training
        read_index(corpus, split)
    mesh = make_mesh(config.mesh)
    check_micro_batches(config, num_batch_shards(mesh))
    wait_for_all(f"{workdir} was looked at")
    write_config(workdir, config)
    keep_encoders(workdir, config.model)
    online = tuple(
        modality for modality in config.model.encoder_modalities if modality not in stored_modalities(config.model)
    )
    inputs = {
        split: batch_inputs(workdir, config.model, corpus.info.name, split, config.data.max_tokens, online)
        for split in (*splits, *config.corpus.test_splits)
    }
    if config.augment.on and not inputs[config.corpus.train_split].audio:
        raise ConfigError("config.augment: no modality hears the waveform; allowed: every probability 0")
    teacher = None
    if config.distillation.on:
        teacher = load_teacher(config.teacher, config.distillation, corpus.info.categories, mesh)
    metadata = corpus_metadata(corpus.info, training)
    encoders = load_encoders(workdir, config.model, mesh, online)
    model = build_model(config, metadata, encoders)
    own = inputs[config.corpus.train_split]
    stream = BatchStream(
        corpus,
        config.corpus.train_split,
        training,
        config.data,
        mesh,
        training=True,
        seed=config.seed,
        epochs=config.training.epochs,
        inputs=teacher.inputs(own, corpus.info.name, config.corpus.train_split) if teacher else own,
        unlabelled=_unlabelled(config, corpus, own, teacher),
        min_samples=max(model.min_samples, teacher.min_samples if teacher else 0),
    )
    for line in stream.left_out:
        print(line, flush=True)
    lengths = ", ".join(f"{seconds:g}" for seconds in config.data.bucket_seconds)
    print(f"batches of {lengths} s, {100 * stream.plan.padding():.0f} % of them padding", flush=True)
    check_same_corpus(workdir, metadata)
    write_corpus_metadata(workdir, metadata)
    saved = own_checkpoint_directory(workdir, config.training.checkpoint_dir)
    if not config.training.checkpoint_dir:
        check_inside(workdir, workdir / CHECKPOINTS)
    with Checkpoints(saved, writing=True, digests=config.training.checkpoint_digests) as checkpoints:
        optimizer = make_optimizer(config.optimizer, stream.num_batches, config.model.encoder_modalities)
        example = example_batch(config, model, online)
        state = init_train_state(
            model,
            optimizer,
            example,
            mesh,
            config.seed,
            averaging=config.optimizer.ema_decay > 0,
            encoders={modality: encoders[modality].params for modality in online},
            objective=objective_parameters_of(config, model, example, teacher, stream.load(0) if teacher else None),
        )
        if teacher:
            arrays = measure_teacher(teacher, stream, config.distillation)
            state = state.replace(teachers=arrays)  # type: ignore[attr-defined]
        if checkpoints.latest_step is None:
            state = state.replace(statistics=fill_statistics(model, state.statistics, stream))  # type: ignore[attr-defined]
        parameters = count_parameters((state.params, state.frozen))
        print(parameter_table(state.params, state.frozen), flush=True)
        step = jitted_step(config, metadata, model, optimizer, state, teacher)
        validate = functools.partial(
            _validate,
            config,
            corpus,
            validation,
            mesh,
            inputs[config.corpus.validation_split],
            PredictStep(model, mesh, windows_of(config, model, online)),
            model.min_samples,
            trained_outputs(config.objective, config.distillation, metadata),
        )
        outcome = train(state, step, stream, validate, checkpoints, config.training, workdir)
    write_summary(workdir, outcome, parameters)
    if is_first():
        write_learning_curves(workdir)
    return outcome


def _with_splits(config: ExperimentConfig, corpus: Corpus) -> ExperimentConfig:
    try:
        return dataclasses.replace(config, corpus=config.corpus.with_roles(corpus.roles, corpus.folds))
    except ConfigError as error:
        raise ConfigError(f"config.{error}") from error


def _unlabelled(
    config: ExperimentConfig, corpus: Corpus, own: BatchInputs, teacher: Teacher | None
) -> Unlabelled | None:
    """What is read without its labels."""
    name, split = config.corpus.unlabelled_name, config.corpus.unlabelled_split
    if not split or teacher is None:
        return None
    other = open_corpus(name, config.corpus.data_dir) if name else corpus
    if other.info.name == corpus.info.name:
        held_out = (config.corpus.validation_split, *config.corpus.test_splits)
        for part in split_names(split):
            if part in [name for held in held_out for name in split_names(held)]:
                raise ConfigError(f"config.corpus.unlabelled_split: {part!r} is also validated or tested on")
    if own.stored:
        modality = next(iter(own.stored))
        raise ConfigError(f"config.model.{modality}.store: is not allowed with corpus.unlabelled_split; allowed: ''")
    rows = round(config.data.unlabelled_share * config.data.batch_size)
    inputs = teacher.inputs(own, other.info.name, split)
    return Unlabelled(other, split, read_index(other, split), inputs, rows)


def check_micro_batches(config: ExperimentConfig, shards: int) -> None:
    """Stops a run whose batch does not divide over micro-batches and devices."""
    parts, rows = config.training.micro_batches, config.data.batch_size
    if rows % (parts * shards):
        raise ConfigError(
            f"config.training.micro_batches: {parts} is not allowed; data.batch_size {rows} must be a multiple of it "
            f"times the {shards} batch shards"
        )


def objective_parameters_of(
    config: ExperimentConfig, model: EmotionModel, example: Batch, teacher: Teacher | None, batch: Batch | None
) -> dict[str, Any]:
    """What the objective itself learns: task weights, the way from the student's embedding to the teacher's.

    Args:
      config: of the run.
      model: the student.
      example: a batch as the student alone needs it.
      teacher: its teacher.
      batch: a batch, or its shapes, with what the teacher needs.
    """
    own: dict[str, Any] = dict(objective_parameters(config.objective))
    if teacher is None:
        return own

    def embedding_size() -> Any:
        variables = model.init(jax.random.key(0), example, train=False)
        return model.apply(variables, example, train=False)

    student: Any = jax.eval_shape(embedding_size)
    taught = jax.eval_shape(teacher, teacher.arrays, batch)
    key = jax.random.fold_in(jax.random.key(config.seed), 1)
    sizes = student.embedding.shape[1], taught.embedding.shape[1]
    return own | projection_parameters(config.distillation, key, *sizes)


def jitted_step(
    config: ExperimentConfig,
    metadata: CorpusMetadata,
    model: EmotionModel,
    optimizer: optax.GradientTransformation,
    state: TrainState,
    teacher: Teacher | None = None,
) -> StepFunction:
    """`abstract_step` with the sounds it needs on the devices."""
    step = abstract_step(config, metadata, model, optimizer, state, teacher)
    if not config.augment.on:
        return step
    sounds = jax.tree.map(
        lambda values: to_device(values, state.step.sharding), load_sounds(config.augment, config.seed)
    )
    return lambda state, batch: step(state, batch, sounds)


def abstract_step(
    config: ExperimentConfig,
    metadata: CorpusMetadata,
    model: EmotionModel,
    optimizer: optax.GradientTransformation,
    state: TrainState,
    teacher: Teacher | None = None,
) -> Any:
    """The training step under `jax.jit`, for the state's layout; the old state's memory is reused.

    Only shapes and shardings of `state` are looked at. Where the waveform is changed, sounds are its third argument.
    """
    counts = np.bincount(metadata.emotion, minlength=len(metadata.info.categories))
    step = make_train_step(
        model,
        optimizer,
        make_loss(config.objective, config.distillation, counts),
        config.seed,
        config.optimizer.ema_decay,
        config.training.micro_batches,
        config.augment if config.augment.on else None,
        teacher,
    )
    shardings = jax.tree.map(lambda leaf: leaf.sharding, state)
    mesh: Mesh = state.step.sharding.mesh  # type: ignore[attr-defined]
    return jax.jit(on_mesh(step, mesh), donate_argnums=0, out_shardings=(shardings, None))


def _validate(
    config: ExperimentConfig,
    corpus: Corpus,
    index: SplitIndex,
    mesh: Mesh,
    inputs: BatchInputs,
    predict: PredictStep,
    min_samples: int,
    outputs: TrainedOutputs,
    variables: dict[str, Any],
) -> dict[str, float]:
    split = config.corpus.validation_split
    stream = BatchStream(
        corpus, split, index, config.data, mesh, training=False, inputs=inputs, min_samples=min_samples
    )
    match = match_categories(corpus.info.categories, corpus.info.categories)
    predictions = predict_split(predict, variables, stream, index, corpus.info, split, outputs, match)
    return validation_metrics(predictions, config.evaluation.score)
