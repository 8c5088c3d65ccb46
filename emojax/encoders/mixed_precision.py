"""Dense layers and products in mixed precision: narrow operands, forward and backward, and sums in float32."""

import functools
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from emojax.parallel import constrain_batch


def wide(dtype: Any) -> Any:
    """Type of sums and statistics in a computation in `dtype`: float32, or `dtype` itself if that is wider."""
    return jnp.promote_types(dtype, jnp.float32)


class Linear(nn.Module):
    """A dense layer: operands in `dtype`, sum and bias in `wide(dtype)`, which is also the type of the result.

    In a narrow `dtype`, products are accumulated in float32 and rounded to it before the bias is added, and cotangents
    are rounded to it before they are multiplied (Micikevicius et al. 2018), as GPUs multiply narrow operands only.
    """

    features: int
    dtype: Any
    use_bias: bool = True

    @nn.compact
    def __call__(self, inputs: Float[Array, "*B I"]) -> Float[Array, "*B O"]:
        """Inputs times kernel plus bias."""
        kernel = self.param("kernel", nn.initializers.lecun_normal(), (inputs.shape[-1], self.features))
        bias = self.param("bias", nn.initializers.zeros, (self.features,)) if self.use_bias else None
        inputs = constrain_batch(inputs.astype(self.dtype))
        if is_narrow(self.dtype):
            return constrain_batch(_narrow_linear(inputs, kernel, bias))
        products = constrain_batch(jnp.matmul(inputs, kernel.astype(self.dtype)))
        return products if bias is None else products + bias.astype(self.dtype)


def is_narrow(dtype: Any) -> bool:
    """Whether sums need a wider type, i.e. for bfloat16 and float16."""
    return bool(wide(dtype) != jnp.dtype(dtype))


@jax.custom_vjp
def _narrow_linear(
    inputs: Float[Array, "*B I"], kernel: Float[Array, "I O"], bias: Float[Array, "O"] | None
) -> Float[Array, "*B O"]:
    return _narrow_linear_forward(inputs, kernel, bias)[0]


def _narrow_linear_forward(inputs, kernel, bias):
    products = jnp.matmul(inputs, kernel.astype(inputs.dtype)).astype(wide(inputs.dtype))
    return products if bias is None else products + bias, (inputs, kernel, bias)


def _narrow_linear_backward(residuals, cotangent):
    inputs, kernel, bias = residuals
    cotangent = cotangent.astype(inputs.dtype)
    by_input = jnp.matmul(cotangent, kernel.astype(inputs.dtype).T)
    rows = tuple(range(inputs.ndim - 1))
    # Rounded like the other results, so that devices exchange half as many bytes.
    by_kernel = jax.lax.dot_general(inputs, cotangent, ((rows, rows), ((), ()))).astype(kernel.dtype)
    return by_input, by_kernel, None if bias is None else cotangent.sum(axis=rows, dtype=bias.dtype)


_narrow_linear.defvjp(_narrow_linear_forward, _narrow_linear_backward)


def product(subscripts: str, left: Float[Array, "..."], right: Float[Array, "..."]) -> Float[Array, "..."]:
    """Einsum of two arrays of one type, in at least float32; narrow ones are multiplied as such in its gradient, too.

    Args:
      subscripts: of `jnp.einsum`; every index of an operand is one of the other or of the result.
      left: first operand.
      right: second operand.
    """
    if is_narrow(left.dtype):
        return _narrow_product(subscripts, left, right)
    return jnp.einsum(subscripts, left, right, preferred_element_type=wide(left.dtype))


@functools.partial(jax.custom_vjp, nondiff_argnums=(0,))
def _narrow_product(subscripts: str, left: Float[Array, "..."], right: Float[Array, "..."]) -> Float[Array, "..."]:
    return jnp.einsum(subscripts, left, right, preferred_element_type=wide(left.dtype))


def _narrow_product_forward(subscripts, left, right):
    return _narrow_product(subscripts, left, right), (left, right)


def _narrow_product_backward(subscripts, residuals, cotangent):
    left, right = residuals
    cotangent = cotangent.astype(left.dtype)
    operands, result = subscripts.split("->")
    first, second = operands.split(",")
    by_left = jnp.einsum(f"{result},{second}->{first}", cotangent, right)
    return by_left, jnp.einsum(f"{first},{result}->{second}", left, cotangent)


_narrow_product.defvjp(_narrow_product_forward, _narrow_product_backward)
