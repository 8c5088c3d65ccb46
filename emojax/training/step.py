"""The training step: loss and gradient over the global batch, in parts where asked, and the update."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import optax
from jax.sharding import Mesh

from emojax.audio import Sounds, WaveformAugmentConfig, augment_waveform
from emojax.models import LAST_STATES, EmotionModel, last_states, merge_params
from emojax.parallel import with_mesh
from emojax.teachers import TeacherFunction
from emojax.training.state import TrainState, state_shardings
from emojax.types import Batch, EmotionOutput

Forward = Callable[[Any, Batch, jax.Array], EmotionOutput]
"""From parameters, (part of) a batch and a random key to outputs."""

OutputLoss = Callable[[EmotionOutput, Batch, Any], tuple[jax.Array, dict[str, jax.Array]]]
"""From outputs and labels of the global batch and the objective's parameters to the loss and scalars to log."""


def loss_gradients(
    forward: Forward, loss: OutputLoss, params: Any, objective: Any, batch: Batch, key: jax.Array, parts: int
) -> tuple[dict[str, Any], dict[str, jax.Array]]:
    """Gradients of the loss over the global batch.

    Args:
      forward: model being trained.
      loss: loss of outputs and labels.
      params: trainable parameters of the model.
      objective: parameters of the objective.
      batch: the global batch; its rows are a multiple of `parts`.
      key: for dropout and augmentation.
      parts: micro-batches; 1 runs everything at once.

    Returns:
      Gradients as `{"model": ..., "objective": ...}`, and the loss's scalars.
    """
    if parts == 1:

        def whole(trained: dict[str, Any]) -> tuple[jax.Array, dict[str, jax.Array]]:
            return loss(forward(trained["model"], batch, key), batch, trained["objective"])

        return jax.grad(whole, has_aux=True)({"model": params, "objective": objective})

    split = jax.tree.map(lambda rows: _to_parts(rows, parts), batch)
    keys = jax.random.split(key, parts)
    outputs = jax.lax.map(lambda part: forward(params, *part), (split, keys))
    joined = jax.tree.map(_from_parts, outputs)
    (by_output, by_objective), metrics = jax.grad(loss, argnums=(0, 2), has_aux=True)(joined, batch, objective)
    cotangents = jax.tree.map(lambda rows: _to_parts(rows, parts), by_output)

    def add_part(total: Any, part: Any) -> tuple[Any, None]:
        rows, key_of_part, cotangent = part
        _, pull_back = jax.vjp(lambda params: forward(params, rows, key_of_part), params)
        (gradient,) = pull_back(cotangent)
        return jax.tree.map(jnp.add, total, gradient), None

    zeros = jax.tree.map(jnp.zeros_like, params)
    total, _ = jax.lax.scan(add_part, zeros, (split, keys, cotangents))
    return {"model": total, "objective": by_objective}, metrics


def in_parts(function: Callable[[Any, Batch], Any], constants: Any, batch: Batch, parts: int) -> Any:
    """`function(constants, batch)`, whose rows do not depend on each other, in so many micro-batches."""
    if parts == 1:
        return function(constants, batch)
    split = jax.tree.map(lambda rows: _to_parts(rows, parts), batch)
    return jax.tree.map(_from_parts, jax.lax.map(lambda part: function(constants, part), split))


