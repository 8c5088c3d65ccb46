"""Layers whose products are computed in a narrow type and everything else in at least float32."""

from typing import Any

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Array, Float

from emojax.parallel import rows_divided


def wide(dtype: Any) -> Any:
    """The type of sums and statistics in a computation in `dtype`: float32, or `dtype` itself if that is wider."""
    return jnp.promote_types(dtype, jnp.float32)


class Linear(nn.Module):
    """A dense layer: operands in `dtype`, sum and bias in `wide(dtype)`, which is also the type of the result."""

    features: int
    dtype: Any

    @nn.compact
    def __call__(self, inputs: Float[Array, "*B I"]) -> Float[Array, "*B O"]:
        """Inputs times kernel plus bias."""
        kernel = self.param("kernel", nn.initializers.lecun_normal(), (inputs.shape[-1], self.features))
        bias = self.param("bias", nn.initializers.zeros, (self.features,))
        operands = rows_divided(inputs.astype(self.dtype)), kernel.astype(self.dtype)
        products = jnp.matmul(*operands, preferred_element_type=wide(self.dtype))
        return rows_divided(products) + bias.astype(wide(self.dtype))


def layer_norm(epsilon: float, dtype: Any, name: str) -> nn.LayerNorm:
    """Layer norm over the features in `wide(dtype)`."""
    # Flax's fast variance, a difference of squares, loses digits where the mean is large.
    return nn.LayerNorm(epsilon=epsilon, dtype=wide(dtype), use_fast_variance=False, name=name)
