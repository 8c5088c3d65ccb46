"""Pre-trains a workdir from a config, from the first check to the encoder that is written."""

import dataclasses
import functools
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.sharding import Mesh

from emojax.data import BatchStream, open_corpus, read_index
from emojax.encoders import ComputeOptions, axes_by_path, load_encoder, resolve_layers, save_encoder
from emojax.encoders.families import family_of
from emojax.models import count_parameters, parameter_table
from emojax.parallel import device_put_fn, is_first_process, make_mesh, replicated, sync_processes, to_device, with_mesh
from emojax.pretraining.config import PretrainConfig
from emojax.pretraining.model import Network, make_network
from emojax.pretraining.step import make_pretrain_step, objective_sums, validate
from emojax.pretraining.units import UnitFeatures, fit_centroids, num_valid_frames
from emojax.training import (
    Outcome,
    TrainState,
    init_train_state,
    make_optimizer,
    open_checkpoints,
    summarise_training,
    train,
)
from emojax.training.state import InitialVariables
from emojax.types import SAMPLE_RATE
from emojax.workdir import abstract_like, check_inside, check_same_config, holds, write_config

ENCODER = "encoder"
"""Folder of a workdir with the encoder that came out, as transformers reads it."""


@holds("workdir")
def pretrain_workdir(config: PretrainConfig, workdir: Path) -> Outcome:
    """Pre-trains, or continues, a workdir; writes its encoder when training is done.

    Raises:
      EmojaxError: one line saying what is wrong with config, corpus, workdir or training.
    """
    corpus = open_corpus(config.corpus.name, config.corpus.data_dir)
    config = dataclasses.replace(config, corpus=config.corpus.with_splits(corpus.split_assignment))
    training, validation = config.corpus.train_split, config.corpus.validation_split
    index = read_index(corpus, training)
    config = dataclasses.replace(config, data=config.data.with_buckets(index.num_samples))
    check_same_config(config, workdir)
    mesh = make_mesh(config.mesh)
    network = _network(config, mesh)
    features, unit_params = _unit_features(config, mesh)
    streams = functools.partial(BatchStream, corpus, config=config.data, mesh=mesh)
    stream = streams(training, index=index, training=True, seed=config.seed, epochs=config.training.epochs)
    sync_processes(f"{workdir} was looked at")
    write_config(workdir, config)
    check_inside(workdir, workdir / ENCODER)
    with open_checkpoints(workdir, config.training) as checkpoints:
        centroids = np.zeros((config.units.clusters, features.size), np.float32)
        if checkpoints.latest_step is None:  # a checkpoint holds them
            units = config.units
            centroids = fit_centroids(features, unit_params, stream, units.clusters, units.fit_frames, config.seed)
        optimizer = make_optimizer(config.optimizer, stream.num_batches)
        state = _init_state(config, network, optimizer, centroids, unit_params, mesh)
        print(parameter_table(state.params, state.frozen), flush=True)
        objective = functools.partial(objective_sums, network, features, config)
        step = make_pretrain_step(config, objective, optimizer, state)
        validation_stream = streams(validation, index=read_index(corpus, validation), training=False)
        sums_of = jax.jit(with_mesh(functools.partial(objective, train=False), mesh))
        score = functools.partial(validate, sums_of, validation_stream)
        outcome = train(state, step, stream, score, checkpoints, config.training, workdir)
        if outcome.interrupted_by is None:
            saved = abstract_like(state.saved, jax.tree.map(lambda leaf: leaf.sharding, state.saved))
            best = checkpoints.restore(outcome.best_step, {"model": saved})["model"]
            if is_first_process():
                save_encoder(network.encoder(best["params"]["encoder"]), workdir / ENCODER)
    summarise_training(workdir, outcome, count_parameters(state.params))
    return outcome


def _network(config: PretrainConfig, mesh: Mesh) -> Network:
    settings = config.encoder
    options = ComputeOptions(jnp.dtype(settings.dtype), settings.remat)
    start = load_encoder(settings.checkpoint, options, to_device=device_put_fn(mesh)) if settings.checkpoint else None
    return make_network(config, options, start)


def _unit_features(config: PretrainConfig, mesh: Mesh) -> tuple[UnitFeatures, Any]:
    units = config.units
    if not units.checkpoint:
        return UnitFeatures(centred=units.centred), {}
    encoder = load_encoder(
        units.checkpoint, ComputeOptions(jnp.dtype(config.encoder.dtype)), to_device=device_put_fn(mesh)
    )
    (layer,) = resolve_layers((units.layer,), encoder.num_layers, "config.units.layer")
    return UnitFeatures.of(encoder, layer, units.centred), encoder.params


def _init_state(
    config: PretrainConfig,
    network: Network,
    optimizer: optax.GradientTransformation,
    centroids: np.ndarray,
    unit_params: Any,
    mesh: Mesh,
) -> TrainState:
    def initialise() -> InitialVariables:
        key = jax.random.key(config.seed)
        clip, length = jnp.zeros((1, SAMPLE_RATE)), jnp.full(1, SAMPLE_RATE)
        masked = jnp.zeros((1, int(num_valid_frames(np.array(SAMPLE_RATE)))), bool)
        params = network.predictor.init(key, clip, length, masked, train=False)["params"]
        return {"params": params, "statistics": {}, "objective": {}}

    axes = axes_by_path({"encoder": family_of(network.published).axes})
    loaded = {} if network.start is None else {"encoder": network.start}
    state = init_train_state(initialise, optimizer, mesh, axes, loaded=loaded)
    statistics = {"centroids": to_device(centroids, replicated(mesh))}
    return state.replace(frozen={"unit_encoder": unit_params}, statistics=statistics)  # type: ignore[attr-defined]
