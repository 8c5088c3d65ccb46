"""Layers shared by encoders: activations, dense layers in mixed precision, masked statistics, grouped convolution."""

import functools
from collections.abc import Callable, Mapping
from typing import Any, Literal

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from emojax.encoders.cudnn_attention import saves_forward
from emojax.encoders.random_bits import kept, seeds, stream
from emojax.parallel import constrain_batch


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


RematSaves = Literal["nothing", "attention", "products"]
"""Keys of `REMAT_SAVES`."""

REMAT_SAVES: Mapping[str, tuple[str, ...]] = {
    "nothing": (),
    "attention": ("attended",),
    "products": ("query", "key", "value", "attended", "inner"),
}
"""Names of values (`jax.ad_checkpoint.checkpoint_name`) of a layer that are kept for its backward pass.

The output of attention has D values per frame and its scores need not be computed a third time; with the products that
have narrow inputs, D values each and those of the feed-forward part, only cheap operations are computed again."""


def remat_layer(layer: type[nn.Module], scan_layers: bool, saves: str) -> Any:
    """Makes a layer keep its input and the values named by a key of `REMAT_SAVES`, and compute the others again.

    Args:
      layer: module class.
      scan_layers: whether it runs in a loop, which keeps XLA from merging both computations.
      saves: key of `REMAT_SAVES`.
    """
    policy = jax.checkpoint_policies.save_only_these_names(*REMAT_SAVES[saves])
    if "attended" in REMAT_SAVES[saves]:
        policy = jax.checkpoint_policies.save_from_both_policies(policy, saves_forward)
    return nn.remat(layer, prevent_cse=not scan_layers, policy=policy)


class Dropout(nn.Module):
    """Sets values to zero with probability `rate` and divides the others by 1 - `rate`, by `random_bits`.

    The mask is computed again in the backward pass, which costs less than keeping it. Rows of a batch get the same mask
    on any number of devices.
    """

    rate: float
    deterministic: bool

    @nn.compact
    def __call__(self, states: Float[Array, "B T D"]) -> Float[Array, "B T D"]:
        """Drops values; needs the rng stream `dropout` where it does."""
        if self.deterministic or self.rate == 0.0:
            return states
        return _dropped(states, seeds(self.make_rng("dropout")), self.rate)


@functools.partial(jax.checkpoint, static_argnums=2)
def _dropped(states: Float[Array, "B T D"], seed: Int[Array, "2"], rate: float) -> Float[Array, "B T D"]:
    row, frame, feature = (jax.lax.broadcasted_iota(jnp.int32, states.shape, axis) for axis in range(3))
    keep = kept(stream(seed[0], seed[1], row), frame * states.shape[2] + feature, rate)
    return jnp.where(keep, states * (1.0 / (1.0 - rate)), jnp.zeros_like(states))


class LayerNorm(nn.Module):
    """Layer norm over the features (Ba et al. 2016) in `dtype`; keeps its input and statistics for its gradient.

    The variance is the mean of squared deviations. A difference of squares loses digits where the mean is large.
    """

    epsilon: float
    dtype: Any

    @nn.compact
    def __call__(self, inputs: Float[Array, "*B D"]) -> Float[Array, "*B D"]:
        """Computes normalised, scaled and shifted features."""
        scale = self.param("scale", nn.initializers.ones, inputs.shape[-1:])
        bias = self.param("bias", nn.initializers.zeros, inputs.shape[-1:])
        return _normalised(inputs.astype(self.dtype), scale.astype(self.dtype), bias.astype(self.dtype), self.epsilon)


def layer_norm(epsilon: float, dtype: Any, name: str | None = None) -> LayerNorm:
    """Layer norm over the features in `wide(dtype)`."""
    return LayerNorm(epsilon, wide(dtype), name=name)


@functools.partial(jax.custom_vjp, nondiff_argnums=(3,))
def _normalised(
    inputs: Float[Array, "*B D"], scale: Float[Array, "D"], bias: Float[Array, "D"], epsilon: float
) -> Float[Array, "*B D"]:
    return _normalised_forward(inputs, scale, bias, epsilon)[0]


