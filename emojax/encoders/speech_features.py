"""Convolutions of speech encoders: feature encoder, positional embedding, and masking of features in training."""

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from emojax.encoders.layers import ACTIVATIONS, grouped_convolution
from emojax.encoders.norms import layer_norm, masked_statistics
from emojax.encoders.speech_config import ConvolutionConfig, MaskingConfig, SpeechEncoderConfig
from emojax.errors import AudioError
from emojax.parallel import on_single_cpu

# PyTorch's defaults, which the published models have here for any value of `layer_norm_eps`.
_EPSILON = 1e-5


def num_frames(num_samples: Int[Array, "*B"], config: ConvolutionConfig) -> Int[Array, "*B"]:
    """Computes the number of frames for a number of samples; 0 below the receptive field.

    Equal to `_get_feat_extract_output_lengths` of transformers, except that it never gets negative.
    """
    return jnp.maximum(_conv_length(num_samples, config, len(config.kernels)), 0)


class FeatureEncoder(nn.Module):
    """Strided 1-D convolutions without padding (Baevski et al. 2020, section 2), channels last.

    A frame depends on no sample outside its receptive field, so frames before `num_frames` do not depend on padding.
    Only the group norm uses a whole recording: its statistics are computed over the valid frames, which makes the
    result equal to that for the recording alone. Everything is computed in the type of the waveform.
    """

    config: ConvolutionConfig
    remat: bool = False

    @nn.compact
    def __call__(self, waveform: Float[Array, "B S"], num_samples: Int[Array, "B"]) -> Float[Array, "B T C"]:
        """Computes features; those at `num_frames(num_samples)` and after are meaningless.

        Raises:
          AudioError: S is below the receptive field.
        """
        if waveform.shape[1] < self.config.receptive_field:
            raise AudioError(
                f"waveform must have at least {self.config.receptive_field} samples (one frame), "
                f"got {waveform.shape[1]}"
            )
        if on_single_cpu() and isinstance(waveform.shape[0], int) and waveform.shape[0] > 1:
            features: jax.Array = _row_by_row(self, waveform, num_samples)
            return features
        return self._features(waveform, num_samples)

    def _features(self, waveform: Float[Array, "B S"], num_samples: Int[Array, "B"]) -> Float[Array, "B T C"]:
        layer = nn.remat(ConvolutionLayer) if self.remat else ConvolutionLayer
        states = waveform[..., None]
        for index in range(len(self.config.kernels)):
            length = jnp.maximum(_conv_length(num_samples, self.config, index + 1), 0)
            mask = jnp.arange(_conv_length(waveform.shape[1], self.config, index + 1)) < length[:, None]
            states = layer(self.config, index, name=f"conv_{index}")(states, mask)
        return states


def _one_after_another(
    module: FeatureEncoder, waveform: Float[Array, "B S"], num_samples: Int[Array, "B"]
) -> Float[Array, "B T C"]:
    def body(module: Any, carry: tuple[()], row: tuple[jax.Array, jax.Array]) -> tuple[tuple[()], jax.Array]:
        return carry, module._features(row[0][None], row[1][None])[0]

    rows = nn.scan(body, variable_broadcast="params", split_rngs={"params": False})
    features: jax.Array = rows(module, (), (waveform, num_samples))[1]
    return features


def _together_for_gradient(module: FeatureEncoder, waveform: jax.Array, num_samples: jax.Array) -> Any:
    lengths = jnp.asarray(num_samples)  # JAX passes constants as NumPy arrays
    return nn.vjp(lambda module, waveform: module._features(waveform, lengths), module, waveform)


_row_by_row = nn.custom_vjp(
    _one_after_another,
    forward_fn=_together_for_gradient,
    backward_fn=lambda transposed, cotangent: (*transposed(cotangent), None),
)
"""`FeatureEncoder._features` on a CPU: one recording at a time, whose arrays of up to 16,000 frames per second take the
memory of one recording, and fit better into the cache. Its gradient is that of the batch: in a loop, XLA's gradient of
a convolution by its kernel takes a hundred times as long."""


class ConvolutionLayer(nn.Module):
    """One convolution with its norm, if it has one, and activation."""

    config: ConvolutionConfig
    index: int

    @nn.compact
    def __call__(self, states: Float[Array, "B T C"], mask: Bool[Array, "B T2"]) -> Float[Array, "B T2 C2"]:
        """Computes the output of the layer; `mask` is True on its valid frames."""
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
        """Computes the convolution."""
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
    """Group norm with one channel per group, over the valid frames of each recording; in the type of the states."""

    @nn.compact
    def __call__(self, states: Float[Array, "B T C"], mask: Bool[Array, "B T"]) -> Float[Array, "B T C"]:
        """Computes normalised, scaled and shifted states."""
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


