"""Activation functions by the names `config.json` gives them."""

from collections.abc import Callable, Mapping
from typing import Literal

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float


@jax.checkpoint
def gelu(x: Float[Array, "..."]) -> Float[Array, "..."]:
    """Exact Gaussian error linear unit, `x (1 + erf(x / sqrt 2)) / 2`, computed in at least float32.

    `jax.nn.gelu(approximate=False)` goes through erfc, which XLA computes about three times slower on CPU.
    """
    wide = x.astype(jnp.promote_types(x.dtype, jnp.float32))
    return (0.5 * wide * (1.0 + jax.lax.erf(wide * 0.5**0.5))).astype(x.dtype)


ActivationName = Literal["gelu", "gelu_new", "gelu_pytorch_tanh", "relu", "silu", "swish"]
"""Keys of `ACTIVATIONS`."""

ACTIVATIONS: Mapping[str, Callable[[jax.Array], jax.Array]] = {
    "gelu": gelu,
    "gelu_new": nn.gelu,
    "gelu_pytorch_tanh": nn.gelu,
    "relu": nn.relu,
    "silu": nn.silu,
    "swish": nn.silu,
}
"""Names in `hidden_act` and `feat_extract_activation` -> functions; plain `gelu` is the exact one with erf."""