def _to_parts(rows: jax.Array, parts: int) -> jax.Array:
    """(B, ...) to (parts, B / parts, ...): part k has the rows k, k + parts, ..., so that no row changes its device."""
    return rows.reshape(rows.shape[0] // parts, parts, *rows.shape[1:]).swapaxes(0, 1)


def _from_parts(rows: jax.Array) -> jax.Array:
    return rows.swapaxes(0, 1).reshape(rows.shape[0] * rows.shape[1], *rows.shape[2:])


def make_train_step(
    model: EmotionModel,
    optimizer: optax.GradientTransformation,
    loss: OutputLoss,
    seed: int,
    ema_decay: float,
    micro_batches: int = 1,
    augment: WaveformAugmentConfig | None = None,
    teacher: TeacherFunction | None = None,
    hidden_states: bool = False,
) -> Callable[[TrainState, Batch, Sounds | None], tuple[TrainState, dict[str, jax.Array]]]:
    """Builds the step; the caller jits it with the shardings of its mesh.

    All reductions in it are over the global batch, because the arrays are global: a CCC over part of a batch would
    be another loss. Randomness is a function of the seed and the step, so a restored state repeats it exactly.

    Args:
      model: model being trained.
      optimizer: from `make_optimizer`.
      loss: objective of the global batch.
      seed: seed of dropout and augmentation.
      ema_decay: decay of the moving average of the parameters.
      micro_batches: parts the batch is computed in, one after the other, to save memory.
      augment: augmentation of the waveform; None for none. The teacher gets the waveform without it.
      teacher: computes `Batch.teacher` from `TrainState.teacher`; None without a teacher.
      hidden_states: whether the loss needs `EmotionOutput.hidden_states`, of the acoustic modality.

    Returns:
      `step(state, batch, sounds) -> (state, metrics)`; `sounds` are for `augment`; metrics are those of the loss and
      `gradient_norm`, float32 scalars.
    """

    def step(state: TrainState, batch: Batch, sounds: Sounds | None = None) -> tuple[TrainState, dict[str, jax.Array]]:
        def forward(params: Any, rows: Batch, key: jax.Array) -> EmotionOutput:
            keys = jax.random.split(key, 2)
            if augment is not None and sounds is not None:
                rows = _augmented(rows, jax.random.fold_in(key, 2), sounds, augment)
            variables = {"params": merge_params(params, state.frozen), "statistics": state.statistics}
            rngs = {"dropout": keys[0], "augment": keys[1]}
            output: Any
            if not hidden_states:
                output = model.apply(variables, rows, train=True, rngs=rngs)
                return output
            output, collections = model.apply(variables, rows, train=True, rngs=rngs, mutable=[LAST_STATES])
            return output.replace(hidden_states=last_states(collections[LAST_STATES], "acoustic"))

        key = jax.random.fold_in(jax.random.key(seed), state.step)
        if teacher is not None:
            targets = in_parts(teacher, state.teacher, batch, micro_batches)
            batch = batch.replace(teacher=targets)  # type: ignore[attr-defined]
        gradients, metrics = loss_gradients(forward, loss, state.params, state.objective, batch, key, micro_batches)
        updates, opt_state = optimizer.update(gradients, state.opt_state, state.trained)
        trained: Any = optax.apply_updates(state.trained, updates)
        ema_params = state.ema_params
        if ema_params is not None:
            # A lower decay in the first steps, so that the random initial parameters have no weight later.
            decay = jnp.minimum(ema_decay, (1.0 + state.step) / (10.0 + state.step))
            ema_params = jax.tree.map(lambda old, new: decay * old + (1 - decay) * new, ema_params, trained["model"])
        metrics = metrics | {"gradient_norm": optax.global_norm(gradients)}
        return state.replace(  # type: ignore[attr-defined]
            step=state.step + 1,
            params=trained["model"],
            objective=trained["objective"],
            opt_state=opt_state,
            ema_params=ema_params,
        ), metrics

    return step


def jit_step(step: Callable[..., tuple[Any, Any]], state: TrainState) -> Any:
    """Jits a step for the shardings of its state, whose memory is reused for the new one.

    Args:
      step: from state, batch and further arguments to a new state and metrics.
      state: concrete or abstract; only its shardings are used.
    """
    mesh: Mesh = state.step.sharding.mesh  # type: ignore[attr-defined]
    return jax.jit(with_mesh(step, mesh), donate_argnums=0, out_shardings=(state_shardings(state), None))


def _augmented(batch: Batch, key: jax.Array, sounds: Sounds, config: WaveformAugmentConfig) -> Batch:
    waveform = jnp.where(batch.sample_mask, batch.waveform.astype(jnp.float32) / 2**15, 0.0)
    waveform, num_samples = augment_waveform(key, waveform, batch.num_samples, sounds, config)
    return batch.replace(waveform=waveform, num_samples=num_samples)  # type: ignore[attr-defined]
