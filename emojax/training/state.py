"""All arrays that training changes or needs, and how they come into being where they will live."""

import functools
from collections.abc import Mapping
from typing import Any

import flax.struct
import jax
import jax.numpy as jnp
import optax
from jax.sharding import Mesh

from emojax.models import EmotionModel, merge_params, parameter_axes, split_params, trainable_mask
from emojax.parallel import state_sharding
from emojax.types import Batch
from emojax.workdir import abstract_like


@flax.struct.dataclass
class TrainState:
    """All arrays that change, or belong to the model, during training.

    Attributes:
      step: number of steps done, int32.
      params: the model's trainable parameters.
      frozen: the model's other parameters; saved once with the workdir, not with every checkpoint.
      objective: parameters of the objective itself, e.g. learned task weights; {} without.
      statistics: the model's constants, e.g. feature mean and standard deviation of the corpus.
      opt_state: optax state of `trained`.
      averaged: exponential moving average of `params`; None where averaging is off.
      teachers: what a teacher needs on the devices (`emojax.training.teachers.TeacherArrays`); constant, not saved.
    """

    step: jax.Array
    params: Any
    frozen: Any
    objective: Any
    statistics: Any
    opt_state: Any
    averaged: Any
    teachers: Any = None

    @property
    def trained(self) -> dict[str, Any]:
        """What the optimizer moves."""
        return {"model": self.params, "objective": self.objective}

    @property
    def eval_variables(self) -> dict[str, Any]:
        """The variables that predictions are made with."""
        params = self.params if self.averaged is None else self.averaged
        return {"params": merge_params(params, self.frozen), "statistics": self.statistics}

    @property
    def saved(self) -> dict[str, Any]:
        """The part of `eval_variables` that a checkpoint holds."""
        return {"params": self.params if self.averaged is None else self.averaged, "statistics": self.statistics}


def init_train_state(
    model: EmotionModel,
    optimizer: optax.GradientTransformation,
    batch: Batch,
    mesh: Mesh,
    seed: int,
    *,
    averaging: bool = False,
    encoders: Mapping[str, Mapping[str, Any]] | None = None,
    objective: Any = None,
) -> TrainState:
    """Parameters and optimizer state, made where they will live: no device ever holds more than its part.

    Args:
      model: model to initialise.
      optimizer: from `make_optimizer`.
      batch: any batch of the right ranks and dtypes.
      mesh: device mesh.
      seed: of the parameters.
      averaging: whether to keep a moving average of the parameters.
      encoders: loaded parameters by modality, already laid out; they take the place of random ones.
      objective: initial parameters of the objective.
    """
    loaded = {modality: {"encoder": params} for modality, params in (encoders or {}).items()}
    layout = functools.partial(state_sharding, mesh=mesh, axes=parameter_axes(model.encoders))
    initialise = functools.partial(_initialise, model, batch, seed, frozenset(loaded), objective or {})
    made = jax.jit(initialise, out_shardings=layout(jax.eval_shape(initialise)))()
    params = merge_params(loaded, made["params"])
    trained, frozen = split_params(params, trainable_mask(params, model.config))
    finish = functools.partial(_finish, optimizer, averaging)
    rest = jax.eval_shape(finish, trained, made["objective"])
    finished = jax.jit(finish, out_shardings=layout(rest))(trained, made["objective"])
    return _state(trained, frozen, made, finished)


def abstract_state(
    model: EmotionModel,
    optimizer: optax.GradientTransformation,
    batch: Batch,
    mesh: Mesh,
    *,
    averaging: bool = False,
    objective: Any = None,
) -> TrainState:
    """Shapes, dtypes and shardings of `init_train_state`, for compiling without devices; nothing is computed."""
    made = jax.eval_shape(functools.partial(_initialise, model, batch, 0, frozenset(), objective or {}))
    trained, frozen = split_params(made["params"], trainable_mask(made["params"], model.config))
    finished = jax.eval_shape(functools.partial(_finish, optimizer, averaging), trained, made["objective"])
    state = _state(trained, frozen, made, finished)
    return abstract_like(state, state_sharding(state, mesh, parameter_axes(model.encoders)))


def _initialise(model: EmotionModel, batch: Batch, seed: int, loaded: frozenset[str], objective: Any) -> dict[str, Any]:
    """Every variable but the parameters of the encoders of some modalities."""
    variables = model.init(jax.random.key(seed), batch, train=False)
    own = {
        modality: {key: value for key, value in tree.items() if not (key == "encoder" and modality in loaded)}
        for modality, tree in variables["params"].items()
    }
    return {"params": own, "statistics": variables.get("statistics", {}), "objective": objective}


def _state(trained: Any, frozen: Any, made: dict[str, Any], finished: tuple) -> TrainState:
    step, opt_state, averaged = finished
    return TrainState(
        step=step,
        params=trained,
        frozen=frozen,
        objective=made["objective"],
        statistics=made["statistics"],
        opt_state=opt_state,
        averaged=averaged,
    )


def _finish(optimizer: optax.GradientTransformation, averaging: bool, params: Any, objective: Any) -> tuple:
    opt_state = optimizer.init({"model": params, "objective": objective})
    return jnp.zeros((), jnp.int32), opt_state, jax.tree.map(jnp.copy, params) if averaging else None
