"""Whisper's encoder (Radford et al. 2023): log-mel features, convolutions, positions, pre-norm transformer layers."""

import dataclasses
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int

from emojax.encoders.encoder import Encoder
from emojax.encoders.families import EncoderOutput
from emojax.encoders.layers import ACTIVATIONS, Dropout
from emojax.encoders.mixed_precision import wide
from emojax.encoders.norms import layer_norm
from emojax.encoders.transformer import LayerStack
from emojax.encoders.transformer_config import TransformerConfig
from emojax.encoders.whisper_inputs import SAMPLES_PER_FRAME, WINDOW, whisper_log_mel
from emojax.errors import AudioError, ConfigError


@dataclasses.dataclass(frozen=True)
class WhisperConfig(TransformerConfig):
    """Sizes and options of one Whisper encoder.

    Attributes:
      num_bands: K, mel bands.
      max_frames: positions, one per 20 ms.
    """

    num_bands: int
    max_frames: int

    @property
    def max_samples(self) -> int:
        """Longest input in samples: 30 s in all published models."""
        return self.max_frames * SAMPLES_PER_FRAME


class WhisperEncoder(nn.Module):
    """Whisper's encoder (Radford et al. 2023, section 2.2), from the waveform to hidden states every 20 ms.

    With `padded=False` each clip is computed at its own length: positions are cut to it, and padding is neither
    attended to nor part of the maximum of the log-mel energies, so that results do not depend on the rest of the batch.
    The cost is in proportion to the audio. Hidden states differ from those of the published use, in which the layers
    also attend to the silence up to 30 s: in pre-training every short clip was followed by it.

    With `padded=True` each clip is padded by silence to 30 s, as published. Every one of the 1500 frames is valid and
    computed, silence included. Decoders of published checkpoints expect these.

    Attributes:
      config: sizes and options.
      dtype: type of the operands of the matrix products of the layers.
      remat: keep only the input of each layer, and `remat_saves`, for the backward pass.
      scan_layers: one compiled layer over stacked parameters.
      remat_saves: key of `layers.REMAT_SAVES`.
      padded: pad clips to the longest length.
    """

    config: WhisperConfig
    dtype: Any = jnp.float32
    remat: bool = False
    scan_layers: bool = False
    remat_saves: str = "nothing"
    padded: bool = False

    @nn.compact
    def __call__(
        self,
        waveform: Float[Array, "B S"],
        num_samples: Int[Array, "B"],
        *,
        train: bool = False,
        hidden_states: bool = False,
    ) -> EncoderOutput:
        """Computes hidden states; a clip of n samples has (n // 160 + 1) // 2 frames of its own.

        Args:
          waveform: 16 kHz mono, full scale 1.0; values after `num_samples` never matter.
          num_samples: valid samples per row; fewer than 400 give an all-False mask row.
          train: dropout and layer drop are on; needs the rng stream `dropout`.
          hidden_states: whether to return the hidden states of every layer. As in transformers, the last one is after
            the final layer norm.

        Raises:
          AudioError: S is below 400 or above the longest length.
        """
        config, samples = self.config, waveform.shape[1]
        if not WINDOW <= samples <= config.max_samples:
            raise AudioError(f"waveform: must have {WINDOW} to {config.max_samples} samples, got {samples}")
        waveform = jnp.where(jnp.arange(samples) < num_samples[:, None], waveform, 0.0).astype(wide(self.dtype))
        num_samples = jnp.where(num_samples < WINDOW, 0, num_samples)
        if self.padded:
            waveform = jnp.pad(waveform, ((0, 0), (0, config.max_samples - samples)))
            num_samples = jnp.where(num_samples > 0, config.max_samples, 0)
        features, mask = whisper_log_mel(waveform, num_samples, config.num_bands)
        states, mask = WhisperFeatureEncoder(config, name="feature_encoder")(features, mask)
        transformer = WhisperTransformer(
            config, self.dtype, self.remat, self.scan_layers, self.remat_saves, name="transformer"
        )
        last, kept = transformer(states, mask, train=train, hidden_states=hidden_states)
        return EncoderOutput(last, mask, kept)


def padded_encoder(encoder: Encoder, field: str = "padded") -> Encoder:
    """Makes an encoder that pads clips to 30 s, as published, from one that computes them at their own length.

    Args:
      encoder: Whisper encoder.
      field: config field that asks for it, for messages.

    Raises:
      ConfigError: the encoder is of another family.
    """
    return dataclasses.replace(encoder, module=padded_module(encoder.module, field))


