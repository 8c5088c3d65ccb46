"""Units: the cluster of each frame of speech, computed inside the step from the waveform."""

import dataclasses
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, Float, Int

from emojax.audio import NUM_COEFFICIENTS, mfcc
from emojax.data import BatchStream
from emojax.encoders import Encoder, select_layers
from emojax.encoders.speech_encoder import SpeechEncoder
from emojax.encoders.waveform_inputs import WaveformInputs
from emojax.errors import ConfigError
from emojax.parallel import to_host, with_mesh
from emojax.pretraining.config import CONVOLUTIONAL
from emojax.progress import Progress
from emojax.types import Batch

_WINDOW, _HOP = 400, 320
"""Samples of a frame and between two: 25 ms every 20 ms."""


@dataclasses.dataclass(frozen=True)
class UnitFeatures:
    """Features that units are clusters of: MFCC, or hidden states of an encoder, both every 20 ms.

    Attributes:
      module: the encoder; None for MFCC.
      preprocess: waveform normalisation of the encoder.
      layer: layer of its hidden states.
      num_layers: number of layers of the encoder.
      centred: whether each utterance's mean is subtracted.
    """

    module: nn.Module | None = None
    preprocess: WaveformInputs | None = None
    layer: int = 0
    num_layers: int = 0
    centred: bool = False

    @classmethod
    def of(cls, encoder: Encoder, layer: int, centred: bool) -> "UnitFeatures":
        """States of one layer (counted from 0) of a speech encoder.

        Raises:
          ConfigError: it is not a speech encoder with a frame of 25 ms every 20 ms.
        """
        if not isinstance(encoder.module, SpeechEncoder) or not isinstance(encoder.inputs, WaveformInputs):
            raise ConfigError(f"config.units.checkpoint must be {CONVOLUTIONAL}, got {encoder.family.model_type}")
        convolution = encoder.module.config.convolution
        if (convolution.receptive_field, convolution.samples_per_frame) != (_WINDOW, _HOP):
            raise ConfigError(
                "config.units.checkpoint must have a frame of 400 samples every 320, got "
                f"{convolution.receptive_field} every {convolution.samples_per_frame}"
            )
        return cls(encoder.module, encoder.inputs, layer, encoder.num_layers, centred)

    @property
    def size(self) -> int:
        """Features per frame."""
        return 3 * NUM_COEFFICIENTS if self.module is None else self.module.config.hidden_size

    def __call__(self, params: Any, batch: Batch) -> Float[Array, "B T D"]:
        """Features of the frames a speech encoder has.

        Args:
          params: parameters of the encoder; {} for MFCC.
          batch: utterances, of which the waveforms are used.
        """
        features = self._features(params, batch)
        if not self.centred:
            return features
        valid = jnp.arange(features.shape[1]) < num_valid_frames(batch.num_samples)[:, None]
        count = jnp.maximum(valid.sum(axis=1), 1)[:, None]
        return features - (jnp.where(valid[..., None], features, 0.0).sum(axis=1) / count)[:, None]

    def _features(self, params: Any, batch: Batch) -> Float[Array, "B T D"]:
        if self.module is None:
            # The frames of 25 ms every 10 ms include the encoder's, of 25 ms every 20 ms.
            frames = max((batch.waveform.shape[1] - _WINDOW) // _HOP + 1, 1)
            return mfcc(batch.waveform, batch.num_samples)[:, ::2][:, :frames]
        assert self.preprocess is not None
        waveform = self.preprocess(to_float(batch.waveform), batch.num_samples)
        every = self.layer != self.num_layers
        output: Any = self.module.apply({"params": params}, waveform, batch.num_samples, hidden_states=every)
        return select_layers(output, (self.layer,), self.num_layers)[:, :, 0]


def num_valid_frames(num_samples: Any) -> Any:
    """Number of frames of MFCC and of every published speech encoder; 0 below one frame."""
    return ((num_samples - _WINDOW) // _HOP + 1).clip(0)


def to_float(waveform: Array) -> Float[Array, "B S"]:
    """Waveforms at full scale 1.0."""
    if jnp.issubdtype(waveform.dtype, jnp.integer):
        return waveform.astype(jnp.float32) / 2**15
    return waveform


def assign_units(features: Float[Array, "B T D"], centroids: Float[Array, "K D"]) -> Int[Array, "B T"]:
    """The nearest centroid of every frame."""
    # |f - c|^2 without |f|^2, which all centroids share.
    products = jnp.einsum("btd,kd->btk", features, centroids, precision=lax.Precision.HIGHEST)
    return jnp.argmax(products - 0.5 * jnp.square(centroids).sum(axis=1), axis=-1).astype(jnp.int32)


def fit_centroids(
    features: UnitFeatures, params: Any, stream: BatchStream, clusters: int, fit_frames: int, seed: int
) -> Float[np.ndarray, "K D"]:
    """Clusters frames of training batches by mini-batch k-means (scikit-learn).

    Args:
      features: features that are clustered.
      params: parameters of their encoder.
      stream: training batches; the first epoch is read, its position does not change.
      clusters: number of units.
      fit_frames: largest number of frames.
      seed: seed of k-means.

    Raises:
      ConfigError: scikit-learn is not installed, or there are fewer frames than clusters.
    """
    try:
        from sklearn.cluster import MiniBatchKMeans
    except ImportError as error:
        raise ConfigError(
            "pre-training needs scikit-learn, which is not installed (pip install scikit-learn)"
        ) from error
    compute = jax.jit(with_mesh(features, stream.mesh))
    gathered: list[np.ndarray] = []
    count = 0
    with Progress("gather frames for units", fit_frames, "frames") as progress:
        for number in range(stream.plan.batches_per_epoch):
            batch = stream.load(number)
            values, lengths = to_host((compute(params, batch), batch.num_samples))
            valid = np.arange(values.shape[1]) < num_valid_frames(lengths)[:, None]
            gathered.append(values[valid].astype(np.float32))
            progress.advance(min(len(gathered[-1]), fit_frames - count))
            count += len(gathered[-1])
            if count >= fit_frames:
                break
    frames = np.concatenate(gathered)[:fit_frames]
    if len(frames) < clusters:
        raise ConfigError(f"config.units.clusters must be <= {len(frames)}, the frames there are, got {clusters}")
    # As HuBERT's: k-means++, batches of 10,000 frames, no cluster reassigned; fewer restarts of the start.
    kmeans = MiniBatchKMeans(
        clusters, max_iter=100, batch_size=10_000, n_init=5, max_no_improvement=100, reassignment_ratio=0.0,
        random_state=seed,
    )  # fmt: skip
    return np.asarray(kmeans.fit(frames).cluster_centers_, np.float32)
