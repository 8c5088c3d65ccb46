"""Layers shared by encoders: activations, dropout, rematerialisation, grouped convolution."""

import functools
from collections.abc import Callable, Mapping
from typing import Any, Literal

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from emojax.encoders.cudnn_attention import saves_forward
from emojax.encoders.mixed_precision import wide
from emojax.encoders.random_bits import kept, seeds, stream


@jax.checkpoint
def gelu(x: Float[Array, "..."]) -> Float[Array, "..."]:
    """Exact Gaussian error linear unit, `x (1 + erf(x / sqrt 2)) / 2`, computed in at least float32.

    `jax.nn.gelu(approximate=False)` goes through erfc, which XLA computes about three times slower on CPU.
    """
    values = x.astype(wide(x.dtype))
    return (0.5 * values * (1.0 + jax.lax.erf(values * 0.5**0.5))).astype(x.dtype)


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