def padded_module(module: nn.Module, field: str = "padded") -> nn.Module:
    """Makes a module that pads clips to 30 s; see `padded_encoder`.

    Args:
      module: module of a Whisper encoder.
      field: config field that asks for it, for messages.

    Raises:
      ConfigError: the module is of another family.
    """
    if not isinstance(module, WhisperEncoder):
        raise ConfigError(f"{field} must be False for {type(module).__name__}: only Whisper pads clips to one length")
    return module.clone(padded=True)


class WhisperFeatureEncoder(nn.Module):
    """Two convolutions over log-mel features, and positions; in the type of the features."""

    config: WhisperConfig

    @nn.compact
    def __call__(
        self, features: Float[Array, "B T K"], mask: Bool[Array, "B T"]
    ) -> tuple[Float[Array, "B T2 D"], Bool[Array, "B T2"]]:
        """Computes the input of the transformer and its mask; features after the clip count as zero."""
        config = self.config
        states = jnp.where(mask[..., None], features, 0.0)
        states = jnp.where(mask[..., None], PaddedConvolution(config, 1, name="conv_0")(states), 0.0)
        states = PaddedConvolution(config, 2, name="conv_1")(states)
        # That is `mask[:, ::2]`, whose length would not be known to be that of the states where it is symbolic.
        mask = jnp.arange(states.shape[1]) < ((mask.sum(axis=1) + 1) // 2)[:, None]
        shape = (config.max_frames, config.hidden_size)
        # A constant of the architecture, a parameter because checkpoints store it.
        positions = jax.lax.stop_gradient(self.param("sinusoids", _init_sinusoids, shape))
        return states + positions[: states.shape[1]].astype(states.dtype), mask


class PaddedConvolution(nn.Module):
    """Convolution of three taps with bias and activation; one frame of zeros before and after."""

    config: WhisperConfig
    stride: int

    @nn.compact
    def __call__(self, states: Float[Array, "B T C"]) -> Float[Array, "B T2 D"]:
        """Computes every `stride`-th frame."""
        config = self.config
        shape = (3, states.shape[-1], config.hidden_size)
        kernel = self.param("kernel", nn.initializers.lecun_normal(in_axis=(0, 1)), shape)
        bias = self.param("bias", nn.initializers.zeros, shape[-1:])
        outputs = jax.lax.conv_general_dilated(
            states,
            kernel.astype(states.dtype),
            window_strides=(self.stride,),
            padding=[(1, 1)],
            dimension_numbers=("NWC", "WIO", "NWC"),
        )
        return ACTIVATIONS["gelu"](outputs + bias.astype(states.dtype))


class WhisperTransformer(LayerStack):
    """Pre-norm transformer layers and the final norm."""

    config: WhisperConfig

    @nn.compact
    def __call__(
        self, states: Float[Array, "B T D"], mask: Bool[Array, "B T"], *, train: bool, hidden_states: bool
    ) -> tuple[Float[Array, "B T D"], tuple[Float[Array, "B T D"], ...] | None]:
        """Computes the last hidden states, and if requested the input of the first layer and the output of each.

        Args:
          states: with positions.
          mask: True on valid frames.
          train: dropout and layer drop are on; needs the rng stream `dropout`.
          hidden_states: whether to return the hidden states of all layers.
        """
        config = self.config
        states = Dropout(config.hidden_dropout, not train)(states)
        states, kept = self.run_layers(states, mask, None, train, hidden_states)
        last = layer_norm(config.layer_norm_epsilon, self.dtype, "norm")(states)
        return last, None if kept is None else (*kept[:-1], last)


def sinusoids(length: int, width: int) -> np.ndarray:
    """Computes float32 (length, width) positions: sines, then cosines, of wavelengths 2 pi to 20,000 pi frames."""
    rates = np.exp(-np.log(10_000) / (width // 2 - 1) * np.arange(width // 2))
    angles = np.arange(length)[:, None] * rates
    return np.concatenate([np.sin(angles), np.cos(angles)], axis=1).astype(np.float32)


def _init_sinusoids(key: jax.Array, shape: tuple[int, int], dtype: Any = jnp.float32) -> jax.Array:
    return jnp.asarray(sinusoids(*shape), dtype)
