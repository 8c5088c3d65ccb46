"""Matrix product of frames and a kernel with gradients that are fast on CPU, and a dense layer that uses it."""

from functools import partial
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float


@partial(jax.custom_vjp, nondiff_argnums=(0,))
def product(dtype: Any, rows: Float[Array, "... D"], kernel: Float[Array, "D F"]) -> Float[Array, "... F"]:
    """rows · kernel, factors in `dtype`, summed in float32."""
    return _contracted(rows.astype(dtype), kernel.astype(dtype), (rows.ndim - 1,), (0,))


def _forward(dtype: Any, rows: Array, kernel: Array) -> tuple[Array, tuple[Array, Array]]:
    return product(dtype, rows, kernel), (rows, kernel)


def _backward(dtype: Any, saved: tuple[Array, Array], gradient: Array) -> tuple[Array, Array]:
    rows, kernel = saved
    to_rows = _contracted(gradient.astype(dtype), _transposed(kernel.astype(dtype)), (rows.ndim - 1,), (0,))
    return to_rows.astype(rows.dtype), kernel_gradient(dtype, rows, gradient).astype(kernel.dtype)


product.defvjp(_forward, _backward)


def kernel_gradient(dtype: Any, rows: Float[Array, "... D"], gradient: Float[Array, "... F"]) -> Float[Array, "D F"]:
    """Gradient of `product` with respect to its kernel: rows transposed · gradient, summed over all leading axes."""
    # Contracted over these axes, not reshaped to one, which would gather rows that are sharded over devices.
    leading = tuple(range(rows.ndim - 1))
    behind_first = tuple(axis + 1 for axis in leading)
    rows, gradient = rows.astype(dtype), gradient.astype(dtype)
    if rows.shape[-1] <= gradient.shape[-1]:  # the smaller one is transposed
        return _contracted(_transposed(rows), gradient, behind_first, leading)
    return _materialised(_contracted(_transposed(gradient), rows, behind_first, leading)).T


def _transposed(array: Array) -> Array:
    """Moves the last axis first; on CPU the result is materialised.

    XLA's fast product takes no strided factor, and without the barriers the computation of a factor would be fused
    with its transposition and repeated in strided order.
    """
    return _materialised(jnp.moveaxis(_materialised(array), -1, 0))


def _materialised(array: Array) -> Array:
    return lax.platform_dependent(array, cpu=lax.optimization_barrier, default=lambda same: same)


def _contracted(left: Array, right: Array, left_axes: tuple[int, ...], right_axes: tuple[int, ...]) -> Array:
    axes = ((left_axes, right_axes), ((), ()))
    return lax.dot_general(left, right, axes, preferred_element_type=jnp.float32)


class Dense(nn.Module):
    """`nn.Dense` computed by `product`: same parameters, same outputs.

    Attributes:
      features: units.
      dtype: of the factors and of the output.
    """

    features: int
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, rows: Float[Array, "... D"]) -> Float[Array, "... F"]:
        """Applies the layer to the last axis."""
        kernel = self.param("kernel", nn.initializers.lecun_normal(), (rows.shape[-1], self.features), jnp.float32)
        bias = self.param("bias", nn.initializers.zeros_init(), (self.features,), jnp.float32)
        return product(self.dtype, rows, kernel).astype(self.dtype) + bias.astype(self.dtype)
