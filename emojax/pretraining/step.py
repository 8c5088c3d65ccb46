"""The step of a pre-training and its validation."""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

from emojax.audio import Sounds, WaveformAugmentConfig, augment_waveform, load_sounds
from emojax.data import BatchStream
from emojax.parallel import to_device, to_host
from emojax.pretraining.config import PretrainConfig
from emojax.pretraining.model import Network, PredictionSums, choose_masked, prediction_sums
from emojax.pretraining.units import UnitFeatures, assign_units, num_valid_frames, to_float
from emojax.training import TrainState, jit_step
from emojax.types import Batch


def objective_sums(
    network: Network, features: UnitFeatures, config: PretrainConfig, params: Any, constants: Any, batch: Batch,
    waveform: jax.Array, key: jax.Array, *, train: bool,
) -> PredictionSums:  # fmt: skip
    """Sums over the frames of the global batch.

    Args:
      network: encoder with its prediction head.
      features: features that are clustered into units.
      config: masks and weights.
      params: trained parameters.
      constants: `unit_encoder` and `centroids`.
      batch: units are computed from its waveforms.
      waveform: (B, S) input of the encoder, e.g. the same with noise.
      key: PRNG key of masks and dropout.
      train: whether dropout is on.
    """
    targets = jax.lax.stop_gradient(features(constants["unit_encoder"], batch))
    units = assign_units(targets, constants["centroids"])
    mask_key, dropout_key = jax.random.split(key)
    num_valid = num_valid_frames(batch.num_samples)
    masked = choose_masked(mask_key, num_valid, units.shape[1], config.prediction)
    inputs = network.preprocess(to_float(waveform), batch.num_samples)
    logits: Any = network.predictor.apply(
        {"params": params}, inputs, batch.num_samples, masked, train=train, rngs={"dropout": dropout_key}
    )
    return prediction_sums(logits, units, masked, jnp.arange(units.shape[1]) < num_valid[:, None])


def make_pretrain_step(
    config: PretrainConfig, objective: Any, optimizer: optax.GradientTransformation, state: TrainState
) -> Any:
    """The jitted training step of masked prediction, from state and batch to a new state and metrics."""
    visible = config.prediction.visible_weight
    sounds = jax.tree.map(
        lambda values: to_device(values, state.step.sharding), load_sounds(config.augment, config.seed)
    )

    def step(state: TrainState, batch: Batch, sounds: Sounds) -> tuple[TrainState, dict[str, jax.Array]]:
        key = jax.random.fold_in(jax.random.key(config.seed), state.step)
        batch, waveform = _augmented(batch, jax.random.fold_in(key, 2), sounds, config.augment)
        constants = {**state.frozen, **state.statistics}

        def loss(trained: Any) -> tuple[jax.Array, dict[str, jax.Array]]:
            losses, accuracies = objective(trained["model"], constants, batch, waveform, key, train=True).means
            loss = (1 - visible) * losses[0] + visible * losses[1]
            return loss, {"loss": loss, "loss/hidden": losses[0], "accuracy/hidden": accuracies[0]}

        gradients, metrics = jax.grad(loss, has_aux=True)(state.trained)
        updates, opt_state = optimizer.update(gradients, state.opt_state, state.trained)
        trained: Any = optax.apply_updates(state.trained, updates)
        metrics = metrics | {"gradient_norm": optax.global_norm(gradients)}
        return state.replace(step=state.step + 1, params=trained["model"], opt_state=opt_state), metrics  # type: ignore[attr-defined]

    jitted = jit_step(step, state)
    return lambda state, batch: jitted(state, batch, sounds)


def _augmented(batch: Batch, key: jax.Array, sounds: Sounds, config: WaveformAugmentConfig) -> tuple[Batch, jax.Array]:
    """The batch at another speed, and its waveforms with room, noise and gain."""
    if not config.on:
        return batch, batch.waveform
    same_speed = dataclasses.replace(config.speed, probability=0.0)
    speed_alone = dataclasses.replace(
        config,
        reverberation=dataclasses.replace(config.reverberation, probability=0.0),
        noise=dataclasses.replace(config.noise, probability=0.0),
        gain=dataclasses.replace(config.gain, probability=0.0),
    )
    keys = jax.random.split(key)
    waveform, num_samples = augment_waveform(keys[0], to_float(batch.waveform), batch.num_samples, sounds, speed_alone)
    rest = dataclasses.replace(config, speed=same_speed)
    augmented, _ = augment_waveform(keys[1], waveform, num_samples, sounds, rest)
    return batch.replace(waveform=waveform, num_samples=num_samples), augmented  # type: ignore[attr-defined]


def validate(sums_of: Any, stream: BatchStream, variables: dict[str, Any]) -> dict[str, float]:
    """Cross-entropy and accuracy on masked frames of the validation split, with the same masks every time."""
    params = {name: value for name, value in variables["params"].items() if name != "unit_encoder"}
    constants = {"unit_encoder": variables["params"]["unit_encoder"], **variables["statistics"]}
    total = jax.tree.map(np.zeros_like, PredictionSums(*np.zeros((3, 2))))
    for number in range(stream.num_batches):
        batch = stream.load(number)
        sums = to_host(sums_of(params, constants, batch, batch.waveform, jax.random.key(number)))
        total = jax.tree.map(np.add, total, sums)
    losses, accuracies = total.means
    return {"score": float(accuracies[0]), "accuracy": float(accuracies[0]), "loss": float(losses[0])}
