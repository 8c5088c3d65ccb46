"""The step of a pre-training and its validation."""

from typing import Any

import jax
import jax.numpy as jnp
import optax

from emojax.data import BatchStream
from emojax.parallel import to_host
from emojax.pretraining.config import PretrainConfig
from emojax.pretraining.masked_prediction import choose_masked, masked_loss
from emojax.pretraining.network import Network
from emojax.pretraining.units import UnitFeatures, assign_units, num_valid_frames, to_float
from emojax.training import TrainState
from emojax.types import Batch


def objective_sums(
    network: Network, features: UnitFeatures, config: PretrainConfig, params: Any, constants: Any, batch: Batch,
    key: jax.Array, *, train: bool,
) -> dict[str, jax.Array]:  # fmt: skip
    """Sums of the loss over the hidden frames of the global batch."""
    found = jax.lax.stop_gradient(features(constants["unit_encoder"], batch))
    units = assign_units(found, constants["centroids"])
    mask_key, dropout_key = jax.random.split(key)
    masked = choose_masked(mask_key, num_valid_frames(batch.num_samples), units.shape[1], config.prediction)
    waveform = network.preprocess(to_float(batch.waveform), batch.num_samples)
    logits: Any = network.predictor.apply(
        {"params": params}, waveform, batch.num_samples, masked, train=train, rngs={"dropout": dropout_key}
    )
    return masked_loss(logits, units, masked)


def jitted_step(
    config: PretrainConfig, objective: Any, optimizer: optax.GradientTransformation, state: TrainState
) -> Any:
    """The training step, compiled for the state's layout; the old state's memory is reused."""

    def step(state: TrainState, batch: Batch) -> tuple[TrainState, dict[str, jax.Array]]:
        key = jax.random.fold_in(jax.random.key(config.seed), state.step)
        constants = {**state.frozen, **state.statistics}

        def loss(trained: Any) -> tuple[jax.Array, dict[str, jax.Array]]:
            sums = objective(trained["model"], constants, batch, key, train=True)
            frames = jnp.maximum(sums["frames"], 1.0)
            return sums["loss"] / frames, {"loss": sums["loss"] / frames, "accuracy": sums["hits"] / frames}

        gradients, metrics = jax.grad(loss, has_aux=True)(state.trained)
        updates, opt_state = optimizer.update(gradients, state.opt_state, state.trained)
        trained: Any = optax.apply_updates(state.trained, updates)
        metrics = metrics | {"gradient_norm": optax.global_norm(gradients)}
        return state.replace(step=state.step + 1, params=trained["model"], opt_state=opt_state), metrics  # type: ignore[attr-defined]

    shardings = jax.tree.map(lambda leaf: leaf.sharding, state)
    return jax.jit(step, donate_argnums=0, out_shardings=(shardings, None))


def validate(sums_of: Any, stream: BatchStream, variables: dict[str, Any]) -> dict[str, float]:
    """Cross-entropy and accuracy on hidden frames of the validation split, hidden in the same places every time."""
    params = {name: value for name, value in variables["params"].items() if name != "unit_encoder"}
    constants = {"unit_encoder": variables["params"]["unit_encoder"], **variables["statistics"]}
    total = {"loss": 0.0, "hits": 0.0, "frames": 0.0}
    for number in range(stream.num_batches):
        sums = to_host(sums_of(params, constants, stream.load(number), jax.random.key(number)))
        total = {name: total[name] + float(sums[name]) for name in total}
    accuracy = total["hits"] / total["frames"]
    return {"score": accuracy, "accuracy": accuracy, "loss": total["loss"] / total["frames"]}
