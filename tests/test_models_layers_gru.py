"""The GRU equals PyTorch's, value and gradient, and neither padding nor cutting a sequence in two changes it."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st

from emojax.models import GRU

NAMES = {"kernel_ih": "weight_ih_l0", "kernel_hh": "weight_hh_l0", "bias_ih": "bias_ih_l0", "bias_hh": "bias_hh_l0"}
BATCH, FRAMES, FEATURES, SIZE = 3, 29, 5, 16


def draw(*shape, seed=0):
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


@functools.cache
def reference():
    """PyTorch's layer and its parameters under our names."""
    torch.manual_seed(0)
    layer = torch.nn.GRU(FEATURES, SIZE, batch_first=True)
    return layer, {name: jnp.asarray(getattr(layer, theirs).detach().numpy().T) for name, theirs in NAMES.items()}


@functools.partial(jax.jit, static_argnames="dtype")
def run(params, features, mask, initial, dtype=jnp.float32):
    return GRU(SIZE, dtype).apply({"params": params}, features, mask, initial)


@functools.partial(jax.jit, static_argnames="dtype")
def gradients(params, features, initial, mask, weights, dtype=jnp.float32):
    """Of a weighted sum of all states and the last, for parameters, inputs and initial state."""

    def loss(params, features, initial):
        states, last = run(params, features, mask, initial, dtype)
        return (states * weights).sum() + (last**2).sum()

    return jax.grad(loss, argnums=(0, 1, 2))(params, features, initial)


def torch_run(features, initial, lengths, weights):
    """States and gradients of every row on its own, cut to its length; states stay as they are behind it."""
    layer, _ = reference()
    layer.zero_grad()
    x, h = torch.tensor(features, requires_grad=True), torch.tensor(initial, requires_grad=True)
    rows = []
    for row, length in enumerate(lengths):
        states, _ = layer(x[row : row + 1, :length], h[None, row : row + 1])
        last = states[:, -1:].expand(-1, features.shape[1] - length, -1)
        rows.append(torch.cat([states, last], dim=1))
    states = torch.cat(rows)
    ((states * torch.tensor(weights)).sum() + (states[:, -1] ** 2).sum()).backward()
    params = {name: getattr(layer, theirs).grad.numpy().T for name, theirs in NAMES.items()}
    return states.detach().numpy(), (params, x.grad.numpy(), h.grad.numpy())


def assert_close(actual, expected, relative):
    expected = np.asarray(expected)
    np.testing.assert_allclose(actual, expected, atol=relative * max(np.abs(expected).max(), 1.0), rtol=0)


@settings(deadline=None, max_examples=15)
@given(lengths=st.lists(st.integers(1, FRAMES), min_size=BATCH, max_size=BATCH), seed=st.integers(0, 100))
@example(lengths=[FRAMES] * BATCH, seed=0)
def test_states_and_all_gradients_equal_torch_whatever_the_padding(lengths, seed):
    _, params = reference()
    features, initial = draw(BATCH, FRAMES, FEATURES, seed=seed), draw(BATCH, SIZE, seed=seed + 1)
    weights = draw(BATCH, FRAMES, SIZE, seed=seed + 2)
    mask = jnp.arange(FRAMES) < jnp.asarray(lengths)[:, None]
    states, last = run(params, features, mask, initial)
    expected_states, expected_gradients = torch_run(features, initial, lengths, weights)
    assert_close(states, expected_states, 1e-6)
    np.testing.assert_array_equal(last, states[:, -1])
    ours = gradients(params, features, initial, mask, weights)
    jax.tree.map(lambda actual, expected: assert_close(actual, expected, 1e-5), ours, expected_gradients)


def test_padded_frames_carry_the_state_to_the_bit_and_their_content_does_not_matter():
    _, params = reference()
    features, initial, length = draw(BATCH, FRAMES, FEATURES), draw(BATCH, SIZE, seed=1), 11
    mask = jnp.broadcast_to(jnp.arange(FRAMES) < length, (BATCH, FRAMES))
    states, last = run(params, features, mask, initial)
    np.testing.assert_array_equal(states[:, length:], np.broadcast_to(last[:, None], states[:, length:].shape))
    garbage = np.where(mask[..., None], features, np.float32(1e6))
    np.testing.assert_array_equal(run(params, garbage, mask, initial)[0], states)
    before, after = (gradients(params, x, initial, mask, np.ones_like(states)) for x in (features, garbage))
    jax.tree.map(np.testing.assert_array_equal, before, after)
    assert not np.asarray(after[1])[:, length:].any()


def test_a_row_without_frames_returns_its_initial_state():
    _, params = reference()
    initial = draw(BATCH, SIZE, seed=1)
    states, last = run(params, draw(BATCH, FRAMES, FEATURES), jnp.zeros((BATCH, FRAMES), bool), initial)
    np.testing.assert_array_equal(last, initial)
    np.testing.assert_array_equal(states[:, 0], initial)


@pytest.mark.parametrize("cut", [1, 13, FRAMES - 1])
def test_a_sequence_cut_in_two_with_the_state_carried_gives_the_same_states(cut):
    _, params = reference()
    features, initial = jnp.asarray(draw(BATCH, FRAMES, FEATURES)), jnp.zeros((BATCH, SIZE))
    mask = jnp.ones((BATCH, FRAMES), bool)
    whole, last = run(params, features, mask, initial)
    first, state = run(params, features[:, :cut], mask[:, :cut], initial)
    second, end = run(params, features[:, cut:], mask[:, cut:], state)
    np.testing.assert_allclose(np.concatenate([first, second], axis=1), whole, atol=1e-6)
    np.testing.assert_allclose(end, last, atol=1e-6)


def test_bfloat16_products_stay_close_in_states_and_gradients():
    _, params = reference()
    features, initial = draw(BATCH, FRAMES, FEATURES), draw(BATCH, SIZE, seed=1)
    mask, weights = jnp.ones((BATCH, FRAMES), bool), draw(BATCH, FRAMES, SIZE, seed=2)
    exact, _ = run(params, features, mask, initial)
    coarse, _ = run(params, features, mask, initial, jnp.bfloat16)
    assert coarse.dtype == jnp.float32
    np.testing.assert_allclose(coarse, exact, atol=2e-2)
    pair = (gradients(params, features, initial, mask, weights, dtype) for dtype in (jnp.bfloat16, jnp.float32))
    jax.tree.map(lambda actual, expected: assert_close(actual, expected, 2e-2), *pair)
