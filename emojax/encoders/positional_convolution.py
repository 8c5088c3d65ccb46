"""The convolution that tells the transformer where a frame is."""

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from emojax.encoders.activations import ACTIVATIONS
from emojax.encoders.mixed_precision import wide
from emojax.encoders.speech_config import SpeechEncoderConfig

_BATCH_NORM_EPSILON = 1e-5


def grouped_convolution(
    states: Float[Array, "B T D"], kernel: Float[Array, "N I D"], groups: int
) -> Float[Array, "B T D"]:
    """Convolution in `groups` independent groups of channels that keeps the number of frames.

    One convolution per group, concatenated. With `feature_group_count` XLA gathers the whole batch on every device
    under data parallelism (openxla/xla#47945), takes about ten times as long for the gradient of the kernel on CPU,
    and half as long again for the rest.

    Args:
      states: zero where there is no speech.
      kernel: of the same type; N taps, I = D / groups input channels per group; tap N // 2 meets the frame itself.
      groups: divides D.

    Returns:
      The sums, in at least float32.
    """
    taps = kernel.shape[0]
    # PyTorch pads N // 2 on both sides; with an even N the published models then drop the last frame.
    padding = [(taps // 2, taps - 1 - taps // 2)]
    return jnp.concatenate(
        [
            jax.lax.conv_general_dilated(
                part,
                taps_of_part,
                window_strides=(1,),
                padding=padding,
                dimension_numbers=("NWC", "WIO", "NWC"),
                preferred_element_type=wide(states.dtype),
            )
            for part, taps_of_part in zip(jnp.split(states, groups, -1), jnp.split(kernel, groups, -1), strict=True)
        ],
        axis=-1,
    )


class PositionalConvolution(nn.Module):
    """Relative positional embedding (Baevski et al. 2020, section 2); the weight norm is folded into the kernel."""

    config: SpeechEncoderConfig
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, states: Float[Array, "B T D"], mask: Bool[Array, "B T"]) -> Float[Array, "B T D"]:
        """What is added to the states; those that `mask` calls invalid count as zero, like those beyond the ends."""
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
        """Normalised states."""
        shape = states.shape[-1:]
        scale = self.param("scale", nn.initializers.ones, shape)
        bias = self.param("bias", nn.initializers.zeros, shape)
        mean = jax.lax.stop_gradient(self.param("mean", nn.initializers.zeros, shape))
        variance = jax.lax.stop_gradient(self.param("variance", nn.initializers.ones, shape))
        return (states - mean) * (scale * (variance + _BATCH_NORM_EPSILON) ** -0.5) + bias
