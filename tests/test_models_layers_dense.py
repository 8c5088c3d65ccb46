"""Products with gradients of their own: equal to XLA's, and `Dense` equal to Flax's."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from emojax.models.layers import Dense, kernel_gradient, product


def value_and_gradients(multiply, rows, kernel, gradient):
    value, back = jax.vjp(multiply, rows, kernel)
    return value, *back(gradient)


@jax.jit
def products(rows, kernel, gradient):
    """Values and gradients of our product and of XLA's, and our gradient of the kernel: one program per shape."""
    return (
        value_and_gradients(lambda rows, kernel: product(jnp.float32, rows, kernel), rows, kernel, gradient),
        value_and_gradients(jnp.matmul, rows, kernel, gradient),
        kernel_gradient(jnp.float32, rows, gradient),
    )


SHAPES = [((1,), 1, 1), ((5,), 3, 7), ((2, 3), 7, 1), ((4, 1), 1, 5), ((3, 5, 2), 2, 6), ((1, 1, 4), 6, 3)]
"""Leading axes, inputs, outputs."""


@settings(max_examples=15, deadline=None)
@given(shape=st.sampled_from(SHAPES), seed=st.integers(0, 1000))
def test_values_and_gradients_are_those_of_a_matrix_product(shape, seed):
    leading, inputs, outputs = shape
    random = np.random.default_rng(seed)
    rows = jnp.asarray(random.normal(size=(*leading, inputs)), jnp.float32)
    kernel = jnp.asarray(random.normal(size=(inputs, outputs)), jnp.float32)
    gradient = jnp.asarray(random.normal(size=(*leading, outputs)), jnp.float32)
    ours, theirs, of_kernel = products(rows, kernel, gradient)
    for found, wanted in zip(ours, theirs, strict=True):
        np.testing.assert_allclose(found, wanted, rtol=1e-5, atol=1e-5)
    np.testing.assert_array_equal(of_kernel, ours[2])


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16])
def test_a_dense_layer_is_flaxs(dtype):
    rows = jax.random.normal(jax.random.key(0), (3, 5, 8))
    theirs = nn.Dense(6, dtype=dtype)
    variables = theirs.init(jax.random.key(1), rows)
    ours = Dense(6, dtype=dtype)
    jax.tree.map(np.testing.assert_array_equal, ours.init(jax.random.key(1), rows), variables)
    found, wanted = ours.apply(variables, rows), theirs.apply(variables, rows)
    assert found.dtype == wanted.dtype
    np.testing.assert_allclose(found, wanted, rtol=1e-6 if dtype == jnp.float32 else 1e-2)


def test_gradients_of_bfloat16_products_are_summed_in_float32_and_have_their_argument_s_type():
    rows = jax.random.normal(jax.random.key(0), (4, 9), jnp.bfloat16)
    kernel = jax.random.normal(jax.random.key(1), (9, 5), jnp.float32)
    value, back = jax.vjp(lambda rows, kernel: product(jnp.bfloat16, rows, kernel), rows, kernel)
    assert value.dtype == jnp.float32
    to_rows, to_kernel = back(jnp.ones_like(value))
    assert (to_rows.dtype, to_kernel.dtype) == (jnp.bfloat16, jnp.float32)
    np.testing.assert_allclose(to_kernel[:, 0], rows.astype(jnp.float32).sum(axis=0), rtol=1e-2, atol=1e-2)
