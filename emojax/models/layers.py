"""Dense and GRU layers with gradients that are fast on CPU.

The dense product materialises transposed factors on CPU, where XLA's fast product takes no strided one. Speed of the
GRU (PyTorch's cell, as a `lax.scan` with its own gradient: masked, streaming) on CPU comes from these choices:
- The projection of the inputs is a product over all frames, and the scan reads the three gates from three arrays. If
  one array is split inside the step, XLA (jax 0.10) emits code that is not vectorised and three times slower.
- There is one recurrent product per gate: on two cores a tenth faster with 192 units than one product three times as
  wide, equal within noise with 96 to 144.
- The gradient of the recurrent kernel is a product over all frames after the reverse scan, in place of a sum of outer
  products inside it.
- Gates are saved for the gradient only when it is computed.
Unrolling the loops gives no further gain and costs compilation time.
"""

from functools import partial
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Bool, Float

from emojax.parallel import constrain_batch, constrain_replicated


@partial(jax.custom_vjp, nondiff_argnums=(0,))
def product(dtype: Any, rows: Float[Array, "... D"], kernel: Float[Array, "D F"]) -> Float[Array, "... F"]:
    """rows · kernel, factors in `dtype`, summed in float32."""
    return _contracted(rows.astype(dtype), kernel.astype(dtype), (rows.ndim - 1,), (0,))


def _product_forward(dtype: Any, rows: Array, kernel: Array) -> tuple[Array, tuple[Array, Array]]:
    return product(dtype, rows, kernel), (rows, kernel)


def _product_backward(dtype: Any, saved: tuple[Array, Array], gradient: Array) -> tuple[Array, Array]:
    rows, kernel = saved
    to_rows = _contracted(gradient.astype(dtype), _transposed(kernel.astype(dtype)), (rows.ndim - 1,), (0,))
    return to_rows.astype(rows.dtype), kernel_gradient(dtype, rows, gradient).astype(kernel.dtype)


product.defvjp(_product_forward, _product_backward)


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
      dtype: dtype of the factors and of the output.
    """

    features: int
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, rows: Float[Array, "... D"]) -> Float[Array, "... F"]:
        """Applies the layer to the last axis."""
        kernel = self.param("kernel", nn.initializers.lecun_normal(), (rows.shape[-1], self.features), jnp.float32)
        bias = self.param("bias", nn.initializers.zeros_init(), (self.features,), jnp.float32)
        return product(self.dtype, rows, kernel).astype(self.dtype) + bias.astype(self.dtype)


Gates = tuple[Float[Array, "T B H"], Float[Array, "T B H"], Float[Array, "T B H"]]
"""One array per gate, in PyTorch's order: reset, update, new."""


class GRU(nn.Module):
    """One unidirectional GRU layer (Cho et al. 2014, in PyTorch's form: reset gate after the recurrent product).

    Parameters: `kernel_ih` (D, 3H), `kernel_hh` (H, 3H), `bias_ih` (3H,), `bias_hh` (3H,), gates in the order reset,
    update, new. Initialised as in PyTorch, uniform in ±1/√H.

    Attributes:
      size: H.
      dtype: dtype of the factors of matrix products; sums, gates and the state are float32.
    """

    size: int
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(
        self, features: Float[Array, "B T D"], frame_mask: Bool[Array, "B T"], initial: Float[Array, "B H"]
    ) -> tuple[Float[Array, "B T H"], Float[Array, "B H"]]:
        """Runs over all frames.

        Args:
          features: input frames, finite on padded frames too.
          frame_mask: True on valid frames; on others the state is unchanged, bit for bit.
          initial: state before the first frame: zeros for an utterance, the last state of the chunk before in a stream.

        Returns:
          The state after every frame, and after the last, float32.
        """
        uniform = _uniform_within(1.0 / self.size**0.5)
        kernel_ih = self.param("kernel_ih", uniform, (features.shape[-1], 3 * self.size))
        kernel_hh = self.param("kernel_hh", uniform, (self.size, 3 * self.size))
        bias_ih = self.param("bias_ih", uniform, (3 * self.size,))
        bias_hh = self.param("bias_hh", uniform, (3 * self.size,))
        # Sharded parameters are gathered once, not in every step of the scan.
        kernel_ih, kernel_hh, bias_ih, bias_hh = (
            constrain_replicated(each) for each in (kernel_ih, kernel_hh, bias_ih, bias_hh)
        )
        initial = constrain_batch(initial)
        # Time first: each step of the scan then reads one contiguous block.
        frames = jnp.swapaxes(constrain_batch(features), 0, 1)
        inputs = tuple(product(self.dtype, frames, kernel) for kernel in _per_gate(kernel_ih))
        mask = jnp.swapaxes(frame_mask, 0, 1)
        states = gru_states(self.dtype, inputs, kernel_hh, bias_ih, bias_hh, initial.astype(jnp.float32), mask)
        return jnp.swapaxes(states, 0, 1), states[-1]


