"""Residual convolution over the past, frame by frame: what a student has in place of recurrence."""

from typing import Any

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Array, Float

from emojax.models.product import Dense


class CausalBlock(nn.Module):
    """Layer norm, depthwise dilated convolution over this and earlier frames, GELU, dense layer; added to the input.

    A separable convolution costs a quarter of two dense layers with twice the width between them, so that for the same
    time there are more blocks, which see farther.

    Attributes:
      kernel_size: frames the convolution sees.
      dilation: distance between them.
      dtype: of the products.
    """

    kernel_size: int
    dilation: int
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(
        self, frames: Float[Array, "B T C"], context: Float[Array, "B P C"]
    ) -> tuple[Float[Array, "B T C"], Float[Array, "B P C"]]:
        """Continues a stream.

        Args:
          frames: new frames.
          context: the P = (kernel_size - 1) * dilation normalised frames before them; zeros at the start.

        Returns:
          As many frames, and the context of what follows.
        """
        channels, length = frames.shape[-1], frames.shape[1]
        normalised = nn.LayerNorm(epsilon=1e-5)(frames)
        seen = jnp.concatenate([context.astype(normalised.dtype), normalised], axis=1)
        kernel = self.param("depthwise", nn.initializers.lecun_normal(in_axis=0), (self.kernel_size, channels))
        # A few shifted products: on CPU several times faster than a grouped convolution.
        convolved = sum(
            seen[:, tap * self.dilation : tap * self.dilation + length] * kernel[tap] for tap in range(self.kernel_size)
        )
        bias = self.param("bias", nn.initializers.zeros_init(), (channels,))
        update = Dense(channels, self.dtype, name="dense")(nn.gelu(convolved + bias))
        return frames + update.astype(frames.dtype), seen[:, seen.shape[1] - context.shape[1] :]
