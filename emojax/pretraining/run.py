"""Pre-trains a workdir: the one place where its config becomes objects."""

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
from emojax.encoders.registry import family_of
from emojax.models import count_parameters, parameter_table
from emojax.parallel import is_first, make_mesh, placed, replicated, state_sharding, to_device, wait_for_all
from emojax.pretraining.config import PretrainConfig
from emojax.pretraining.model import Network, make_network
from emojax.pretraining.step import jitted_step, objective_sums, validate
from emojax.pretraining.units import UnitFeatures, fit_centroids, num_valid_frames
from emojax.reporting import write_learning_curves
from emojax.training import Outcome, TrainState, make_optimizer, train, write_summary
from emojax.types import SAMPLE_RATE
from emojax.workdir import (
    CHECKPOINTS,
    Checkpoints,
    abstract_like,
    check_inside,
    check_same_config,
    holds,
    own_checkpoint_directory,
    write_config,
)

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
    wait_for_all(f"{workdir} was looked at")
    write_config(workdir, config)
    saved = own_checkpoint_directory(workdir, config.training.checkpoint_dir)
    if not config.training.checkpoint_dir:
        check_inside(workdir, workdir / CHECKPOINTS)
    check_inside(workdir, workdir / ENCODER)
    with Checkpoints(saved, writing=True, digests=config.training.checkpoint_digests) as checkpoints:
        centroids = np.zeros((config.units.clusters, features.size), np.float32)
        if checkpoints.latest_step is None:  # a checkpoint holds them
            units = config.units
            centroids = fit_centroids(features, unit_params, stream, units.clusters, units.fit_frames, config.seed)
        optimizer = make_optimizer(config.optimizer, stream.num_batches)
        state = _init_train_state(config, network, optimizer, centroids, unit_params, mesh)
        print(parameter_table(state.params, state.frozen), flush=True)
        objective = functools.partial(objective_sums, network, features, config)
        step = jitted_step(config, objective, optimizer, state)
        held_out = streams(validation, index=read_index(corpus, validation), training=False)
        score = functools.partial(validate, jax.jit(functools.partial(objective, train=False)), held_out)
        outcome = train(state, step, stream, score, checkpoints, config.training, workdir)
        if outcome.interrupted_by is None:
            model = abstract_like(state.saved, jax.tree.map(lambda leaf: leaf.sharding, state.saved))
            best = checkpoints.restore(outcome.best_step, {"model": model})["model"]
            if is_first():
                save_encoder(network.encoder(best["params"]["encoder"]), workdir / ENCODER)
    write_summary(workdir, outcome, count_parameters(state.params))
    if is_first():
        write_learning_curves(workdir)
    return outcome


def _network(config: PretrainConfig, mesh: Mesh) -> Network:
    settings = config.encoder
    options = ComputeOptions(jnp.dtype(settings.dtype), settings.remat)
    start = load_encoder(settings.checkpoint, options, place=placed(mesh)) if settings.checkpoint else None
    return make_network(config, options, start)


def _unit_features(config: PretrainConfig, mesh: Mesh) -> tuple[UnitFeatures, Any]:
    units = config.units
    if not units.checkpoint:
        return UnitFeatures(centred=units.centred), {}
    encoder = load_encoder(units.checkpoint, ComputeOptions(jnp.dtype(config.encoder.dtype)), place=placed(mesh))
    (layer,) = resolve_layers((units.layer,), encoder.num_layers, "config.units.layer")
    return UnitFeatures.of(encoder, layer, units.centred), encoder.params


def _init_train_state(
    config: PretrainConfig,
    network: Network,
    optimizer: optax.GradientTransformation,
    centroids: np.ndarray,
    unit_params: Any,
    mesh: Mesh,
) -> TrainState:
    def initialise() -> Any:
        key = jax.random.key(config.seed)
        clip, length = jnp.zeros((1, SAMPLE_RATE)), jnp.full(1, SAMPLE_RATE)
        masked = jnp.zeros((1, int(num_valid_frames(np.array(SAMPLE_RATE)))), bool)
        return network.predictor.init(key, clip, length, masked, train=False)["params"]

    layout = functools.partial(
        state_sharding, mesh=mesh, axes=axes_by_path({"encoder": family_of(network.published).axes})
    )
    params = jax.jit(initialise, out_shardings=layout(jax.eval_shape(initialise)))()
    if network.start is not None:
        params = {**params, "encoder": {**params["encoder"], **network.start}}
    trained = {"model": params, "objective": {}}
    shardings = layout(jax.eval_shape(optimizer.init, trained))
    return TrainState(
        step=to_device(np.int32(0), replicated(mesh)),
        params=params,
        frozen={"unit_encoder": unit_params},
        objective={},
        statistics={"centroids": to_device(centroids, replicated(mesh))},
        opt_state=jax.jit(optimizer.init, out_shardings=shardings)(trained),
        averaged=None,
    )
