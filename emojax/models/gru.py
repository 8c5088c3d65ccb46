"""GRU layers with PyTorch's cell, as a `lax.scan` with its own gradient: masked, streaming, fast.

The projection of the inputs is one matrix product over all frames. In the gradient, the weight gradient of the
recurrent kernel is one product over all frames after the reverse scan, in place of a sum of outer products inside it.
"""

import functools
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

_UNROLL = 8
"""Steps per loop iteration: enough to hide the loop's overhead, few enough to compile quickly."""


class GRU(nn.Module):
    """One unidirectional GRU layer (Cho et al. 2014, in PyTorch's form: reset gate after the recurrent product).

    Parameters: `kernel_ih` (D, 3H), `kernel_hh` (H, 3H), `bias_ih` (3H,), `bias_hh` (3H,), gates in the order reset,
    update, new. Initialised as in PyTorch, uniform in ±1/√H.

    Attributes:
      size: H.
      dtype: of the products; the state is float32.
    """

    size: int
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(
        self, features: Float[Array, "B T D"], frame_mask: Bool[Array, "B T"], initial: Float[Array, "B H"]
    ) -> tuple[Float[Array, "B T H"], Float[Array, "B H"]]:
        """Runs over all frames.

        Args:
          features: input frames.
          frame_mask: True on valid frames; on others the state stays as it is.
          initial: state before the first frame, zeros for a whole utterance.

        Returns:
          The state after every frame, and after the last, float32.
        """
        uniform = _uniform_within(1.0 / self.size**0.5)
        kernel_ih = self.param("kernel_ih", uniform, (features.shape[-1], 3 * self.size))
        kernel_hh = self.param("kernel_hh", uniform, (self.size, 3 * self.size))
        bias_ih = self.param("bias_ih", uniform, (3 * self.size,))
        bias_hh = self.param("bias_hh", uniform, (3 * self.size,))
        # Time first: each step of the scan then reads one contiguous block.
        inputs = jnp.swapaxes(features, 0, 1).astype(self.dtype) @ kernel_ih.astype(self.dtype)
        inputs = inputs.astype(jnp.float32) + bias_ih
        mask = jnp.swapaxes(frame_mask, 0, 1)[..., None].astype(jnp.float32)
        states = gru_states(inputs, kernel_hh.astype(self.dtype), bias_hh, initial.astype(jnp.float32), mask)
        return jnp.swapaxes(states, 0, 1), states[-1]


@jax.custom_vjp
def gru_states(
    inputs: Float[Array, "T B G"],
    kernel: Float[Array, "H G"],
    bias: Float[Array, "G"],
    initial: Float[Array, "B H"],
    mask: Float[Array, "T B 1"],
) -> Float[Array, "T B H"]:
    """States of a GRU from projected inputs.

    r = σ(x_r + h W_r + b_r), z = σ(x_z + h W_z + b_z), n = tanh(x_n + r ⊙ (h W_n + b_n)), h' = n + z ⊙ (h − n);
    where the mask is 0, h' = h.

    Args:
      inputs: x, with the input bias, gates in the order r, z, n.
      kernel: W, in the dtype the products are computed in.
      bias: b.
      initial: h before the first frame.
      mask: 1 on valid frames, 0 on others.
    """

    def step(state: Array, frame: tuple[Array, Array]) -> tuple[Array, Array]:
        inputs, mask = frame
        state, _ = _step(state, inputs, mask, kernel, bias)
        return state, state

    return jax.lax.scan(step, initial, (inputs, mask), unroll=_UNROLL)[1]


def _step(state: Array, inputs: Array, mask: Array, kernel: Array, bias: Array) -> tuple[Array, tuple[Array, ...]]:
    recurrent = (state.astype(kernel.dtype) @ kernel).astype(jnp.float32) + bias
    size = state.shape[-1]
    # One sigmoid over both gates: fewer, larger operations.
    gates = jax.nn.sigmoid(inputs[:, : 2 * size] + recurrent[:, : 2 * size])
    reset, update = gates[:, :size], gates[:, size:]
    from_state = recurrent[:, 2 * size :]
    new = jnp.tanh(inputs[:, 2 * size :] + reset * from_state)
    # The mask acts on the update gate: fully closed, it keeps the state.
    update = 1.0 - mask * (1.0 - update)
    return new + update * (state - new), (reset, update, new, from_state)


def _forward(inputs, kernel, bias, initial, mask):
    def step(state, frame):
        following, gates = _step(state, frame[0], frame[1], kernel, bias)
        return following, (following, *gates)

    _, (states, *gates) = jax.lax.scan(step, initial, (inputs, mask), unroll=_UNROLL)
    return states, (states, gates, kernel, initial)


def _backward(saved, gradient):
    states, (reset, update, new, from_state), kernel, initial = saved
    before = jnp.concatenate([initial[None], states[:-1]])

    def step(later, frame):
        gradient, reset, update, new, from_state, before = frame
        total = later + gradient
        to_new = total * (1.0 - update) * (1.0 - new**2)
        # On padded frames the update gate is 1: every term below is 0 and the gradient passes through unchanged.
        to_update = total * (before - new) * (1.0 - update) * update
        to_reset = to_new * from_state * reset * (1.0 - reset)
        recurrent = jnp.concatenate([to_reset, to_update, to_new * reset], axis=-1)
        earlier = total * update + (recurrent.astype(kernel.dtype) @ kernel.T).astype(jnp.float32)
        return earlier, (recurrent, to_new)

    frames = (gradient, reset, update, new, from_state, before)
    to_initial, (recurrent, to_new) = jax.lax.scan(step, jnp.zeros_like(initial), frames, reverse=True, unroll=_UNROLL)
    size = initial.shape[-1]
    to_inputs = jnp.concatenate([recurrent[..., : 2 * size], to_new], axis=-1)
    to_kernel = jnp.einsum("tbh,tbg->hg", before.astype(kernel.dtype), recurrent.astype(kernel.dtype))
    return to_inputs, to_kernel.astype(kernel.dtype), recurrent.sum(axis=(0, 1)), to_initial, None


gru_states.defvjp(_forward, _backward)


@functools.cache
def _uniform_within(limit: float):
    def init(key: Array, shape: tuple[int, ...], dtype: Any = jnp.float32) -> Array:
        return jax.random.uniform(key, shape, dtype, -limit, limit)

    return init