@partial(jax.custom_vjp, nondiff_argnums=(0,))
def gru_states(
    dtype: Any,
    inputs: Gates,
    kernel: Float[Array, "H G"],
    bias_ih: Float[Array, "G"],
    bias_hh: Float[Array, "G"],
    initial: Float[Array, "B H"],
    mask: Bool[Array, "T B"],
) -> Float[Array, "T B H"]:
    """States of a GRU from projected inputs.

    r = σ(x_r + a_r + h W_r + b_r), z = σ(x_z + a_z + h W_z + b_z), n = tanh(x_n + a_n + r ⊙ (h W_n + b_n)),
    h' = (1 − z) ⊙ n + z ⊙ h; where the mask is False, h' = h.

    Args:
      dtype: dtype of the factors of products.
      inputs: x_r, x_z, x_n.
      kernel: W_r, W_z, W_n, concatenated.
      bias_ih: a likewise; added here because a pass over all projected frames costs more.
      bias_hh: b likewise.
      initial: h before the first frame.
      mask: True on valid frames.
    """

    # Split outside of the scan, inside of which it would be repeated, with a copy, for every frame.
    weights = _per_gate(kernel), _per_gate(bias_ih), _per_gate(bias_hh)

    def step(state, frame):
        state, _ = _step(dtype, state, frame, *weights)
        return state, state

    return jax.lax.scan(step, initial, (inputs, mask[..., None]))[1]


def _step(dtype, state, frame, kernels, biases_ih, biases_hh):
    """Next state, and values for the gradient: the three gates and h W_n + b_n."""
    inputs, valid = frame
    inputs_r, inputs_z, inputs_n = (gate + bias for gate, bias in zip(inputs, biases_ih, strict=True))
    recurrent_r, recurrent_z, recurrent_n = (
        product(dtype, state, kernel) + bias for kernel, bias in zip(kernels, biases_hh, strict=True)
    )
    reset = jax.nn.sigmoid(inputs_r + recurrent_r)
    update = jax.nn.sigmoid(inputs_z + recurrent_z)
    new = jnp.tanh(inputs_n + reset * recurrent_n)
    following = jnp.where(valid, (1.0 - update) * new + update * state, state)
    return following, (reset, update, new, recurrent_n)


def _gru_forward(dtype, inputs, kernel, bias_ih, bias_hh, initial, mask):
    weights = _per_gate(kernel), _per_gate(bias_ih), _per_gate(bias_hh)

    def step(state, frame):
        following, gates = _step(dtype, state, frame, *weights)
        return following, (following, *gates)

    _, (states, *gates) = jax.lax.scan(step, initial, (inputs, mask[..., None]))
    return states, (states, gates, kernel, initial, mask)


def _gru_backward(dtype, saved, gradient):
    states, gates, kernel, initial, mask = saved
    before = jnp.concatenate([initial[None], states[:-1]])
    transposed = kernel.T

    def step(later, frame):
        gradient, (reset, update, new, recurrent_n), before, valid = frame
        total = later + gradient
        live = jnp.where(valid, total, 0.0)
        # With respect to the inputs of the nonlinearities and, for the new gate, to its recurrent part.
        to_new = live * (1.0 - update) * (1.0 - new * new)
        to_update = live * (before - new) * update * (1.0 - update)
        to_recurrent_n = to_new * reset
        to_reset = to_recurrent_n * recurrent_n * (1.0 - reset)
        recurrent = jnp.concatenate([to_reset, to_update, to_recurrent_n], axis=-1)
        earlier = jnp.where(valid, total * update, total) + product(dtype, recurrent, transposed)
        return earlier, (to_reset, to_update, to_new, to_recurrent_n)

    frames = (gradient, gates, before, mask[..., None])
    to_initial, gate_gradients = jax.lax.scan(step, jnp.zeros_like(initial), frames, reverse=True)
    to_reset, to_update, to_new, to_recurrent_n = gate_gradients
    to_kernel = [kernel_gradient(dtype, before, gate) for gate in (to_reset, to_update, to_recurrent_n)]
    bias_r, bias_z, bias_n, bias_recurrent_n = (gate.sum(axis=(0, 1)) for gate in gate_gradients)
    return (
        (to_reset, to_update, to_new),
        jnp.concatenate(to_kernel, axis=-1),
        jnp.concatenate([bias_r, bias_z, bias_n]),
        jnp.concatenate([bias_r, bias_z, bias_recurrent_n]),
        to_initial,
        None,
    )


gru_states.defvjp(_gru_forward, _gru_backward)


def _per_gate(array: Array) -> list[Array]:
    return jnp.split(array, 3, axis=-1)


def _uniform_within(limit: float) -> nn.initializers.Initializer:
    def init(key: Array, shape: Any, dtype: Any = jnp.float32) -> Array:
        return jax.random.uniform(key, shape, dtype, -limit, limit)

    return init
