"""The GRU equals PyTorch's, value and gradient, and neither padding nor cutting a sequence in two changes it."""

import jax
import jax.numpy as jnp
import numpy as np
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from emojax.models import GRU

NAMES = {"kernel_ih": "weight_ih_l0", "kernel_hh": "weight_hh_l0", "bias_ih": "bias_ih_l0", "bias_hh": "bias_hh_l0"}


def reference(size, features):
    torch.manual_seed(0)
    layer = torch.nn.GRU(features, size, batch_first=True)
    return layer, {name: jnp.asarray(getattr(layer, theirs).detach().numpy().T) for name, theirs in NAMES.items()}


def draw(*shape, seed=0):
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


def test_states_and_all_gradients_equal_torch():
    layer, params = reference(16, 5)
    inputs, initial, weights = draw(3, 29, 5), draw(3, 16, seed=1), draw(3, 29, 16, seed=2)
    mask = jnp.ones((3, 29), bool)

    def loss(params, inputs, initial):
        states, _ = GRU(16).apply({"params": params}, inputs, mask, initial)
        return (states * weights).sum(), states

    ours, states = jax.grad(loss, argnums=(0, 1, 2), has_aux=True)(params, jnp.asarray(inputs), jnp.asarray(initial))
    x, h = torch.tensor(inputs, requires_grad=True), torch.tensor(initial[None], requires_grad=True)
    theirs, _ = layer(x, h)
    (theirs * torch.tensor(weights)).sum().backward()
    np.testing.assert_allclose(states, theirs.detach(), atol=1e-6)
    for name, their_name in NAMES.items():
        expected = getattr(layer, their_name).grad.numpy().T
        np.testing.assert_allclose(ours[0][name], expected, atol=1e-5 * np.abs(expected).max())
    np.testing.assert_allclose(ours[1], x.grad, atol=1e-5)
    np.testing.assert_allclose(ours[2], h.grad[0], atol=1e-5)


@settings(deadline=None, max_examples=8)
@given(lengths=st.lists(st.integers(1, 17), min_size=2, max_size=2), garbage=st.floats(-100, 100))
def test_padding_changes_neither_states_nor_gradients(lengths, garbage):
    _, params = reference(8, 4)
    inputs = draw(2, 17, 4)
    mask = np.arange(17) < np.array(lengths)[:, None]
    padded = np.where(mask[..., None], inputs, np.float32(garbage))

    def final(params, inputs, mask):
        return GRU(8).apply({"params": params}, inputs, mask, jnp.zeros((len(inputs), 8)))[1]

    def loss(params, inputs, mask):
        return (final(params, inputs, mask) ** 2).sum()

    whole = jax.grad(loss)(params, jnp.asarray(padded), jnp.asarray(mask))
    alone = [
        jax.grad(loss)(params, jnp.asarray(inputs[row : row + 1, :length]), jnp.ones((1, length), bool))
        for row, length in enumerate(lengths)
    ]
    for name in params:
        np.testing.assert_allclose(whole[name], alone[0][name] + alone[1][name], atol=2e-6)
    for row, length in enumerate(lengths):
        expected = final(params, jnp.asarray(inputs[row : row + 1, :length]), jnp.ones((1, length), bool))[0]
        np.testing.assert_allclose(final(params, jnp.asarray(padded), jnp.asarray(mask))[row], expected, atol=1e-6)


@settings(deadline=None, max_examples=8)
@given(cut=st.integers(1, 22))
def test_a_sequence_cut_in_two_gives_the_same_states(cut):
    _, params = reference(8, 4)
    inputs, layer = jnp.asarray(draw(2, 23, 4)), GRU(8)

    def run(part, state):
        return layer.apply({"params": params}, part, jnp.ones(part.shape[:2], bool), state)

    whole, _ = run(inputs, jnp.zeros((2, 8)))
    first, state = run(inputs[:, :cut], jnp.zeros((2, 8)))
    second, _ = run(inputs[:, cut:], state)
    np.testing.assert_allclose(np.concatenate([first, second], axis=1), whole, atol=1e-6)


def test_bfloat16_products_stay_close():
    _, params = reference(32, 8)
    inputs, mask, initial = jnp.asarray(draw(2, 50, 8)), jnp.ones((2, 50), bool), jnp.zeros((2, 32))
    exact, _ = GRU(32).apply({"params": params}, inputs, mask, initial)
    coarse, _ = GRU(32, jnp.bfloat16).apply({"params": params}, inputs, mask, initial)
    assert coarse.dtype == jnp.float32
    np.testing.assert_allclose(coarse, exact, atol=3e-2)
