"""Windows of long utterances, and the mean of their predictions."""

import dataclasses
import functools
import math
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh
from jaxtyping import Array, Float, Int

from emojax.config import ExperimentConfig
from emojax.errors import ConfigError
from emojax.models import EmotionModel
from emojax.parallel import batch_sharding, num_batch_shards, to_host
from emojax.types import SAMPLE_RATE, Batch, EmotionOutput

ENCODER_SECONDS = 40
"""Default window (s) of models with a speech encoder, and audio (s) per forward pass and device of windowed utterances.
Attention takes memory by the square of it. The longest utterances of the corpora with a builder (34 s, IEMOCAP) are one
window."""

LOG_MEL_SECONDS = 600
"""Default window (s) of models without a speech encoder, whose memory is proportional to the length of an utterance."""

_LEAST_SHARE = 0.25
"""A last window shorter than this share of a full one is skipped, unless it is the only one."""


@dataclasses.dataclass(frozen=True)
class Windows:
    """Division of utterances into windows.

    Attributes:
      samples: longest window; shorter utterances are not divided. 0: no utterance is divided.
      equal: divide an utterance into as few windows of equal length as possible, which cover it. Otherwise windows have
        `samples`, except the last, which is skipped if it is shorter than a quarter of that and not the only one.
      at_once: samples per forward pass on a device, at least one window; 0: one window of every row of the batch.
      always: shorter utterances are windows, too, for encoders that pad every clip to `samples`: memory then
        depends on `at_once` alone.
    """

    samples: int
    equal: bool = False
    at_once: int = 0
    always: bool = False

    def divide(self, num_samples: int) -> bool:
        """Whether utterances padded to `num_samples` are computed as windows."""
        return self.always or 0 < self.samples < num_samples

    def bounds(self, num_samples: Int[np.ndarray, "B"]) -> tuple[Int[np.ndarray, "B W"], Int[np.ndarray, "B W"]]:
        """First sample and length of every window; W is the largest number of windows of an utterance.

        The length is 0 if an utterance has fewer windows, or if the window is skipped.
        """
        counts = -(-num_samples.astype(np.int64)[:, None] // self.samples)
        numbers = np.arange(counts.max(initial=0))
        if self.equal:
            shortest, longer = np.divmod(num_samples[:, None], np.maximum(counts, 1))
            starts = numbers * shortest + np.minimum(numbers, longer)
            return starts, np.where(numbers < counts, shortest + (numbers < longer), 0)
        starts = np.broadcast_to(numbers * self.samples, (len(num_samples), len(numbers)))
        lengths = np.clip(num_samples[:, None] - starts, 0, self.samples)
        return starts, np.where((lengths < _LEAST_SHARE * self.samples) & (numbers > 0), 0, lengths)

    def of(self, num_samples: int) -> list[tuple[int, int]]:
        """First sample and length of each window of one utterance, in order; one that is skipped is absent."""
        if not self.samples:
            return [(0, num_samples)]
        starts, lengths = self.bounds(np.array([num_samples]))
        return [(int(start), int(length)) for start, length in zip(starts[0], lengths[0], strict=True) if length]

    def row_groups(self, rows: int, shards: int) -> Iterator[Int[np.ndarray, "R"]]:
        """Yields the rows of a batch per forward pass: the same number from every shard."""
        own = rows // shards
        limit = max(self.at_once // self.samples, 1) if self.at_once else own
        size = max(size for size in range(1, min(limit, own) + 1) if own % size == 0)
        numbers = np.arange(rows).reshape(shards, own)
        for start in range(0, own, size):
            yield numbers[:, start : start + size].reshape(-1)


WHOLE = Windows(0)
"""No utterance is divided."""


def windows_of(config: ExperimentConfig, model: EmotionModel, online: tuple[str, ...]) -> Windows:
    """Windows of a model (`evaluation.window_seconds`).

    Args:
      config: config of the run.
      model: model built from the config.
      online: encoder modalities whose encoder is computed; the others read a feature store.

    Raises:
      ConfigError: `window_seconds` is set and a modality reads a store, a short last window would have no frame, or a
        window is longer than the speech encoder's longest input.
    """
    seconds, encoder_samples = config.evaluation.window_seconds, ENCODER_SECONDS * SAMPLE_RATE
    stored = [modality for modality in config.model.encoder_modalities if modality not in online]
    at_once = encoder_samples if "acoustic" in online else 0
    limit, padded = (model.max_samples if at_once else None) or math.inf, at_once > 0 and config.model.acoustic.padded
    if seconds == 0 and at_once:
        return Windows(int(min(encoder_samples, limit)), True, at_once, padded)
    if seconds == 0:
        samples = LOG_MEL_SECONDS * SAMPLE_RATE
        return WHOLE if stored or "log_mel" not in config.model.modalities else Windows(samples, True, samples)
    if stored:
        raise ConfigError(
            f"config.evaluation.window_seconds must be 0 if the {stored[0]} modality reads a feature store, "
            f"got {seconds}"
        )
    if "log_mel" not in config.model.modalities and "acoustic" not in online:
        return WHOLE  # transcripts alone: every window would be the same
    samples, least = round(seconds * SAMPLE_RATE), model.min_samples / _LEAST_SHARE
    if samples < least:
        raise ConfigError(
            f"config.evaluation.window_seconds must be 0 or >= {least / SAMPLE_RATE:g}, so that a last window of a "
            f"quarter has a frame, got {seconds}"
        )
    if samples > limit:
        raise ConfigError(
            f"config.evaluation.window_seconds must be <= {limit / SAMPLE_RATE:g}, the speech encoder's longest input, "
            f"got {seconds}"
        )
    return Windows(samples, at_once=samples if padded else at_once, always=padded)


def predict_windows(
    forward: Callable[[Batch], EmotionOutput], batch: Batch, windows: Windows, mesh: Mesh
) -> EmotionOutput:
    """Predicts a batch window by window.

    Args:
      forward: the model. It is called with windows of one length and one number of rows for any length of the batch.
      batch: batch of utterances; each window gets the tokens and stored rows of its utterance.
      windows: windows of the batch.
      mesh: mesh that rows are sharded over.

    Returns:
      Means over the windows of each utterance (`average_windows`), as NumPy arrays. Probabilities of categories and of
      ratings are averaged and returned as logarithms.
    """
    return averaged_output(average_windows(lambda window: averageable(to_host(forward(window))), batch, windows, mesh))


def averageable(output: EmotionOutput) -> tuple[Float[np.ndarray, "B _"], ...]:
    """Arrays of an output whose means over windows are taken: attributes, probabilities of categories, embedding and,
    if the model predicts them, probabilities of ratings."""
    ratings = () if output.rating_logits is None else (_flat(softmax(output.rating_logits)),)
    return output.attributes, softmax(output.emotion_logits), output.embedding, *ratings


def averaged_output(means: Sequence[Any]) -> EmotionOutput:
    """Output from means of the arrays of `averageable` (B, D); logits are logarithms of probabilities."""
    attributes, probabilities, embedding, *ratings = means
    by_attribute = _logarithms(ratings[0]).reshape(*attributes.shape, -1) if ratings else None
    return EmotionOutput(attributes, _logarithms(probabilities), embedding, rating_logits=by_attribute)


def _flat(values: np.ndarray) -> np.ndarray:
    return values.reshape(len(values), -1)


def _logarithms(probabilities: np.ndarray) -> Any:
    return np.log(np.maximum(probabilities, np.finfo(np.float32).tiny))


def average_windows(
    forward: Callable[[Batch], tuple[Any, ...]], batch: Batch, windows: Windows, mesh: Mesh
) -> tuple[Any, ...]:
    """Averages arrays that are computed window by window.

    Args:
      forward: computes NumPy arrays (B, D) of a batch of windows; see `predict_windows`.
      batch: batch of utterances.
      windows: windows of the batch.
      mesh: mesh that rows are sharded over.

    Returns:
      Means over the windows of each utterance, weighted by their lengths, float32. Rows without a sample are 0.
    """
    num_samples = to_host(batch.num_samples)
    batch = jax.tree.map(jnp.asarray, batch)
    sums: Any = None
    for rows in windows.row_groups(len(num_samples), num_batch_shards(mesh)):
        starts, lengths = windows.bounds(num_samples[rows])
        shares = lengths / np.maximum(lengths.sum(axis=1, keepdims=True), 1)
        for number in np.flatnonzero(lengths.any(axis=0)):
            window = _cut(windows.samples, mesh)(batch, rows, starts[:, number], lengths[:, number])
            parts = forward(window)
            if sums is None:
                sums = [np.zeros((len(num_samples), part.shape[1])) for part in parts]
            for total, part in zip(sums, parts, strict=True):
                total[rows] += shares[:, number, None] * part
    return tuple(total.astype(np.float32) for total in sums)


def softmax(logits: Float[Any, "... C"]) -> Float[np.ndarray, "... C"]:
    """Probabilities from logits along the last axis, in float64."""
    shifted = logits.astype(np.float64) - logits.max(axis=-1, keepdims=True, initial=-np.inf)
    exponentials = np.exp(shifted)
    return exponentials / exponentials.sum(axis=-1, keepdims=True)


@functools.lru_cache(maxsize=8)
def _cut(samples: int, mesh: Mesh) -> Callable[..., Batch]:
    """Compiles the cut of one window per row. The output sharding keeps rows on their devices."""

    def cut(batch: Batch, rows: Int[Array, "R"], starts: Int[Array, "R"], lengths: Int[Array, "R"]) -> Batch:
        chosen = jax.tree.map(lambda values: values[rows], batch)
        offsets = jnp.arange(samples)
        positions = jnp.minimum(starts[:, None] + offsets, batch.waveform.shape[1] - 1)
        waveform = jnp.take_along_axis(chosen.waveform, positions, axis=1)
        return chosen.replace(
            waveform=jnp.where(offsets < lengths[:, None], waveform, 0), num_samples=lengths.astype(jnp.int32)
        )

    return jax.jit(cut, out_shardings=batch_sharding(mesh))
