"""Which utterances form which shard of a store: a function of their lengths alone, so that every run cuts alike."""

import numpy as np
from jaxtyping import Int

from emojax.types import SAMPLE_RATE

_SHARD_BYTES = 64 * 2**20
"""Of states: what a shard holds in memory until it is written."""

_SHARD_SAMPLES = 20 * 60 * SAMPLE_RATE
"""Of audio to compute: what a kill can cost."""

_SHARD_UTTERANCES = 2048


def shard_bounds(num_samples: Int[np.ndarray, "N"], num_bytes: Int[np.ndarray, "N"], audio: bool) -> tuple[int, ...]:
    """First utterance of each shard, and N.

    Args:
      num_samples: length of each utterance.
      num_bytes: most that is stored of each.
      audio: whether the encoder hears the audio, which bounds a shard's duration too.
    """
    heard = num_samples if audio else np.zeros_like(num_samples)
    bounds, size, samples = [0], 0, 0
    for position, (more_size, more_samples) in enumerate(zip(num_bytes.tolist(), heard.tolist(), strict=True)):
        full = position - bounds[-1] == _SHARD_UTTERANCES
        if position > bounds[-1] and (
            full or size + more_size > _SHARD_BYTES or samples + more_samples > _SHARD_SAMPLES
        ):
            bounds.append(position)
            size = samples = 0
        size, samples = size + more_size, samples + more_samples
    return (*bounds, len(num_samples))
