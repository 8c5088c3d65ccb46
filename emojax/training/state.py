"""The train state: all arrays of a run, made on the devices they stay on, or their shapes alone."""

from collections.abc import Callable, Mapping
from typing import Any, TypedDict

import flax.struct
import jax
import jax.numpy as jnp
import optax
from jax.sharding import Mesh

from emojax.models import merge_params, split_params
from emojax.parallel import AxesOf, state_sharding
from emojax.workdir import abstract_like


@flax.struct.dataclass
class TrainState:
    """All arrays that change, or belong to the model, during training.

    Attributes:
      step: number of steps done, int32.
      params: trained parameters of the model.
      frozen: other parameters of the model; saved once with the workdir, not with every checkpoint.
      objective: parameters of the objective, e.g. learned task weights; {} without.
      statistics: constants of the model, e.g. feature mean and standard deviation of the corpus.
      opt_state: optax state of `trained`.
      ema_params: exponential moving average of `params`; None without one.
      teacher: arrays of the teacher (`emojax.teachers.TeacherArrays`); constant, not saved.
    """

    step: jax.Array
    params: Any
    frozen: Any
    objective: Any
    statistics: Any
    opt_state: Any
    ema_params: Any
    teacher: Any = None

    @property
    def trained(self) -> dict[str, Any]:
        """Parameters that the optimizer updates."""
        return {"model": self.params, "objective": self.objective}

    @property
    def eval_variables(self) -> dict[str, Any]:
        """Variables of the model in evaluation."""
        params = self.params if self.ema_params is None else self.ema_params
        return {"params": merge_params(params, self.frozen), "statistics": self.statistics}

    @property
    def saved(self) -> dict[str, Any]:
        """The part of `eval_variables` that a checkpoint holds."""
        return {"params": self.params if self.ema_params is None else self.ema_params, "statistics": self.statistics}


class InitialVariables(TypedDict):
    """Initial values: `params` and `statistics` of a model, and `objective`, parameters of its objective."""

    params: Any
    statistics: Any
    objective: Any


def init_train_state(
    initialise: Callable[[], InitialVariables],
    optimizer: optax.GradientTransformation,
    mesh: Mesh,
    axes: AxesOf,
    *,
    loaded: Mapping[str, Any] | None = None,
    trainable: Callable[[Any], Any] | None = None,
    ema: bool = False,
    abstract: bool = False,
) -> TrainState:
    """Makes parameters and optimizer state sharded as they stay: no device ever holds more than its part.

    Args:
      initialise: initial values, computed inside jit.
      optimizer: from `make_optimizer`.
      mesh: device mesh; with `abstract`, its devices need not exist.
      axes: logical axes of the parameters.
      loaded: parameters that are on the devices already; they replace initial ones of the same path.
      trainable: from parameters to a tree of flags, True where one is trained; None: all are.
      ema: whether to keep a moving average of the parameters.
      abstract: return shapes, dtypes and shardings (`jax.ShapeDtypeStruct`) and compute nothing.
    """

    def compute(function: Callable[..., Any], *arguments: Any) -> Any:
        shapes = jax.eval_shape(function, *arguments)
        shardings = state_sharding(shapes, mesh, axes)
        if abstract:
            return abstract_like(shapes, shardings)
        return jax.jit(function, out_shardings=shardings)(*arguments)

    def start(params: Any, objective: Any) -> tuple[jax.Array, Any, Any]:
        opt_state = optimizer.init({"model": params, "objective": objective})
        return jnp.zeros((), jnp.int32), opt_state, jax.tree.map(jnp.copy, params) if ema else None

    initial = compute(initialise)
    params = merge_params(loaded or {}, initial["params"])
    frozen: Any = {}
    if trainable:
        params, frozen = split_params(params, trainable(params))
    step, opt_state, ema_params = compute(start, params, initial["objective"])
    return TrainState(
        step=step,
        params=params,
        frozen=frozen,
        objective=initial["objective"],
        statistics=initial["statistics"],
        opt_state=opt_state,
        ema_params=ema_params,
    )


def state_shardings(state: TrainState) -> TrainState:
    """The sharding of every array of a state, concrete or abstract."""
    return jax.tree.map(lambda leaf: leaf.sharding, state)
