"""Trains a workdir from a config, from the first check to the summary."""

import time
from pathlib import Path

import jax

from emojax.config import ExperimentConfig, TrainingConfig
from emojax.data import read_index
from emojax.models import count_parameters, parameter_table
from emojax.parallel import COMPILATIONS, is_first_process, make_mesh, sync_processes
from emojax.reporting import write_learning_curves
from emojax.teachers import calibrate
from emojax.training.data import (
    describe_stream,
    initial_embeddings,
    make_validation,
    open_data,
    student_inputs,
    teacher_splits,
    training_stream,
)
from emojax.training.experiment import build_experiment, check_micro_batches
from emojax.training.initialisation import check_source, init_from_workdir, write_transfer
from emojax.training.labels import check_labels
from emojax.training.linear_heads import start_heads_at_regression
from emojax.training.loop import Outcome, stopped_before_training, train
from emojax.training.optimizer import make_optimizer
from emojax.training.statistics import fill_statistics
from emojax.training.stores import make_stores
from emojax.workdir import (
    CHECKPOINTS,
    CONFIG,
    SUMMARY,
    Checkpoints,
    check_inside,
    check_same_config,
    check_same_corpus,
    holds,
    keep_encoders,
    own_checkpoint_directory,
    write_config,
    write_corpus_metadata,
    write_json,
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
    data = open_data(config)
    config = data.config
    check_same_config(config, workdir)
    if config.model.init_from and not (workdir / CONFIG).exists():  # a run that continues may do without it
        check_source(config)
    check_labels(config, data.corpus, data.training, data.validation)
    for split in config.corpus.tested_splits:  # found missing now, not after hours of training
        read_index(data.corpus, split)
    mesh = make_mesh(config.mesh)
    check_micro_batches(config, mesh)
    sync_processes(f"{workdir} was looked at")

    write_config(workdir, config)
    keep_encoders(workdir, config.model)
    interrupted_by = make_stores(config, data.corpus, workdir)
    if interrupted_by is not None:
        return stopped_before_training(interrupted_by)
    inputs = student_inputs(data, workdir)
    student = inputs[config.corpus.train_split]
    experiment = build_experiment(config, data.metadata, workdir, mesh, teacher_splits(data, student))
    stream = training_stream(data, experiment, student)
    print(describe_stream(stream, config.data.bucket_seconds), flush=True)
    check_same_corpus(workdir, experiment.metadata)
    write_corpus_metadata(workdir, experiment.metadata)

    with open_checkpoints(workdir, config.training) as checkpoints:
        optimizer = make_optimizer(config.optimizer, stream.num_batches, config.model.encoder_modalities)
        state = experiment.init_state(optimizer)
        if experiment.teacher:
            calibration = calibrate(experiment.teacher.outputs, state.teacher.members, stream, config.distillation)
            state = state.replace(teacher=state.teacher.replace(calibration=calibration))  # type: ignore[attr-defined]
        if checkpoints.latest_step is None:  # a checkpoint holds them
            statistics = fill_statistics(experiment.model, state.eval_variables, stream, experiment.online)
            state = state.replace(statistics=statistics)  # type: ignore[attr-defined]
            if config.training.linear_heads and not config.model.init_from:
                embeddings = initial_embeddings(data, experiment, state, student)
                info, layers = data.corpus.info, experiment.model.num_concatenated_layers
                state = start_heads_at_regression(
                    state, embeddings, layers, data.training, info.scale, len(info.categories)
                )
            if config.model.init_from:
                state, transfer = init_from_workdir(state, config, experiment.metadata, mesh)
                print(transfer, flush=True)
                write_transfer(workdir, transfer)
        print(parameter_table(state.params, state.frozen), flush=True)
        parameters = count_parameters((state.params, state.frozen))
        step = experiment.train_step(optimizer, state)
        validate = make_validation(data, experiment, inputs)
        outcome = train(state, step, stream, validate, checkpoints, config.training, workdir)
    summarise_training(workdir, outcome, parameters)
    return outcome


def open_checkpoints(workdir: Path, config: TrainingConfig) -> Checkpoints:
    """Opens the checkpoints of a workdir for writing.

    Raises:
      CheckpointError: they lie outside the workdir, through a link, and `config.checkpoint_dir` does not say so.
    """
    directory = own_checkpoint_directory(workdir, config.checkpoint_dir)
    if not config.checkpoint_dir:
        check_inside(workdir, workdir / CHECKPOINTS)
    return Checkpoints(directory, writing=True, digests=config.checkpoint_digests)


def summarise_training(workdir: Path, outcome: Outcome, parameters: int) -> None:
    """Writes `summary.json` and learning curves.

    Args:
      workdir: folder of the run.
      outcome: how training ended.
      parameters: number of parameters, frozen ones included.
    """
    summary = {
        "parameters": parameters,
        "steps": outcome.steps,
        "epochs": outcome.epochs,
        "seconds": round(outcome.seconds, 3),
        "best_step": outcome.best_step,
        "best_score": outcome.best_score,
        "best_of_each": outcome.best_of_each,
        "stop_reason": outcome.stop_reason,
        "compiled_programs": COMPILATIONS.programs,
        "compile_seconds": round(COMPILATIONS.seconds, 3),
        "devices": [str(device) for device in jax.devices()],
        "finished_at": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
    }
    write_json(workdir / SUMMARY, summary)
    if is_first_process():
        write_learning_curves(workdir)
