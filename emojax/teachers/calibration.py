"""Calibration of a teacher: its error on an utterance, in units of its errors on the training data.

The residual of an attribute is |a + b·t − y| / τ for a prediction t and a label y. a and b are the least-squares line
from predictions to labels (0 and 1 without `debias`), τ is a quantile of |a + b·t − y| over training data. Without a
label it is the spread of the members' predictions, divided by the same quantile of the spreads. The line enters the
residual alone: the student is trained on t as it is.
"""

import functools
from collections.abc import Callable
from typing import Any

import flax.struct
import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh
from jaxtyping import Array, Float

from emojax.data import BatchStream
from emojax.losses import DistillationConfig
from emojax.metrics.moments import CoMoments, co_moments
from emojax.metrics.scores import moments_in_float64
from emojax.parallel import replicated, to_device, to_host, with_mesh
from emojax.progress import Progress
from emojax.teachers.ensemble import AveragedOutputs
from emojax.types import ATTRIBUTES, NUM_ATTRIBUTES, Batch

_MAX_BATCHES = 200
_LEAST_TAU = 1e-6

_LEAST_DEVIATION = 1e-4
"""Of a teacher's predictions, on a scale of [0, 1]: with less, the slope of the line would be arbitrary."""


@flax.struct.dataclass
class Calibration:
    """Statistics of a teacher's outputs over the training data.

    Attributes:
      line: a and b of every attribute.
      tau: unit of the residuals from labels.
      tau_spread: unit of the spread of several members; infinite with one.
      attribute_variance: variance of the teacher's attributes; 0 if not measured.
      embedding_variance: variance of the teacher's embedding, summed over coordinates; 0 if not measured.
    """

    line: Float[Any, "2 3"]
    tau: Float[Any, "3"]
    tau_spread: Float[Any, "3"]
    attribute_variance: Float[Any, "3"]
    embedding_variance: Float[Any, ""]

    def residual(self, outputs: AveragedOutputs, labels: Float[Array, "B 3"]) -> Float[Array, "B 3"]:
        """Computes residuals; without a label (NaN) from the spread, 0 where there is no prediction either."""
        predicted = self.line[0] + self.line[1] * outputs.attributes
        from_label = jnp.abs(predicted - labels) / self.tau
        residual = jnp.where(jnp.isnan(from_label), outputs.spread / self.tau_spread, from_label)
        return jnp.where(jnp.isnan(residual), 0.0, residual)


def identity_calibration() -> Calibration:
    """Line 0 + 1·t, τ 1, no spread, no variances: NumPy arrays."""
    line, tau = _identity_line(), np.ones(NUM_ATTRIBUTES)
    spread = np.full(NUM_ATTRIBUTES, np.inf)
    values = (line, tau, spread, np.zeros(NUM_ATTRIBUTES), np.zeros(()))
    return Calibration(*(value.astype(np.float32) for value in values))


def put_calibration(calibration: Calibration, mesh: Mesh) -> Calibration:
    """Puts NumPy arrays on every device of a mesh."""
    return jax.tree.map(lambda values: to_device(np.asarray(values, np.float32), replicated(mesh)), calibration)


def calibrate(
    outputs: Callable[[Any, Batch], AveragedOutputs], variables: Any, stream: BatchStream, config: DistillationConfig
) -> Calibration:
    """Measures residuals, spread and variances on training data, if the loss needs any of them.

    Args:
      outputs: outputs of the teacher from `variables` and a batch.
      variables: variables of its models.
      stream: training batches; up to 200 of the first epoch are read, its position does not change.
      config: the condition, its quantile, and whether a linear bias is removed.
    """
    if not config.measures_teacher:
        return put_calibration(identity_calibration(), stream.mesh)

    def measure(variables: Any, batch: Batch) -> tuple[tuple[Array, ...], CoMoments]:
        found = outputs(variables, batch)
        rows = found.attributes, found.spread, batch.attributes, batch.weight
        return rows, co_moments(found.embedding, found.embedding, batch.weight)

    compute = jax.jit(with_mesh(measure, stream.mesh))
    count = min(_MAX_BATCHES, stream.plan.batches_per_epoch)
    measured, moments_of_batches = [], []
    with Progress("calibrate teacher", count, "batches") as progress:
        for number in range(count):
            rows, moments = to_host(compute(variables, stream.load(number)))
            measured.append(rows)
            moments_of_batches.append(jax.tree.map(lambda values: np.asarray(values, np.float64), moments))
            progress.advance()
    *columns, weights = (np.concatenate(parts).astype(np.float64) for parts in zip(*measured, strict=True))
    predictions, spreads, labels = (values[weights > 0] for values in columns)
    line, tau, tau_spread = residual_units(predictions, spreads, labels, config)
    attributes = moments_in_float64(predictions, predictions)
    embeddings: CoMoments = functools.reduce(CoMoments.merge, moments_of_batches)
    calibration = Calibration(
        line=line,
        tau=tau,
        tau_spread=tau_spread,
        attribute_variance=attributes.variance_sum_label / np.maximum(attributes.weight, 1),
        embedding_variance=embeddings.variance_sum_label.sum() / max(embeddings.weight[0], 1.0),
    )
    return put_calibration(calibration, stream.mesh)


def residual_units(
    predictions: Float[np.ndarray, "N 3"],
    spreads: Float[np.ndarray, "N 3"],
    labels: Float[np.ndarray, "N 3"],
    config: DistillationConfig,
) -> tuple[Float[np.ndarray, "2 3"], Float[np.ndarray, "3"], Float[np.ndarray, "3"]]:
    """Computes the line from predictions to labels, τ of residuals and τ of spreads, per attribute."""
    line = _identity_line()
    tau, tau_spread = np.ones(NUM_ATTRIBUTES), np.full(NUM_ATTRIBUTES, np.inf)
    for column in range(len(ATTRIBUTES)):
        predicted, spread, label = predictions[:, column], spreads[:, column], labels[:, column]
        if (spread > 0).any():
            tau_spread[column] = max(np.quantile(spread, config.quantile), _LEAST_TAU)
        both = ~(np.isnan(predicted) | np.isnan(label))
        if both.sum() < 2:
            continue
        predicted, label = predicted[both], label[both]
        if config.debias and predicted.std() > _LEAST_DEVIATION:
            slope = np.cov(predicted, label, bias=True)[0, 1] / predicted.var()
            line[:, column] = label.mean() - slope * predicted.mean(), slope
        residuals = np.abs(line[0, column] + line[1, column] * predicted - label)
        tau[column] = max(np.quantile(residuals, config.quantile), _LEAST_TAU)
    return line, tau, tau_spread


def _identity_line() -> Float[np.ndarray, "2 3"]:
    return np.array([np.zeros(NUM_ATTRIBUTES), np.ones(NUM_ATTRIBUTES)])
