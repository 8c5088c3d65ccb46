"""Attention by cuDNN's kernel: where it is chosen, its operands computed by XLA, and the program lowered for CUDA."""

import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax._src.cudnn import fused_attention_stablehlo

from emojax.encoders import attention, cudnn_attention
from emojax.encoders.attention import attend
from emojax.encoders.layers import remat_layer
from emojax.encoders.transformer import TransformerLayer
from emojax.encoders.transformer_config import TransformerConfig
from emojax.parallel import MeshConfig, cuda_capability, make_mesh

HEADS, FEATURES, FRAMES = 2, 8, 13
LENGTHS = jnp.array([13, 7, 5, 1])
MASK = jnp.arange(FRAMES) < LENGTHS[:, None]


def operands(biased):
    keys = jax.random.split(jax.random.key(0), 5)
    arrays = [jax.random.normal(key, (len(LENGTHS), FRAMES, HEADS * FEATURES)) for key in keys[:3]]
    if biased:
        arrays += [jax.random.normal(keys[3], (HEADS, FRAMES, FRAMES))]
        arrays += [jax.random.uniform(keys[4], (HEADS, len(LENGTHS), FRAMES))]
    return tuple(arrays)


def value_and_gradients(arrays, rate=0.0):
    target = jax.random.normal(jax.random.key(9), arrays[0].shape)

    def loss(arrays):
        key = jax.random.key(3) if rate else None
        attended = attend(*arrays[:3], MASK, HEADS, *arrays[3:], dropout_rate=rate, dropout_key=key)
        return jnp.sum(attended * target), attended

    return jax.value_and_grad(loss, has_aux=True)(arrays)


@pytest.fixture
def on_gpu(monkeypatch):
    """The choice of a GPU with the kernel."""
    monkeypatch.setattr(attention, "cuda_capability", lambda: 9.0)


@pytest.fixture
def computed_by_xla(on_gpu, monkeypatch):
    """The kernel's operands, in any type, computed by XLA."""
    monkeypatch.setattr(cudnn_attention, "_IMPLEMENTATION", "xla")
    monkeypatch.setattr(attention, "fits_cudnn", lambda capability, dtype, features, rate: not rate)


@pytest.fixture
def without_a_gpu(on_gpu, monkeypatch):
    """JAX's checks of the GPU and of cuDNN, which need both, answered for an H100."""
    monkeypatch.setattr(fused_attention_stablehlo, "check_cudnn_version", lambda: 91000)
    monkeypatch.setattr(fused_attention_stablehlo, "check_compute_capability", lambda capability: True)
    monkeypatch.setattr(fused_attention_stablehlo, "is_cuda_compute_capability_equal", lambda capability: False)


def test_kernel_is_chosen_for_narrow_types_without_dropout_on_gpus_since_ampere():
    fits = cudnn_attention.fits_cudnn
    assert fits(9.0, jnp.bfloat16, 64, 0.0)
    assert fits(8.0, jnp.float16, 128, 0.0)
    assert not fits(9.0, jnp.float32, 64, 0.0)
    assert not fits(9.0, jnp.bfloat16, 64, 0.1)
    assert not fits(9.0, jnp.bfloat16, 136, 0.0)
    assert not fits(9.0, jnp.bfloat16, 20, 0.0)
    assert not fits(7.5, jnp.bfloat16, 64, 0.0)
    assert cuda_capability() == 0.0  # tests run on CPUs


@pytest.mark.parametrize("biased", [False, True])
def test_operands_of_the_kernel_give_the_reference_and_its_gradients(biased, request):
    arrays = operands(biased)
    expected = value_and_gradients(arrays)
    request.getfixturevalue("computed_by_xla")
    for one, other in zip(*map(jax.tree.leaves, (value_and_gradients(arrays), expected)), strict=True):
        np.testing.assert_allclose(one, other, atol=2e-5, rtol=2e-5)


def test_rows_without_frames_stay_finite(computed_by_xla):
    def loss(arrays):
        return jnp.sum(attend(*arrays[:3], jnp.zeros_like(MASK), HEADS, *arrays[3:]))

    for each in jax.tree.leaves(jax.value_and_grad(loss)(operands(True))):
        assert np.isfinite(each).all()


def test_devices_compute_their_rows_and_heads(computed_by_xla):
    arrays = operands(True)
    alone = value_and_gradients(arrays)
    mesh = make_mesh(MeshConfig(2, 1, 2), jax.devices()[:4])
    with jax.sharding.use_abstract_mesh(mesh.abstract_mesh):
        placed = jax.device_put(arrays, jax.NamedSharding(mesh, jax.P()))
        sharded = jax.jit(value_and_gradients)(placed)
    for one, other in zip(*map(jax.tree.leaves, (sharded, alone)), strict=True):
        np.testing.assert_allclose(one, other, atol=2e-5, rtol=2e-5)


def test_dropout_of_weights_computes_the_reference(without_a_gpu):
    arrays = tuple(each.astype(jnp.bfloat16) for each in operands(False))
    assert not kernels(lambda arrays: value_and_gradients(arrays, rate=0.1), arrays)


def kernels(function, *arguments):
    lowered = jax.jit(function).trace(*arguments).lower(lowering_platforms=("cuda",))
    return re.findall(r"__cudnn\$(\w+)", lowered.as_text())


@pytest.mark.parametrize("biased", [False, True])
def test_program_for_cuda_has_one_kernel_forward_and_one_backward(biased, without_a_gpu):
    arrays = tuple(each.astype(jnp.bfloat16) for each in operands(biased))
    scores = "ScaleBiasSoftmax" if biased else "Softmax"
    assert kernels(value_and_gradients, arrays) == [f"fmha{scores}", f"fmha{scores}Backward"]
    assert not kernels(value_and_gradients, operands(biased))


@pytest.mark.parametrize(("saves", "forward"), [("nothing", 2), ("attention", 1)])
@pytest.mark.parametrize("biased", [False, True])
def test_remat_runs_the_forward_kernel_again_only_where_its_results_are_not_kept(saves, forward, biased, without_a_gpu):
    sizes = TransformerConfig(HEADS * FEATURES, 1, HEADS, 8, "gelu", True, 1e-5, True, 0.1, True, 0.0, 0.0, 0.0, False)
    layer = remat_layer(TransformerLayer, False, saves)(sizes, jnp.bfloat16, True)
    states, rates, bias = jnp.ones((4, FRAMES, HEADS * FEATURES)), jnp.zeros(()), None
    if biased:
        bias = jnp.ones((HEADS, FRAMES, FRAMES))
    keys = {"params": jax.random.key(0), "dropout": jax.random.key(1)}
    params = jax.eval_shape(layer.init, keys, states, rates, MASK, bias)

    def gradients(params):
        def loss(params):
            return jnp.sum(layer.apply(params, states, rates, MASK, bias, rngs={"dropout": jax.random.key(1)})[0])

        return jax.grad(loss)(params)

    found = str(jax.make_jaxpr(gradients)(params))
    assert found.count(cudnn_attention.FORWARD) == forward
    assert found.count(cudnn_attention.FORWARD.replace("fwd", "bwd")) == 1
