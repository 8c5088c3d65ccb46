"""Statistics of the training corpus that a model normalises by: measured once, before the first step."""

from typing import Any

import jax
import numpy as np

from emojax.audio import FeatureStatistics, mean_and_std, merge_statistics
from emojax.data import BatchStream
from emojax.models import MEASURED, EmotionModel, input_module, measured
from emojax.parallel import to_device, to_host, with_mesh
from emojax.progress import Progress
from emojax.types import Batch

MAX_BATCHES = 200
"""Batches whose log-mel energies or stored hidden states are measured: a hundred thousand frames fix a mean to a
hundredth of a standard deviation."""

ENCODER_UTTERANCES = 256
"""Utterances of which an encoder that computes in the step is applied, in whole batches: they fix a mean to a sixteenth
of the standard deviation between utterances, or less."""


def fill_statistics(
    model: EmotionModel, variables: dict[str, Any], stream: BatchStream, online: tuple[str, ...] = ()
) -> Any:
    """Computes a model's `statistics` from training data.

    All processes and devices get equal values: batches are global arrays.

    Args:
      model: the model.
      variables: its initial `params`, all encoders that compute included, and `statistics`.
      stream: training batches, whose waveforms are not augmented; up to `MAX_BATCHES` of the first epoch are read, its
        position does not change.
      online: encoder modalities that are computed in the step; for these up to `ENCODER_UTTERANCES` utterances are.

    Returns:
      `statistics` with the same shardings; as they are if the model does not normalise by the corpus.
    """
    statistics = variables["statistics"]
    limits = {modality: _num_batches(modality, stream, online) for modality in statistics}
    if not limits:
        return statistics

    def measure(variables: dict[str, Any], batch: Batch, modalities: tuple[str, ...]) -> dict[str, FeatureStatistics]:
        found = {}
        for modality in modalities:  # networks and heads are not traced
            own = {name: tree[modality] for name, tree in variables.items() if modality in tree}
            _, collections = input_module(model, modality).apply(own, batch, train=False, mutable=[MEASURED])
            found[modality] = measured(collections[MEASURED])
        return found

    compute = jax.jit(with_mesh(measure, stream.mesh), static_argnums=2)
    totals: dict[str, FeatureStatistics] = {}
    count = max(limits.values())
    with Progress("measure features", count, "batches") as progress:
        for number in range(count):
            wanted = tuple(modality for modality, limit in limits.items() if number < limit)
            for modality, sums in to_host(compute(variables, stream.load(number), wanted)).items():
                of_batch = jax.tree.map(lambda values: np.asarray(values, np.float64), sums)
                totals[modality] = merge_statistics(totals[modality], of_batch) if modality in totals else of_batch
            progress.advance()
    values = {
        modality: dict(zip(("mean", "std"), mean_and_std(total), strict=True)) for modality, total in totals.items()
    }
    return jax.tree.map(
        lambda new, old: to_device(np.asarray(new).astype(old.dtype), old.sharding), values, dict(statistics)
    )


def _num_batches(modality: str, stream: BatchStream, online: tuple[str, ...]) -> int:
    """Batches that are measured, at most an epoch."""
    most = -(-ENCODER_UTTERANCES // stream.plan.batch_size) if modality in online else MAX_BATCHES
    return min(most, stream.plan.batches_per_epoch)
