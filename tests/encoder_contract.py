"""Properties that the tests of every encoder family assert, against the PyTorch model of transformers."""

import functools

import flax.traverse_util
import jax
import jax.numpy as jnp
import numpy as np
import torch
import transformers

from emojax.encoders import ComputeOptions, freeze_mask, load_encoder, save_encoder
from emojax.encoders.tensor_table import invert
from tests import speech_checkpoints

FILLER = 0.3
"""Padding of waveforms: no silence, so that a dependence on it changes the results."""


@functools.partial(jax.jit, static_argnums=0, static_argnames=("hidden_states", "train"))
def apply(module, params, inputs, lengths, key=None, **settings):
    """Compiled `module.apply`."""
    rngs = None if key is None else {"dropout": key}
    return module.apply({"params": params}, inputs, lengths, rngs=rngs, **settings)


def example_inputs(encoder):
    """Sequences of unequal lengths, and the same padded with values that must not matter."""
    if encoder.family.modality == "speech":
        clips = speech_checkpoints.waveforms((2000, 400, 1234))
        return clips, *map(jnp.asarray, speech_checkpoints.padded(clips, filler=FILLER))
    tokens = np.random.default_rng(0).integers(4, encoder.module.config.vocab_size, (3, 12))
    lengths = np.array([11, 3, 7])
    rows = [row[:length] for row, length in zip(tokens, lengths, strict=True)]
    return rows, jnp.asarray(tokens), jnp.asarray(lengths)


def torch_output(model, sequence):
    """Output of the PyTorch model for one sequence alone."""
    inputs = torch.tensor(sequence[None] if sequence.dtype == np.float32 else sequence[None].astype(np.int64))
    return model(inputs, output_hidden_states=True)


def assert_states_equal_pytorch(model, encoder, atol):
    """Every hidden state of padded rows equals PyTorch's for the sequence alone."""
    sequences, inputs, lengths = example_inputs(encoder)
    output = apply(encoder.module, encoder.params, inputs, lengths, hidden_states=True)
    assert len(output.hidden_states) == encoder.num_layers + 1
    for row, sequence in enumerate(sequences):
        with torch.no_grad():
            expected = torch_output(model, sequence)
        frames = expected.last_hidden_state.shape[1]
        assert output.mask[row].sum() == frames
        assert 0.5 < expected.last_hidden_state.std() < 3.0
        for ours, theirs in zip(
            (*output.hidden_states, output.last_hidden_state),
            (*expected.hidden_states, expected.last_hidden_state),
            strict=True,
        ):
            np.testing.assert_allclose(ours[row, :frames], theirs[0].numpy(), atol=atol)


def assert_gradients_equal_pytorch(model, encoder, rtol=2e-4):
    """Gradients of all parameters equal PyTorch's relative to the largest entry of each tensor, padding included."""
    sequences, inputs, lengths = example_inputs(encoder)
    mask = apply(encoder.module, encoder.params, inputs, lengths).mask
    target = np.random.default_rng(0).normal(size=(*mask.shape, encoder.num_features)).astype(np.float32)

    def loss(params):
        output = encoder.module.apply({"params": params}, inputs, lengths)
        return jnp.sum(jnp.where(output.mask[..., None], output.last_hidden_state * target, 0.0))

    gradients = jax.jit(jax.grad(loss))(encoder.params)
    model.zero_grad()
    for row, sequence in enumerate(sequences):
        states = torch_output(model, sequence).last_hidden_state[0]
        (states * torch.tensor(target[row, : len(states)])).sum().backward()
    expected = {name: parameter.grad for name, parameter in model.named_parameters()}
    compared = 0
    for name, gradient in invert(gradients, encoder.family.tensor_table(encoder.config, False)):
        if "parametrizations" not in name and expected[name] is not None:
            wanted = expected[name].numpy()
            np.testing.assert_allclose(gradient, wanted, atol=rtol * max(np.abs(wanted).max(), 1.0), err_msg=name)
            compared += 1
    assert compared >= len(expected) - 3  # weight norm's two tensors, and the mask embedding


def assert_training_is_random_and_finite(encoder):
    """Training mode follows its key; its gradients are finite and reach every layer."""
    _, inputs, lengths = example_inputs(encoder)

    @jax.jit
    def loss_and_gradients(params, key):
        def loss(params):
            output = encoder.module.apply({"params": params}, inputs, lengths, train=True, rngs={"dropout": key})
            return jnp.where(output.mask[..., None], jnp.sin(output.last_hidden_state), 0.0).sum()

        return jax.value_and_grad(loss)(params)

    keys = jax.random.split(jax.random.key(0, impl="rbg"), 3)
    losses, gradients = zip(*(loss_and_gradients(encoder.params, key) for key in keys), strict=True)
    assert loss_and_gradients(encoder.params, keys[0])[0] == losses[0]
    assert len({float(loss) for loss in losses}) == 3
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(gradients))
    summed = jax.tree.map(lambda *leaves: sum(map(np.abs, leaves)), *gradients)
    summed = flax.traverse_util.flatten_dict(summed, sep="/")
    assert {path for path, leaf in summed.items() if not leaf.any()} <= {
        path for path in summed if "pooler" in path or path.endswith(("key/bias", "mask_embedding", "sinusoids"))
    }


def assert_saved_encoder_is_read_back(model, folder, target, scan_layers):
    """A saved encoder is read by transformers, which computes the same bits, and by us."""
    options = ComputeOptions(scan_layers=scan_layers)
    encoder = load_encoder(folder, options)
    save_encoder(encoder, target)
    again, report = transformers.AutoModel.from_pretrained(target, output_loading_info=True)
    assert type(again).__name__ == encoder.family.architecture
    assert not report["unexpected_keys"]
    assert all(key.startswith("pooler.") or key.endswith("num_batches_tracked") for key in report["missing_keys"])
    sequence = example_inputs(encoder)[0][0]
    with torch.no_grad():
        ours, theirs = (torch_output(each, sequence).last_hidden_state for each in (again.eval(), model))
    np.testing.assert_allclose(ours.numpy(), theirs.numpy(), atol=1e-6)
    # Weight norm is taken apart and folded again, so not all parameters are equal to the bit.
    close = functools.partial(np.testing.assert_allclose, rtol=1e-6, atol=1e-8)
    jax.tree.map(close, load_encoder(target, options).params, encoder.params)


def assert_parameters_have_axes(folder):
    """Every parameter has one axis name per dimension, stacked over layers or not, which fits its size."""
    for scan_layers in (False, True):
        encoder = load_encoder(folder, ComputeOptions(scan_layers=scan_layers))
        axes = flax.traverse_util.flatten_dict(encoder.logical_axes(), sep="/")
        params = flax.traverse_util.flatten_dict(dict(encoder.params), sep="/")
        sizes = {"embed": encoder.num_features, "layers": encoder.num_layers}
        assert axes.keys() == params.keys()
        for path, names in axes.items():
            for name, size in zip(names, params[path].shape, strict=True):
                assert name not in sizes or sizes[name] == size, path
        assert any("mlp" in names for names in axes.values())
        assert any("heads" in names for names in axes.values())


def assert_freezing_by_path(encoder, pattern):
    """`freeze_mask` freezes what the pattern matches, and nothing else."""
    mask = flax.traverse_util.flatten_dict(freeze_mask(encoder.params, [pattern]), sep="/")
    frozen = {path for path, flag in mask.items() if flag}
    assert frozen == {path for path in mask if path.startswith(f"{pattern}/")}
    assert 0 < len(frozen) < len(mask)
