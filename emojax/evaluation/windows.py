"""Long utterances predicted window by window, and averaged."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from emojax.types import Batch, EmotionOutput

_LEAST_SHARE = 0.25
"""A last window shorter than this share of a whole one is left out, unless it is the only one."""


def windowed(batch: Batch, samples: int) -> Batch:
    """A batch of windows, `ceil(S / samples)` rows for every row, in order; those beyond an utterance's end are empty.

    Args:
      batch: any; tokens are repeated for every window.
      samples: length of a window.
    """
    count = -(-batch.waveform.shape[1] // samples)
    waveform = jnp.pad(batch.waveform, ((0, 0), (0, count * samples - batch.waveform.shape[1])))
    repeated = jax.tree.map(lambda rows: jnp.repeat(rows, count, axis=0), batch.replace(waveform=None))  # type: ignore[attr-defined]
    return repeated.replace(
        waveform=waveform.reshape(-1, samples),
        num_samples=window_lengths(batch.num_samples, samples, count).reshape(-1),
    )


def window_lengths(num_samples: Int[Array, "B"], samples: int, count: int) -> Int[Array, "B W"]:
    """Valid samples of every window; 0 for windows that are left out."""
    lengths = jnp.clip(num_samples[:, None] - jnp.arange(count) * samples, 0, samples)
    too_short = (lengths < _LEAST_SHARE * samples) & (jnp.arange(count) > 0)
    return jnp.where(too_short, 0, lengths)


def averaged(output: EmotionOutput, batch: Batch, samples: int) -> EmotionOutput:
    """Means over the windows of each utterance, weighted by their lengths.

    Args:
      output: of `windowed(batch, samples)`; categories are averaged as probabilities.
      batch: the utterances.
      samples: length of a window.
    """
    count = -(-batch.waveform.shape[1] // samples)
    lengths = window_lengths(batch.num_samples, samples, count).astype(jnp.float32)
    weights = lengths / jnp.maximum(lengths.sum(axis=1, keepdims=True), 1.0)

    def mean(rows: Float[Array, "N D"]) -> Float[Array, "B D"]:
        return jnp.einsum("bw,bwd->bd", weights, rows.reshape(-1, count, rows.shape[1]))

    probabilities = mean(jax.nn.softmax(output.emotion_logits, axis=-1))
    return EmotionOutput(
        attributes=mean(output.attributes),
        emotion_logits=jnp.log(jnp.maximum(probabilities, jnp.finfo(jnp.float32).tiny)),
        embedding=mean(output.embedding),
    )
