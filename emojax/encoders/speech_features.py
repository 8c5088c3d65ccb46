"""The convolutional feature encoder: waveform to one feature vector every 20 ms, with masked statistics."""

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from emojax.encoders.activations import ACTIVATIONS
from emojax.encoders.masked_statistics import masked_statistics
from emojax.encoders.mixed_precision import layer_norm
from emojax.encoders.speech_config import ConvolutionConfig
from emojax.errors import AudioError

# PyTorch's defaults, which the published models keep here whatever `layer_norm_eps` says.
_EPSILON = 1e-5


def num_frames(num_samples: Int[Array, "*B"], config: ConvolutionConfig) -> Int[Array, "*B"]:
    """Frames the feature encoder makes of so many samples; 0 below the receptive field.

    Equal to `_get_feat_extract_output_lengths` of transformers, except that it never gets negative.
    """
    return jnp.maximum(_conv_length(num_samples, config, len(config.kernels)), 0)


class FeatureEncoder(nn.Module):
    """Strided 1-D convolutions without padding (Baevski et al. 2020, section 2), channels last.

    A frame depends on no sample outside its receptive field, so frames before `num_frames` never see padding. Only
    the group norm looks at a whole clip: its statistics are taken over the valid frames, which makes the result equal
    to that for the clip alone. Everything is computed in the type of the waveform.
    """

    config: ConvolutionConfig
    remat: bool = False

    @nn.compact
    def __call__(self, waveform: Float[Array, "B S"], num_samples: Int[Array, "B"]) -> Float[Array, "B T C"]:
        """Features; those at `num_frames(num_samples)` and after are void.

        Raises:
          AudioError: S is below the receptive field.
        """
        if waveform.shape[1] < self.config.receptive_field:
            raise AudioError(
                f"waveform: {waveform.shape[1]} samples are too short for one frame; "
                f"allowed: at least {self.config.receptive_field}"
            )
        layer = nn.remat(ConvolutionLayer) if self.remat else ConvolutionLayer
        states = waveform[..., None]
        for index in range(len(self.config.kernels)):
            length = jnp.maximum(_conv_length(num_samples, self.config, index + 1), 0)
            mask = jnp.arange(_conv_length(waveform.shape[1], self.config, index + 1)) < length[:, None]
            states = layer(self.config, index, name=f"conv_{index}")(states, mask)
        return states


class ConvolutionLayer(nn.Module):
    """One convolution with its norm, if it has one, and activation."""

    config: ConvolutionConfig
    index: int

    @nn.compact
    def __call__(self, states: Float[Array, "B T C"], mask: Bool[Array, "B T2"]) -> Float[Array, "B T2 C2"]:
        """Output of the layer; `mask` is True on its valid frames."""
        config, index = self.config, self.index
        sizes = config.channels[index], config.kernels[index], config.strides[index]
        states = Convolution(*sizes, config.bias, name="conv")(states)
        if config.norm == "layer":
            states = layer_norm(_EPSILON, states.dtype, "norm")(states)
        elif index == 0:
            states = MaskedChannelNorm(name="norm")(states, mask)
        return ACTIVATIONS[config.activation](states)


class Convolution(nn.Module):
    """A strided convolution over frames, without padding."""

    channels: int
    taps: int
    stride: int
    use_bias: bool

    @nn.compact
    def __call__(self, states: Float[Array, "B T C"]) -> Float[Array, "B T2 C2"]:
        """Convolved states."""
        shape = (self.taps, states.shape[-1], self.channels)
        kernel = self.param("kernel", nn.initializers.he_normal(), shape)
        outputs = jax.lax.conv_general_dilated(
            states,
            kernel.astype(states.dtype),
            window_strides=(self.stride,),
            padding="VALID",
            dimension_numbers=("NWC", "WIO", "NWC"),
        )
        if self.use_bias:
            outputs = outputs + self.param("bias", nn.initializers.zeros, (self.channels,)).astype(states.dtype)
        return outputs


class MaskedChannelNorm(nn.Module):
    """Group norm with one channel per group, over the valid frames of each clip; in the type of the states."""

    @nn.compact
    def __call__(self, states: Float[Array, "B T C"], mask: Bool[Array, "B T"]) -> Float[Array, "B T C"]:
        """Normalised, scaled and shifted states."""
        channels = states.shape[-1]
        scale = self.param("scale", nn.initializers.ones, (channels,))
        bias = self.param("bias", nn.initializers.zeros, (channels,))
        mean, variance = masked_statistics(states, mask)
        gain = scale * (variance + _EPSILON) ** -0.5
        return _centred_and_scaled(states, mean, gain, bias)


@jax.checkpoint
def _centred_and_scaled(states: Array, mean: Array, gain: Array, bias: Array) -> Array:
    return (states - mean) * gain + bias


def _conv_length(length: Any, config: ConvolutionConfig, num_layers: int) -> Any:
    for kernel, stride in zip(config.kernels[:num_layers], config.strides[:num_layers], strict=True):
        length = (length - kernel) // stride + 1
    return length
