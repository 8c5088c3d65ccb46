"""The separable convolution of `student_conv`: PyTorch's outputs and gradients, and nothing of the future."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch

from emojax.models.tcgru import CausalBlock

CHANNELS, FRAMES = 6, 11


def block(kernel_size, dilation):
    module = CausalBlock(kernel_size, dilation)
    frames = jax.random.normal(jax.random.key(0), (2, FRAMES, CHANNELS))
    context = jnp.zeros((2, (kernel_size - 1) * dilation, CHANNELS))
    params = module.init(jax.random.key(1), frames, context)["params"]
    # Biases and scales that are not those of a fresh layer.
    leaves, tree = jax.tree.flatten(params)
    keys = jax.random.split(jax.random.key(2), len(leaves))
    params = tree.unflatten([a + 0.3 * jax.random.normal(k, a.shape) for a, k in zip(leaves, keys, strict=True)])
    return module, params, frames, context


def in_torch(params, frames, kernel_size, dilation):
    own = jax.tree.map(lambda leaf: torch.from_numpy(np.array(leaf)), params)
    norm = own["LayerNorm_0"]
    hidden = torch.nn.functional.layer_norm(frames, (CHANNELS,), norm["scale"], norm["bias"], eps=1e-5).transpose(1, 2)
    hidden = torch.nn.functional.pad(hidden, ((kernel_size - 1) * dilation, 0))
    kernel = own["depthwise"].T[:, None]
    hidden = torch.nn.functional.conv1d(hidden, kernel, own["bias"], dilation=dilation, groups=CHANNELS).transpose(1, 2)
    hidden = torch.nn.functional.gelu(hidden, approximate="tanh")
    return frames + hidden @ own["dense"]["kernel"] + own["dense"]["bias"]


@pytest.mark.parametrize(("kernel_size", "dilation"), [(3, 1), (3, 4), (4, 2)])
def test_a_block_and_its_gradient_are_pytorchs(kernel_size, dilation):
    module, params, frames, context = block(kernel_size, dilation)
    ours, back = jax.vjp(lambda frames: module.apply({"params": params}, frames, context)[0], frames)
    given = torch.from_numpy(np.array(frames)).requires_grad_()
    theirs = in_torch(params, given, kernel_size, dilation)
    np.testing.assert_allclose(ours, theirs.detach(), rtol=1e-5, atol=1e-5)
    theirs.sum().backward()
    np.testing.assert_allclose(back(jnp.ones_like(ours))[0], given.grad, rtol=1e-4, atol=1e-5)


def test_a_block_is_causal_and_its_context_continues_a_stream():
    module, params, frames, context = block(3, 2)
    whole, _ = module.apply({"params": params}, frames, context)
    changed, _ = module.apply({"params": params}, frames.at[:, 7:].set(9.0), context)
    np.testing.assert_array_equal(changed[:, :7], whole[:, :7])
    first, kept = module.apply({"params": params}, frames[:, :5], context)
    second, _ = module.apply({"params": params}, frames[:, 5:], kept)
    np.testing.assert_allclose(jnp.concatenate([first, second], axis=1), whole, rtol=1e-5, atol=1e-6)
