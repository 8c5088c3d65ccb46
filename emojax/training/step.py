"""The training step as a pure function: state and batch in, state and metrics out."""

from collections.abc import Callable
from typing import Any

import flax.struct
import jax
import jax.numpy as jnp
import optax

from emojax.models import EmotionModel
from emojax.types import Batch, EmotionOutput

Loss = Callable[[EmotionOutput, Batch], tuple[jax.Array, dict[str, jax.Array]]]
"""From outputs and labels of the global batch to the loss and named scalars to log."""


@flax.struct.dataclass
class TrainState:
    """All arrays that change, or belong to the model, during training.

    Attributes:
      step: number of steps done, int32.
      params: trainable parameters.
      statistics: the model's constants, e.g. feature mean and standard deviation of the corpus.
      opt_state: optax state.
      averaged: exponential moving average of `params`; None where averaging is off.
    """

    step: jax.Array
    params: Any
    statistics: Any
    opt_state: Any
    averaged: Any

    @property
    def predicting(self) -> dict[str, Any]:
        """The variables that predictions are made with."""
        params = self.params if self.averaged is None else self.averaged
        return {"params": params, "statistics": self.statistics}


def initial_state(
    model: EmotionModel, optimizer: optax.GradientTransformation, batch: Batch, seed: int, averaging: bool
) -> TrainState:
    """A fresh state; traceable, so that `jax.eval_shape` gives its shapes and `jax.jit` makes it sharded.

    Args:
      model: model to initialise.
      optimizer: from `make_optimizer`.
      batch: any batch of the right ranks and dtypes.
      seed: of the parameters.
      averaging: whether to keep a moving average of the parameters.
    """
    variables = model.init(jax.random.key(seed), batch, train=False)
    params = variables["params"]
    return TrainState(
        step=jnp.zeros((), jnp.int32),
        params=params,
        statistics=variables.get("statistics", {}),
        opt_state=optimizer.init(params),
        averaged=jax.tree.map(jnp.copy, params) if averaging else None,
    )


def make_train_step(
    model: EmotionModel, optimizer: optax.GradientTransformation, loss: Loss, seed: int, ema_decay: float
) -> Callable[[TrainState, Batch], tuple[TrainState, dict[str, jax.Array]]]:
    """Builds the step; the caller jits it with the shardings of its mesh.

    All reductions in it are over the global batch, because the arrays are global: a CCC over part of a batch would
    be another loss. Randomness is a function of the seed and the step, so a restored state repeats it exactly.

    Args:
      model: model to train.
      optimizer: from `make_optimizer`.
      loss: objective of the global batch.
      seed: of dropout and augmentation.
      ema_decay: weight of the past in the moving average of the parameters.

    Returns:
      `step(state, batch) -> (state, metrics)`; metrics hold the loss's own and `gradient_norm`, float32 scalars.
    """

    def step(state: TrainState, batch: Batch) -> tuple[TrainState, dict[str, jax.Array]]:
        keys = jax.random.split(jax.random.fold_in(jax.random.key(seed), state.step), 2)
        rngs = {"dropout": keys[0], "augment": keys[1]}

        def objective(params: Any) -> tuple[jax.Array, dict[str, jax.Array]]:
            variables = {"params": params, "statistics": state.statistics}
            output: Any = model.apply(variables, batch, train=True, rngs=rngs)
            return loss(output, batch)

        gradients, metrics = jax.grad(objective, has_aux=True)(state.params)
        updates, opt_state = optimizer.update(gradients, state.opt_state, state.params)
        params = optax.apply_updates(state.params, updates)
        averaged = state.averaged
        if averaged is not None:
            # Early on the average follows closely; otherwise it would remember the random initial parameters.
            decay = jnp.minimum(ema_decay, (1.0 + state.step) / (10.0 + state.step))
            averaged = jax.tree.map(lambda old, new: decay * old + (1 - decay) * new, averaged, params)
        metrics = metrics | {"gradient_norm": optax.global_norm(gradients)}
        return state.replace(  # type: ignore[attr-defined]
            step=state.step + 1, params=params, opt_state=opt_state, averaged=averaged
        ), metrics

    return step
