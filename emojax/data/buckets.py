"""Static batch lengths chosen from a corpus: those that waste the least padding."""

import numpy as np
from jaxtyping import Int

from emojax.types import SAMPLE_RATE

STEP = SAMPLE_RATE // 4
"""Lengths are whole quarters of a second, so that similar corpora share compiled programs."""


def choose_buckets(lengths: Int[np.ndarray, "N"], count: int, longest: int) -> tuple[int, ...]:
    """The lengths in samples that add the least padding, found exactly by dynamic programming.

    Args:
      lengths: utterance lengths in samples.
      count: most lengths to use.
      longest: utterances longer than this are counted as so long: they will be cropped.

    Returns:
      Ascending, at most `count`, multiples of a quarter of a second; the last holds the longest utterance.
    """
    steps = np.clip(-(-np.minimum(lengths, longest) // STEP), 1, None)
    last = int(steps.max())
    numbers = np.bincount(steps, minlength=last + 1).astype(np.float64)
    before = np.concatenate([[0.0], np.cumsum(numbers)])  # utterances shorter than each length
    # cost[j]: padded steps of all utterances up to j, when j is a bucket and the best ones lie below it
    cost = np.where(np.arange(last + 1) > 0, np.arange(last + 1) * before[1:], 0.0)
    origins = []
    for _ in range(count - 1):
        ends, starts = np.arange(last + 1)[:, None], np.arange(last + 1)[None, :]
        total = cost[None, :] + ends * (before[1:][:, None] - before[1:][None, :])
        total = np.where(starts < ends, total, np.inf)
        total[:, 0] = np.arange(last + 1) * before[1:]  # no bucket below
        origins.append(total.argmin(axis=1))
        cost = total.min(axis=1)
    buckets, end = [last], last
    for origin in reversed(origins):
        end = int(origin[end])
        if end == 0:
            break
        buckets.append(end)
    return tuple(STEP * bucket for bucket in sorted(buckets))
