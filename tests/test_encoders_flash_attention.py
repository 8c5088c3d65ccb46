"""The attention kernel, interpreted on CPU, against the attention that CPUs compute."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from emojax.encoders import attention, flash_attention
from emojax.encoders.attention import attend
from emojax.encoders.random_bits import seeds
from emojax.parallel import MeshConfig, make_mesh

LENGTHS = jnp.array([20, 13, 0])


def operands(num_heads, features, biased, frames=20):
    keys = jax.random.split(jax.random.key(0), 5)
    shape = (3, frames, num_heads * features)
    arrays = [jax.random.normal(key, shape) for key in keys[:3]]
    if biased:
        arrays += [jax.random.normal(keys[3], (num_heads, frames, frames))]
        arrays += [jax.random.uniform(keys[4], (num_heads, 3, frames))]
    return tuple(arrays)


def kernel(num_heads, rate, dropout_key):
    def computed(query, key, value, bias=None, gate=None):
        seed = jnp.zeros(2, jnp.int32) if dropout_key is None else seeds(dropout_key)
        numbers = jnp.concatenate([seed, jnp.arange(3), jnp.arange(num_heads)])
        return flash_attention.flash_attention(
            query, key, value, LENGTHS, bias, gate, numbers, num_heads=num_heads, dropout_rate=rate, interpret=True
        )

    return computed


def value_and_gradients(function, arrays):
    target = jax.random.normal(jax.random.key(9), arrays[0].shape)

    def loss(arrays):
        computed = function(*arrays)
        return jnp.sum(computed * target), computed

    return jax.jit(jax.value_and_grad(loss, has_aux=True))(arrays)


@pytest.mark.parametrize(("num_heads", "features"), [(4, 64), (3, 8)])  # two heads a program, and all three
@pytest.mark.parametrize("biased", [False, True])
@pytest.mark.parametrize("rate", [0.0, 0.4])
def test_kernel_and_its_gradients_equal_the_reference(num_heads, features, biased, rate, monkeypatch):
    monkeypatch.setattr(flash_attention, "_QUERIES", 8)  # three blocks, the last one incomplete
    arrays = operands(num_heads, features, biased)
    dropout_key = jax.random.key(3) if rate else None

    def reference(query, key, value, bias=None, gate=None):
        mask = jnp.arange(20) < LENGTHS[:, None]
        return attend(query, key, value, mask, num_heads, bias, gate, rate, dropout_key)

    ours = value_and_gradients(kernel(num_heads, rate, dropout_key), arrays)
    expected = value_and_gradients(reference, arrays)
    for one, other in zip(*map(jax.tree.leaves, (ours, expected)), strict=True):
        np.testing.assert_allclose(one, other, atol=2e-5, rtol=2e-5)


def test_rows_and_heads_of_a_device_get_the_dropout_of_the_whole_batch(monkeypatch):
    monkeypatch.setattr(attention, "tpu_kind", lambda: "TPU v5 lite")
    interpreted = attention.flash_attention
    monkeypatch.setattr(attention, "flash_attention", lambda *a, **k: interpreted(*a, **k, interpret=True))
    query, key, value = (jnp.tile(each, (2, 1, 1))[:4] for each in operands(4, 64, False))
    bias, gate = jax.random.normal(jax.random.key(5), (4, 20, 20)), jnp.ones((4, 4, 20))
    mask = jnp.arange(20) < jnp.array([[20], [13], [1], [7]])

    def attended(*arrays):
        return attend(*arrays[:3], mask, 4, *arrays[3:], 0.4, jax.random.key(3))

    arrays = (query, key, value, bias, gate)
    alone = value_and_gradients(attended, arrays)
    mesh = make_mesh(MeshConfig(2, 1, 2), jax.devices()[:4])
    with jax.sharding.use_abstract_mesh(mesh.abstract_mesh):
        both = value_and_gradients(attended, jax.device_put(arrays, jax.NamedSharding(mesh, jax.P())))
    for one, other in zip(*map(jax.tree.leaves, (both, alone)), strict=True):
        np.testing.assert_allclose(one, other, atol=2e-5, rtol=2e-5)
    monkeypatch.setattr(attention, "tpu_kind", lambda: "")
    np.testing.assert_allclose(alone[0][1], attended(*arrays), atol=2e-5)


def test_long_recordings_with_a_bias_do_not_fit_on_the_chip():
    for kind, frames, biased, expected in (
        ("TPU v5 lite", 599, True, True),
        ("TPU v5 lite", 1500, False, True),
        ("TPU v5 lite", 6000, True, False),
        ("TPU v4", 599, False, True),
        ("TPU v4", 599, True, False),
        ("TPU v3", 99, False, False),
        ("", 99, False, False),
    ):
        assert flash_attention.fits_on_chip(kind, frames, 1024, 16, biased) is expected, (kind, frames, biased)