_BATCH_NORM_EPSILON = 1e-5


class PositionalConvolution(nn.Module):
    """Relative positional embedding (Baevski et al. 2020, section 2); the weight norm is folded into the kernel."""

    config: SpeechEncoderConfig
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, states: Float[Array, "B T D"], mask: Bool[Array, "B T"]) -> Float[Array, "B T D"]:
        """Computes the embedding; frames where `mask` is False count as zero, like those beyond the ends."""
        config = self.config
        if config.position_batch_norm:
            states = FrozenBatchNorm(name="batch_norm")(states)
        states = jnp.where(mask[..., None], states, 0.0)
        shape = (config.position_taps, config.hidden_size // config.position_groups, config.hidden_size)
        kernel = self.param("kernel", nn.initializers.lecun_normal(in_axis=(0, 1)), shape)
        bias = self.param("bias", nn.initializers.zeros, shape[-1:])
        states = grouped_convolution(states.astype(self.dtype), kernel.astype(self.dtype), config.position_groups)
        return ACTIVATIONS[config.convolution.activation](states + bias.astype(states.dtype))


class FrozenBatchNorm(nn.Module):
    """Batch norm with the statistics of the checkpoint, also in training; they get no gradient."""

    @nn.compact
    def __call__(self, states: Float[Array, "B T D"]) -> Float[Array, "B T D"]:
        """Computes normalised states."""
        shape = states.shape[-1:]
        scale = self.param("scale", nn.initializers.ones, shape)
        bias = self.param("bias", nn.initializers.zeros, shape)
        mean = jax.lax.stop_gradient(self.param("mean", nn.initializers.zeros, shape))
        variance = jax.lax.stop_gradient(self.param("variance", nn.initializers.ones, shape))
        return (states - mean) * (scale * (variance + _BATCH_NORM_EPSILON) ** -0.5) + bias


def mask_states(
    key: jax.Array,
    states: Float[Array, "B T D"],
    num_frames: Int[Array, "B"],
    embedding: Float[Array, "D"],
    config: MaskingConfig,
) -> Float[Array, "B T D"]:
    """Replaces spans of frames by `embedding` and spans of features by zero.

    Args:
      key: random key; the same key masks the same spans.
      states: projected features.
      num_frames: valid frames per row; spans lie within them.
      embedding: value of masked frames.
      config: shares and lengths of the spans.
    """
    time_key, feature_key = jax.random.split(key)
    batch, frames, features = states.shape
    if config.time_probability > 0:
        masked = span_mask(
            time_key, num_frames, frames, config.time_probability, config.time_length, config.time_minimum
        )
        states = jnp.where(masked[..., None], embedding.astype(states.dtype), states)
    if config.feature_probability > 0:
        every = jnp.full((batch,), features)
        masked = span_mask(
            feature_key, every, features, config.feature_probability, config.feature_length, config.feature_minimum
        )
        states = jnp.where(masked[:, None, :], 0.0, states)
    return states


def span_mask(
    key: jax.Array, num_valid: Int[Array, "B"], size: int, probability: float, span: int, minimum: int
) -> Bool[Array, "B N"]:
    """Draws a mask that is True on random spans within the first `num_valid` of `size` positions of each row.

    A row gets `probability * num_valid / span` spans, rounded up or down at random, at least `minimum`, and not more
    than fit side by side. Their starts are different, chosen uniformly; spans may overlap.
    """
    round_key, start_key = jax.random.split(key)
    rounding = jax.random.uniform(round_key, num_valid.shape)
    num_spans = jnp.floor(probability * num_valid / span + rounding).astype(jnp.int32)
    num_spans = jnp.minimum(jnp.maximum(num_spans, minimum), num_valid // span)
    # The starts with the smallest random scores: a choice without replacement whose shape does not depend on data.
    scores = jax.random.uniform(start_key, (num_valid.shape[0], size))
    possible = jnp.arange(size) <= (num_valid - span)[:, None]
    ranks = jnp.argsort(jnp.argsort(jnp.where(possible, scores, jnp.inf)))
    started = jnp.cumsum((ranks < num_spans[:, None]) & possible, axis=1)
    ended = jnp.pad(started, ((0, 0), (span, 0)))[:, :size]
    return started > ended