def _normalised_forward(inputs, scale, bias, epsilon):
    mean = inputs.mean(axis=-1, keepdims=True)
    deviations = inputs - mean
    inverse = jax.lax.rsqrt(jnp.square(deviations).mean(axis=-1, keepdims=True) + epsilon)
    # In this order XLA computes the norm as one kernel on GPUs.
    return deviations * inverse * scale + bias, (inputs, mean, inverse, scale)


def _normalised_backward(epsilon, residuals, cotangent):
    inputs, mean, inverse, scale = residuals
    unit = (inputs - mean) * inverse
    scaled = cotangent * scale
    along = (scaled * unit).mean(axis=-1, keepdims=True)
    by_input = inverse * (scaled - scaled.mean(axis=-1, keepdims=True) - unit * along)
    rows = tuple(range(inputs.ndim - 1))
    return by_input, (cotangent * unit).sum(axis=rows), cotangent.sum(axis=rows)


_normalised.defvjp(_normalised_forward, _normalised_backward)


_BLOCK = 256
"""Frames summed at a time on CPU; a block of 512 channels stays in the cache."""


@jax.custom_vjp
def masked_statistics(
    states: Float[Array, "B T C"], mask: Bool[Array, "B T"]
) -> tuple[Float[Array, "B 1 C"], Float[Array, "B 1 C"]]:
    """Computes mean and (biased) variance of each channel over the frames where `mask` is True; 0 where it never is.

    The variance is the mean of squared deviations, not a difference of squares, which would lose digits.

    XLA's CPU back end writes the masked states and their deviations to memory before it adds them up, which takes four
    times as long as the sums. There the frames are added block by block instead.
    """
    weights = _weights(states, mask)
    mean = _weighted_sum(states, weights, jnp.zeros_like(states[:, :1]), power=1)
    return mean, _weighted_sum(states, weights, mean, power=2)


def _forward(states, mask):
    mean, variance = masked_statistics(states, mask)
    return (mean, variance), (states, mask, mean)


def _backward(residuals, cotangents):
    states, mask, mean = residuals
    mean_cotangent, variance_cotangent = cotangents
    # The variance depends on the mean, too, but its derivative by the mean is zero: deviations sum to zero.
    per_frame = mean_cotangent + 2.0 * (states - mean) * variance_cotangent
    return _weights(states, mask)[..., None] * per_frame, None


masked_statistics.defvjp(_forward, _backward)


def _weights(states: Float[Array, "B T C"], mask: Bool[Array, "B T"]) -> Float[Array, "B T"]:
    return mask.astype(states.dtype) / jnp.maximum(mask.sum(axis=1, keepdims=True), 1)


def _weighted_sum(
    states: Float[Array, "B T C"], weights: Float[Array, "B T"], centre: Float[Array, "B 1 C"], power: int
) -> Float[Array, "B 1 C"]:
    """Sum over frames of weight times a power of the distance from the centre."""

    def add_up(states, weights, centre):
        return jnp.einsum("bt,btc->bc", weights, (states - centre) ** power)[:, None]

    def by_block(states, weights, centre):
        def add_block(total, start):
            block = jax.lax.dynamic_slice_in_dim(states, start, _BLOCK, axis=1)
            of_block = jax.lax.dynamic_slice_in_dim(weights, start, _BLOCK, axis=1)
            return total + add_up(block, of_block, centre), None

        rest = states.shape[1] // _BLOCK * _BLOCK
        total = add_up(states[:, rest:], weights[:, rest:], centre)
        return jax.lax.scan(add_block, total, jnp.arange(0, rest, _BLOCK))[0] if rest else total

    return jax.lax.platform_dependent(states, weights, centre, cpu=by_block, default=add_up)


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
      The sums, in at least float32; of narrow types, rounded to them, since cuDNN convolves them to their own type.
    """
    taps = kernel.shape[0]
    # PyTorch pads N // 2 on both sides; with an even N the published models then drop the last frame.
    padding = [(taps // 2, taps - 1 - taps // 2)]
    convolved = jnp.concatenate(
        [
            jax.lax.conv_general_dilated(
                part, taps_of_part, window_strides=(1,), padding=padding, dimension_numbers=("NWC", "WIO", "NWC")
            )
            for part, taps_of_part in zip(jnp.split(states, groups, -1), jnp.split(kernel, groups, -1), strict=True)
        ],
        axis=-1,
    )
    return convolved.astype(wide(states.dtype))
