"""Mean and standard deviation of the training corpus's features, for models that normalise by them."""

from typing import Any

import jax
import numpy as np

from emojax.audio import FeatureStatistics, feature_statistics, mean_and_std, merge_statistics
from emojax.data import BatchStream
from emojax.models import EmotionModel, raw_log_mel
from emojax.parallel import put, to_host
from emojax.progress import Progress

MAX_BATCHES = 200
"""Batches looked at: a hundred thousand frames fix a mean to less than a hundredth of a standard deviation."""


def fill_statistics(model: EmotionModel, statistics: Any, stream: BatchStream) -> Any:
    """Replaces a model's `statistics` variables by those of the training data.

    Args:
      model: the model.
      statistics: its initial `statistics` collection; returned as it is if the model does not normalise by corpus.
      stream: training batches, at their start; its position does not change.

    Returns:
      The same tree, with values from up to `MAX_BATCHES` batches, laid out as before.
    """
    view = model.config.log_mel
    if not statistics:
        return statistics
    measure = jax.jit(lambda batch: feature_statistics(*raw_log_mel(batch, view.filterbank)))
    bands = view.filterbank.num_bands
    total = FeatureStatistics(np.float64(0), np.zeros(bands), np.zeros(bands))
    count = min(MAX_BATCHES, stream.plan.batches_per_epoch)
    with Progress("measure features", count, "batches") as progress:
        for number in range(count):
            sums = to_host(measure(stream.load(number)))
            measured = FeatureStatistics(*(np.asarray(part, np.float64) for part in sums))
            total = merge_statistics(total, measured)
            progress.advance()
    mean, std = mean_and_std(total)
    values = {"mean": mean, "std": std}
    return jax.tree.map_with_path(
        lambda path, old: put(values[path[-1].key].astype(old.dtype), old.sharding), statistics
    )
