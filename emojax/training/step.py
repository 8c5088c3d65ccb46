"""The training step as a pure function: state and batch in, state and metrics out."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import optax

from emojax.audio import Sounds, WaveformAugmentConfig, augment_waveform
from emojax.models import EmotionModel, merge_params
from emojax.training.accumulation import OutputLoss, in_parts, loss_gradients
from emojax.training.state import TrainState
from emojax.training.teachers import TeacherFunction
from emojax.types import Batch, EmotionOutput


def make_train_step(
    model: EmotionModel,
    optimizer: optax.GradientTransformation,
    loss: OutputLoss,
    seed: int,
    ema_decay: float,
    micro_batches: int = 1,
    augment: WaveformAugmentConfig | None = None,
    teach: TeacherFunction | None = None,
) -> Callable[[TrainState, Batch, Sounds | None], tuple[TrainState, dict[str, jax.Array]]]:
    """Builds the step; the caller jits it with the shardings of its mesh.

    All reductions in it are over the global batch, because the arrays are global: a CCC over part of a batch would
    be another loss. Randomness is a function of the seed and the step, so a restored state repeats it exactly.

    Args:
      model: model to train.
      optimizer: from `make_optimizer`.
      loss: objective of the global batch.
      seed: of dropout and augmentation.
      ema_decay: weight of the past in the moving average of the parameters.
      micro_batches: parts the batch is computed in, one after the other, to save memory.
      augment: changes of the waveform; None for none. A teacher hears it unchanged.
      teach: fills in `Batch.teacher` from `TrainState.teachers`; None without a teacher.

    Returns:
      `step(state, batch, sounds) -> (state, metrics)`; `sounds` are what `augment` needs, metrics hold the loss's own
      and `gradient_norm`, float32 scalars.
    """

    def step(state: TrainState, batch: Batch, sounds: Sounds | None = None) -> tuple[TrainState, dict[str, jax.Array]]:
        def forward(params: Any, rows: Batch, key: jax.Array) -> EmotionOutput:
            keys = jax.random.split(key, 2)
            if augment is not None and sounds is not None:
                rows = _augmented(rows, jax.random.fold_in(key, 2), sounds, augment)
            variables = {"params": merge_params(params, state.frozen), "statistics": state.statistics}
            rngs = {"dropout": keys[0], "augment": keys[1]}
            output: Any = model.apply(variables, rows, train=True, rngs=rngs)
            return output

        key = jax.random.fold_in(jax.random.key(seed), state.step)
        if teach is not None:
            batch = batch.replace(teacher=in_parts(teach, state.teachers, batch, micro_batches))  # type: ignore[attr-defined]
        gradients, metrics = loss_gradients(forward, loss, state.params, state.objective, batch, key, micro_batches)
        updates, opt_state = optimizer.update(gradients, state.opt_state, state.trained)
        trained: Any = optax.apply_updates(state.trained, updates)
        averaged = state.averaged
        if averaged is not None:
            # Early on the average follows closely; otherwise it would remember the random initial parameters.
            decay = jnp.minimum(ema_decay, (1.0 + state.step) / (10.0 + state.step))
            averaged = jax.tree.map(lambda old, new: decay * old + (1 - decay) * new, averaged, trained["model"])
        metrics = metrics | {"gradient_norm": optax.global_norm(gradients)}
        return state.replace(  # type: ignore[attr-defined]
            step=state.step + 1,
            params=trained["model"],
            objective=trained["objective"],
            opt_state=opt_state,
            averaged=averaged,
        ), metrics

    return step


def _augmented(batch: Batch, key: jax.Array, sounds: Sounds, config: WaveformAugmentConfig) -> Batch:
    waveform = jnp.where(batch.sample_mask, batch.waveform.astype(jnp.float32) / 2**15, 0.0)
    waveform, num_samples = augment_waveform(key, waveform, batch.num_samples, sounds, config)
    return batch.replace(waveform=waveform, num_samples=num_samples)  # type: ignore[attr-defined]
