"""Parts of the speech encoders, each against an independent computation."""

import functools

import flax.linen as nn
import hypothesis
import hypothesis.strategies as st
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
import transformers

from emojax.encoders import reference_attention, speech_features
from emojax.encoders.attention import attend, position_buckets
from emojax.encoders.hubert import read_hubert_config
from emojax.encoders.layers import ACTIVATIONS, gelu, grouped_convolution
from emojax.encoders.mixed_precision import Linear, product
from emojax.encoders.norms import layer_norm, masked_statistics
from emojax.encoders.random_bits import kept, stream
from emojax.encoders.speech_features import FeatureEncoder, MaskedChannelNorm
from tests import speech_checkpoints


@pytest.mark.parametrize("taps", [1, 4, 5])
def test_grouped_convolution_and_its_gradients_equal_pytorch(taps):
    generator = np.random.default_rng(0)
    states, cotangent = generator.normal(size=(2, 2, 9, 6)).astype(np.float32)
    kernel = generator.normal(size=(taps, 2, 6)).astype(np.float32)
    outputs, pullback = jax.vjp(lambda x, w: grouped_convolution(x, w, 3), jnp.asarray(states), jnp.asarray(kernel))
    x, w = (
        torch.tensor(array.transpose(axes), requires_grad=True)
        for array, axes in ((states, (0, 2, 1)), (kernel, (2, 1, 0)))
    )
    expected = torch.nn.functional.conv1d(x, w, padding=taps // 2, groups=3)[:, :, :9]
    (expected * torch.tensor(cotangent.transpose(0, 2, 1))).sum().backward()
    np.testing.assert_allclose(outputs, expected.detach().numpy().transpose(0, 2, 1), atol=1e-5)
    ours = pullback(jnp.asarray(cotangent))
    np.testing.assert_allclose(ours[0], x.grad.numpy().transpose(0, 2, 1), atol=1e-5)
    np.testing.assert_allclose(ours[1], w.grad.numpy().transpose(2, 1, 0), atol=1e-5)


@hypothesis.settings(deadline=None, max_examples=40)
@hypothesis.example(80, 800, 20_000)
@hypothesis.given(st.integers(1, 80), st.integers(2, 2000), st.sampled_from([2, 130, 2500]))
def test_position_buckets_equal_transformers(quarter, max_distance, num_frames):
    num_buckets = 4 * quarter
    hypothesis.assume(max_distance > quarter)
    attention = transformers.models.wavlm.modeling_wavlm.WavLMAttention(4, 2, 0.0, num_buckets, max_distance)
    distances = np.arange(1 - num_frames, num_frames)
    expected = attention._relative_positions_bucket(torch.tensor(distances)).numpy()
    buckets = position_buckets(distances, num_buckets, max_distance)
    assert buckets.min() >= 0
    assert buckets.max() < num_buckets
    # Where the edge of a bucket is a whole distance, the last bit of a logarithm decides; published sizes have none.
    edges = np.log(np.maximum(abs(distances), 1) / quarter) / np.log(max_distance / quarter) * quarter
    on_an_edge = (np.abs(edges - np.round(edges)) < 1e-4) & ((quarter, max_distance) != (80, 800))
    np.testing.assert_array_equal(buckets[~on_an_edge], expected[~on_an_edge])


@hypothesis.settings(deadline=None, max_examples=5)
@hypothesis.given(lengths=st.lists(st.integers(2, 11), min_size=2, max_size=2), seed=st.integers(0, 99))
def test_masked_norm_equals_group_norm_of_the_valid_part(lengths, seed):
    states = np.random.default_rng(seed).normal(3.0, 2.0, (2, 11, 4)).astype(np.float32)
    mask = np.arange(11) < np.array(lengths)[:, None]
    params = {"scale": jnp.arange(4.0), "bias": jnp.arange(4.0) - 2}
    ours = MaskedChannelNorm().apply({"params": params}, jnp.asarray(states), jnp.asarray(mask))
    norm = torch.nn.GroupNorm(4, 4)
    norm.weight.data, norm.bias.data = torch.arange(4.0), torch.arange(4.0) - 2
    for row, length in enumerate(lengths):
        expected = norm(torch.tensor(states[row : row + 1, :length].transpose(0, 2, 1)))[0].detach().numpy().T
        np.testing.assert_allclose(ours[row, :length], expected, atol=2e-5)


def test_masked_statistics_over_many_blocks_and_their_gradients():
    states = jax.random.normal(jax.random.key(0), (3, 600, 2)) + 5.0
    mask = jnp.arange(600) < jnp.array([[600], [300], [0]])

    def reference(states):
        count = jnp.maximum(mask.sum(axis=1), 1)[:, None, None]
        mean = jnp.where(mask[..., None], states, 0.0).sum(axis=1, keepdims=True) / count
        squares = jnp.where(mask[..., None], jnp.square(states - mean), 0.0)
        return mean, squares.sum(axis=1, keepdims=True) / count

    def ours(states):
        return masked_statistics(states, mask)

    for one, other in zip(ours(states), reference(states), strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-5)
    gradients = [
        jax.jit(jax.grad(lambda x, f=f: jnp.sum(jnp.sin(f(x)[0]) + jnp.cos(f(x)[1]))))(states)
        for f in (ours, reference)
    ]
    np.testing.assert_allclose(*gradients, atol=1e-6)
    assert not gradients[0][2].any()


def test_attention_head_by_head_equals_all_heads_at_once():
    keys = jax.random.split(jax.random.key(0), 5)
    query, key, value = (jax.random.normal(k, (2, 7, 12)) for k in keys[:3])
    bias, gate = jax.random.normal(keys[3], (3, 7, 7)), jax.random.uniform(keys[4], (3, 2, 7))
    mask = jnp.arange(7) < jnp.array([[7], [4]])

    def reference(query, key, value, bias, gate):
        query, key, value = (each.reshape(2, 7, 3, 4) for each in (query, key, value))
        logits = jnp.einsum("bthf,bshf->hbts", query, key) / 2 + gate[..., None] * bias[:, None].swapaxes(-1, -2)
        weights = jax.nn.softmax(jnp.where(mask[:, None], logits, -jnp.inf), axis=-1)
        return jnp.einsum("hbts,bshf->bthf", weights, value).reshape(2, 7, 12)

    def ours(query, key, value, bias, gate):
        return attend(query, key, value, mask, 3, bias, gate)

    operands = (query, key, value, bias, gate)
    both = [
        jax.jit(jax.value_and_grad(lambda x, f=f: (jnp.sum(jnp.sin(f(*x))), f(*x)), has_aux=True))(operands)
        for f in (ours, reference)
    ]
    for one, other in zip(*map(jax.tree.leaves, both), strict=True):
        np.testing.assert_allclose(one, other, atol=1e-5)


def test_attention_dropout_keeps_the_expectation():
    query, key, value = jax.random.normal(jax.random.key(0), (3, 1, 5, 8))
    mask = jnp.ones((1, 5), bool)

    def draw(dropout_key):
        return attend(query, key, value, mask, 2, None, None, 0.3, dropout_key)

    draws = jax.jit(jax.vmap(draw))(jax.random.split(jax.random.key(1), 4000))
    standard_error = draws.std(axis=0) / 4000**0.5
    assert float(standard_error.min()) > 0
    deviation = jnp.abs(draws.mean(axis=0) - attend(query, key, value, mask, 2))
    assert float((deviation / standard_error).max()) < 5


@pytest.mark.parametrize(("rows", "frames"), [(1, 1024), (64, 256)])  # one head after another, few rows
def test_attention_keeps_no_weights_for_the_backward_pass(rows, frames):
    operand = jax.ShapeDtypeStruct((rows, frames, 128), jnp.float32)
    mask = jnp.ones((rows, frames), bool)
    gradient = jax.grad(lambda q, k, v: jnp.sum(jnp.square(attend(q, k, v, mask, 8))), (0, 1, 2))
    compiled = jax.jit(gradient).lower(operand, operand, operand).compile()
    # An eighth of the weights is at work, some of it twice.
    assert compiled.memory_analysis().temp_size_in_bytes < 0.75 * rows * 8 * frames**2 * 4


@pytest.mark.parametrize("biased", [False, True])
@pytest.mark.parametrize("rate", [0.0, 0.4])
def test_attention_of_few_rows_at_a_time_equals_that_of_one_head(monkeypatch, biased, rate):
    random = np.random.default_rng(0)
    arrays = [jnp.asarray(random.normal(size=(3, 9, 8)), jnp.float32) for _ in range(3)]
    if biased:
        arrays += [jnp.asarray(random.normal(size=shape), jnp.float32) for shape in ((2, 9, 9), (2, 3, 9))]
    mask = jnp.arange(9) < jnp.array([[9], [4], [0]])

    def value_and_gradients(short):
        monkeypatch.setattr(reference_attention, "SHORT", short)

        def loss(arrays):
            attended = attend(*arrays[:3], mask, 2, *(arrays[3:] or (None, None)), rate, jax.random.key(1))
            return jnp.square(attended).sum(), attended

        return jax.jit(jax.value_and_grad(loss, has_aux=True))(arrays)

    monkeypatch.setattr(reference_attention, "CACHED_WEIGHTS", 2 * 2 * 9 * 9)  # two rows, then the third
    by_row, by_head = value_and_gradients(9), value_and_gradients(8)
    for one, other in zip(*map(jax.tree.leaves, (by_row, by_head)), strict=True):
        np.testing.assert_allclose(one, other, atol=1e-5, rtol=1e-5)


def test_attention_of_no_rows_is_empty():
    states = jnp.zeros((0, 5, 8))
    assert attend(states, states, states, jnp.ones((0, 5), bool), 2).shape == (0, 5, 8)


def test_convolutions_row_by_row_equal_those_of_the_batch(monkeypatch):
    config = read_hubert_config({"model_type": "hubert", **speech_checkpoints.SIZES}, mask_embedding=False).convolution
    module, waveform = FeatureEncoder(config), jax.random.normal(jax.random.key(0), (3, 900))
    lengths = jnp.array([900, 600, 0])
    params = module.init(jax.random.key(1), waveform, lengths)

    def value_and_gradients(single):
        monkeypatch.setattr(speech_features, "on_single_cpu", lambda: single)

        def loss(params, waveform):
            features = module.apply(params, waveform, lengths)
            return jnp.square(features).sum(), features

        compiled = jax.jit(jax.value_and_grad(loss, (0, 1), has_aux=True))
        return compiled(params, waveform), jax.jit(module.apply)(params, waveform, lengths)

    assert jax.tree.structure(module.init(jax.random.key(1), waveform, lengths)) == jax.tree.structure(params)
    for one, other in zip(*map(jax.tree.leaves, (value_and_gradients(True), value_and_gradients(False))), strict=True):
        np.testing.assert_allclose(one, other, atol=1e-4, rtol=1e-4)


def test_random_bits_are_uniform_and_independent_between_streams_and_neighbours():
    positions = (jnp.arange(300) * 2**16)[:, None] + jnp.arange(300)
    draws = np.stack([kept(stream(1, 2, row, head), positions, 0.1) for row in range(3) for head in range(3)])
    assert abs(draws.mean() - 0.9) < 5 * (0.09 / draws.size) ** 0.5
    dropped = ~draws
    size = draws[0].size
    pairs = [(dropped[0], dropped[number]) for number in range(1, 9)]
    pairs += [(dropped[0][:, 1:], dropped[0][:, :-1]), (dropped[0][1:], dropped[0][:-1])]
    for one, other in pairs:
        assert abs((one & other).mean() - 0.01) < 5 * (0.01 * 0.99 / size) ** 0.5
    rows = dropped.mean(axis=-1)
    assert abs(rows - 0.1).max() < 5.5 * (0.09 / 300) ** 0.5


@pytest.mark.parametrize("name", ["gelu", "gelu_new", "relu", "silu"])
def test_activations_and_their_slopes_equal_transformers(name):
    x = np.linspace(-8, 8, 1001, dtype=np.float32)
    operand = torch.tensor(x, requires_grad=True)
    expected = transformers.activations.ACT2FN[name](operand)
    expected.sum().backward()
    np.testing.assert_allclose(ACTIVATIONS[name](jnp.asarray(x)), expected.detach().numpy(), atol=2e-6)
    slope = jax.grad(lambda x: ACTIVATIONS[name](x).sum())(jnp.asarray(x))
    np.testing.assert_allclose(slope, operand.grad.numpy(), atol=1e-5)


def test_gelu_keeps_the_narrow_type_but_not_its_rounding():
    x = jnp.linspace(-3, 3, 101, dtype=jnp.bfloat16)
    assert gelu(x).dtype == jnp.bfloat16
    np.testing.assert_allclose(gelu(x).astype(jnp.float32), gelu(x.astype(jnp.float32)), rtol=2**-8)


def value_and_gradients(function, *operands):
    """Result and gradients of its product with random numbers."""

    def loss(*operands):
        result = function(*operands)
        return jnp.sum(result * jax.random.normal(jax.random.key(7), result.shape)), result

    return jax.jit(jax.value_and_grad(loss, argnums=tuple(range(len(operands))), has_aux=True))(*operands)


def test_layer_norm_and_its_gradients_equal_flax():
    keys = jax.random.split(jax.random.key(0), 3)
    inputs = 50.0 + jax.random.normal(keys[0], (2, 5, 8))
    params = {"scale": jax.random.normal(keys[1], (8,)), "bias": jax.random.normal(keys[2], (8,))}
    ours, flax = layer_norm(1e-5, jnp.float32), nn.LayerNorm(epsilon=1e-5, use_fast_variance=False)
    found, expected = (
        value_and_gradients(lambda params, inputs, norm=norm: norm.apply({"params": params}, inputs), params, inputs)
        for norm in (ours, flax)
    )
    for one, other in zip(*map(jax.tree.leaves, (found, expected)), strict=True):
        np.testing.assert_allclose(one, other, atol=1e-4, rtol=1e-5)


@pytest.mark.parametrize("use_bias", [True, False])
def test_dense_layer_in_bfloat16_stays_close_to_float32(use_bias):
    keys = jax.random.split(jax.random.key(0), 3)
    inputs = jax.random.normal(keys[0], (2, 5, 8))
    params = {"kernel": jax.random.normal(keys[1], (8, 6))}
    if use_bias:
        params["bias"] = jax.random.normal(keys[2], (6,))
    found, expected = (
        value_and_gradients(
            lambda params, inputs, dtype=dtype: Linear(6, dtype, use_bias).apply({"params": params}, inputs),
            params,
            inputs,
        )
        for dtype in (jnp.bfloat16, jnp.float32)
    )
    for one, other in zip(*map(jax.tree.leaves, (found, expected)), strict=True):
        assert one.dtype == jnp.float32
        np.testing.assert_allclose(one, other, atol=0.1, rtol=2e-2)


@pytest.mark.parametrize("subscripts", ["btf,bsf->bts", "bts,bsf->btf"])
def test_product_in_bfloat16_stays_close_to_float32(subscripts):
    left, right = (jax.random.normal(key, (2, 6, 6), jnp.bfloat16) for key in jax.random.split(jax.random.key(0)))
    function = functools.partial(product, subscripts)
    found = value_and_gradients(function, left, right)
    expected = value_and_gradients(function, left.astype(jnp.float32), right.astype(jnp.float32))
    assert found[0][1].dtype == jnp.float32
    for one, other in zip(*map(jax.tree.leaves, (found, expected)), strict=True):
        np.testing.assert_allclose(one.astype(jnp.float32), other, atol=0.1, rtol=2e-2)
