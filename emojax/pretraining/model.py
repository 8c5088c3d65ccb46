"""The network of HuBERT pre-training, masked prediction and its loss."""

import dataclasses
from typing import Any

import flax.linen as nn
import flax.struct
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from emojax.encoders import ComputeOptions, Encoder
from emojax.encoders.families import family_of
from emojax.encoders.mixed_precision import Linear
from emojax.encoders.speech_config import SpeechEncoderConfig
from emojax.encoders.speech_encoder import SpeechEncoder
from emojax.encoders.speech_features import span_mask
from emojax.encoders.waveform_inputs import WaveformInputs
from emojax.errors import ConfigError
from emojax.pretraining.config import CONVOLUTIONAL, PredictionConfig, PretrainConfig
from emojax.types import SAMPLE_RATE

_COSINE_FLOOR = 1e-6


class UnitPredictor(nn.Module):
    """A speech encoder that predicts the unit of each masked frame.

    The logit of unit c at frame t is cos(A o_t, e_c) / temperature (eq. 3): o_t are the encoder's last states, A a
    projection, e_c an embedding of the unit. Only the encoder is kept after pre-training.
    """

    encoder_config: SpeechEncoderConfig
    prediction: PredictionConfig
    num_units: int
    dtype: Any = jnp.float32
    remat: bool = False

    @nn.compact
    def __call__(
        self, waveform: Float[Array, "B S"], num_samples: Int[Array, "B"], masked: Bool[Array, "B T"], *, train: bool
    ) -> Float[Array, "B T C"]:
        """Computes logits of the units.

        Args:
          waveform: 16 kHz, pre-processed.
          num_samples: valid samples per row.
          masked: frames whose features are replaced by the mask embedding.
          train: dropout and layer drop are on; needs the rng stream `dropout`.
        """
        encoder = SpeechEncoder(self.encoder_config, self.dtype, self.remat, name="encoder")
        states = encoder(waveform, num_samples, masked=masked, train=train).last_hidden_state
        size = self.prediction.projection_size
        projected = _unit_length(Linear(size, self.dtype, name="projection")(states).astype(jnp.float32))
        codes = self.param("codes", nn.initializers.normal(1.0), (self.num_units, size))
        return projected @ _unit_length(codes).T / self.prediction.temperature


def choose_masked(
    key: jax.Array, num_valid: Int[Array, "B"], frames: int, config: PredictionConfig
) -> Bool[Array, "B T"]:
    """Draws spans of frames to mask, at least one in every clip that is longer than a span."""
    return span_mask(key, num_valid, frames, config.mask_probability, config.mask_length, 1)


@flax.struct.dataclass
class PredictionSums:
    """Sums over frames of a whole batch; those of several batches can be added.

    Attributes:
      losses: cross-entropy of masked and of visible frames.
      hits: frames whose unit was the most likely one.
      frames: number of frames.
    """

    losses: Float[Array, "2"]
    hits: Float[Array, "2"]
    frames: Float[Array, "2"]

    @property
    def means(self) -> tuple[Float[Array, "2"], Float[Array, "2"]]:
        """Mean loss and accuracy of masked and of visible frames; 0 where there are none."""
        count = jnp.maximum(self.frames, 1.0)
        return self.losses / count, self.hits / count


def prediction_sums(
    logits: Float[Array, "B T C"], units: Int[Array, "B T"], masked: Bool[Array, "B T"], valid: Bool[Array, "B T"]
) -> PredictionSums:
    """Sums cross-entropy and hits of masked and of visible frames (Hsu et al. 2021, eq. 1: L_m and L_u).

    Args:
      logits: logits of the units.
      units: targets.
      masked: masked frames.
      valid: frames that are no padding.
    """
    losses = -jnp.take_along_axis(jax.nn.log_softmax(logits), units[..., None], axis=-1)[..., 0]
    hits = (jnp.argmax(logits, axis=-1) == units).astype(jnp.float32)
    parts = jnp.stack([masked & valid, ~masked & valid]).astype(jnp.float32)
    return PredictionSums(
        jnp.einsum("kbt,bt->k", parts, losses), jnp.einsum("kbt,bt->k", parts, hits), parts.sum(axis=(1, 2))
    )


def _unit_length(vectors: Float[Array, "*B D"]) -> Float[Array, "*B D"]:
    return vectors / jnp.sqrt(jnp.square(vectors).sum(axis=-1, keepdims=True) + _COSINE_FLOOR)


_PREPROCESSOR = {
    "feature_extractor_type": "Wav2Vec2FeatureExtractor",
    "do_normalize": True,
    "feature_size": 1,
    "padding_side": "right",
    "padding_value": 0.0,
    "return_attention_mask": True,
    "sampling_rate": SAMPLE_RATE,
}
"""Content of `preprocessor_config.json` of an encoder trained from random parameters."""


@dataclasses.dataclass(frozen=True)
class Network:
    """The network and its initial parameters.

    Attributes:
      predictor: the encoder with its prediction head.
      published: content of the encoder's `config.json`.
      preprocess: waveform normalisation of the encoder.
      start: initial parameters of the encoder; None for random ones.
    """

    predictor: UnitPredictor
    published: dict[str, Any]
    preprocess: WaveformInputs
    start: Any

    def encoder(self, params: Any) -> Encoder:
        """The encoder with these parameters, as `save_encoder` takes it."""
        return Encoder(_module(self.published, ComputeOptions()), params, self.published, self.preprocess)


def make_network(config: PretrainConfig, options: ComputeOptions, start: Encoder | None) -> Network:
    """Builds the network.

    Args:
      config: config of the pre-training; sizes of the encoder are used without `start`.
      options: dtype and rematerialisation of the encoder.
      start: encoder to continue from.

    Raises:
      CheckpointError: a size is out of bounds.
      ConfigError: `start` is not an encoder of waveforms with convolutions.
    """
    if start is not None and not isinstance(start.module, SpeechEncoder):
        raise ConfigError(
            f"config.encoder.checkpoint must be {CONVOLUTIONAL}, got {start.family.model_type} "
            f"({config.encoder.checkpoint})"
        )
    published = config.encoder.published() if start is None else dict(start.config)
    sizes = _module(published, options).config
    preprocess: Any = WaveformInputs.of(sizes, _PREPROCESSOR) if start is None else start.inputs
    predictor = UnitPredictor(sizes, config.prediction, config.units.clusters, options.dtype, options.remat)
    return Network(predictor, published, preprocess, None if start is None else start.params)


def _module(published: dict[str, Any], options: ComputeOptions) -> Any:
    family = family_of(published)
    return family.build_module(published, family.optional_names, options)
