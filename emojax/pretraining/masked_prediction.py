"""Masked prediction of units: the network and its loss (Hsu et al. 2021, section II-B)."""

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from emojax.encoders.mixed_precision import Linear
from emojax.encoders.speech_config import SpeechEncoderConfig
from emojax.encoders.speech_encoder import SpeechEncoder
from emojax.encoders.time_masking import span_mask
from emojax.pretraining.config import PredictionConfig

_COSINE_FLOOR = 1e-6


class UnitPredictor(nn.Module):
    """A speech encoder that tells which unit each hidden frame belongs to.

    The logit of unit c at frame t is cos(A o_t, e_c) / temperature (eq. 3): o_t are the encoder's last states, A a
    projection, e_c an embedding of the unit. Only the encoder outlives pre-training.
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
        """Logits of the units.

        Args:
          waveform: 16 kHz, pre-processed.
          num_samples: valid samples per row.
          masked: frames hidden from the transformer.
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
    """Spans of frames to hide, at least one in every clip that is longer than a span."""
    return span_mask(key, num_valid, frames, config.mask_probability, config.mask_length, 1)


def masked_loss(
    logits: Float[Array, "B T C"], units: Int[Array, "B T"], counted: Bool[Array, "B T"]
) -> dict[str, Float[Array, ""]]:
    """Sums over the counted frames of the whole batch: cross-entropy, hits of the most likely unit, and their number.

    Divide by `frames` for means; sums of several batches can be added first.
    """
    log_probabilities = jax.nn.log_softmax(logits)
    losses = -jnp.take_along_axis(log_probabilities, units[..., None], axis=-1)[..., 0]
    hits = jnp.argmax(logits, axis=-1) == units
    return {
        "loss": jnp.where(counted, losses, 0.0).sum(),
        "hits": (hits & counted).sum().astype(jnp.float32),
        "frames": counted.sum().astype(jnp.float32),
    }


def _unit_length(vectors: Float[Array, "*B D"]) -> Float[Array, "*B D"]:
    return vectors / jnp.sqrt(jnp.square(vectors).sum(axis=-1, keepdims=True) + _COSINE_FLOOR)
