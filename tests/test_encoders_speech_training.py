"""What is random in the training of speech encoders: dropout, layer drop, masking of spans."""

import functools
import itertools

import hypothesis
import hypothesis.strategies as st
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from emojax.encoders.hubert import read_hubert_config
from emojax.encoders.speech_config import MaskingConfig
from emojax.encoders.speech_encoder import SpeechEncoder
from emojax.encoders.speech_features import mask_states, span_mask
from tests.speech_checkpoints import LARGE, SIZES

QUIET = {
    "hidden_dropout": 0.0,
    "attention_dropout": 0.0,
    "activation_dropout": 0.0,
    "feat_proj_dropout": 0.0,
    "layerdrop": 0.0,
    "apply_spec_augment": False,
}
WAVEFORM = jax.random.normal(jax.random.key(0), (2, 400))
LENGTHS = jnp.array([400, 200])


def key_of(seed):
    # The default generator takes XLA several seconds to compile in every model.
    return jax.random.key(seed, impl="rbg")


def make(model_type="hubert", mask_embedding=True, **changes):
    config = read_hubert_config({"model_type": model_type, **SIZES, **QUIET, **changes}, mask_embedding)
    return SpeechEncoder(config), init(model_type, mask_embedding)


@functools.cache
def init(model_type, mask_embedding):
    config = read_hubert_config({"model_type": model_type, **SIZES, **QUIET}, mask_embedding)
    return jax.jit(SpeechEncoder(config).init)(key_of(1), WAVEFORM, LENGTHS)


@functools.partial(jax.jit, static_argnums=0, static_argnames=("train",))
def run(module, variables, key, train=True):
    return module.apply(variables, WAVEFORM, LENGTHS, train=train, hidden_states=True, rngs={"dropout": key})


@pytest.mark.parametrize(
    "changes",
    [
        {"hidden_dropout": 0.1},
        {"attention_dropout": 0.3},
        {"activation_dropout": 0.1},
        {"feat_proj_dropout": 0.1},
        {"layerdrop": 0.5},
        {"apply_spec_augment": True, "mask_time_prob": 0.5, "mask_time_length": 2},
        {"apply_spec_augment": True, "mask_time_prob": 0.0, "mask_feature_prob": 0.5},
    ],
    ids=lambda changes: next(reversed(changes)),
)
def test_each_source_of_randomness_follows_the_key(changes):
    module, variables = make(**changes)
    keys = list(jax.random.split(key_of(5), 6))
    draws = [np.asarray(run(module, variables, key).last_hidden_state) for key in keys]
    still = np.asarray(run(make()[0], variables, keys[0], train=False).last_hidden_state)
    np.testing.assert_array_equal(run(module, variables, keys[0]).last_hidden_state, draws[0])
    assert all(np.isfinite(draw).all() for draw in draws)
    assert any(np.abs(draw - draws[0]).max() > 1e-3 for draw in draws[1:])
    assert any(np.abs(draw - still).max() > 1e-3 for draw in draws)


def test_training_without_randomness_is_evaluation():
    module, variables = make()
    outputs = [run(module, variables, key_of(0), train=train).last_hidden_state for train in (True, False)]
    np.testing.assert_allclose(*outputs, atol=1e-6)


@pytest.mark.parametrize(("model_type", "num_kept"), [("hubert", 0), ("wav2vec2", 0), ("wavlm", 1)])
def test_layers_are_left_out_whole(model_type, num_kept):
    module, variables = make(model_type, layerdrop=1.0)
    kept = run(module, variables, key_of(0)).hidden_states
    for index, (before, after) in enumerate(itertools.pairwise(kept)):
        assert bool((before == after).all()) == (index >= num_kept)


def test_mask_embedding_gets_a_gradient():
    module, variables = make(apply_spec_augment=True, mask_time_prob=0.5, mask_time_length=2)

    def loss(variables):
        output = module.apply(variables, WAVEFORM, LENGTHS, train=True, rngs={"dropout": key_of(0)})
        return output.last_hidden_state[0].sum() + jnp.square(output.last_hidden_state[0]).sum()

    assert jnp.abs(jax.jit(jax.grad(loss))(variables)["params"]["mask_embedding"]).min() > 0


def test_checkpoint_without_mask_embedding_has_no_such_parameter():
    _, variables = make(mask_embedding=False)
    assert "mask_embedding" not in variables["params"]


@hypothesis.settings(deadline=None, max_examples=25)
@hypothesis.given(
    num_valid=st.lists(st.integers(0, 40), min_size=4, max_size=4),
    probability=st.floats(0.01, 1.0),
    span=st.sampled_from([1, 3, 12]),
    minimum=st.integers(0, 3),
    seed=st.integers(0, 2**31 - 1),
)
def test_spans_lie_within_the_valid_part_and_are_as_many_as_asked(num_valid, probability, span, minimum, seed):
    masked = np.asarray(span_mask(jax.random.key(seed), jnp.array(num_valid), 40, probability, span, minimum))
    for row, valid in zip(masked, num_valid, strict=True):
        assert not row[valid:].any()
        fitting = valid // span
        most = min(max(int(np.ceil(probability * valid / span)), minimum), fitting)
        least = min(max(int(probability * valid / span * (1 - 1e-6)), minimum), fitting)
        assert row.sum() <= most * span
        assert row.sum() >= (least > 0) * (span + least - 1)
        runs = np.diff(np.flatnonzero(np.diff(np.concatenate([[0], row, [0]]))))[::2]
        assert all(length >= span for length in runs)


def test_share_of_masked_frames_and_uniform_starts():
    valid = jnp.full((2000,), 50)
    masked = np.asarray(span_mask(jax.random.key(0), valid, 60, 0.13, 5, 0))
    # 1.3 spans of 5 in expectation; two of them overlap in about a tenth of the frames they cover.
    assert 0.115 < masked[:, :50].mean() < 0.13
    per_frame = masked[:, 4:46].mean(axis=0)
    assert per_frame.std() < 0.1 * per_frame.mean()


def test_masked_frames_become_the_embedding_and_masked_features_zero():
    states = jnp.ones((1, 20, 16))
    config = MaskingConfig(0.4, 4, 1, 0.5, 2, 1)
    masked = np.asarray(mask_states(jax.random.key(3), states, jnp.array([20]), jnp.full(16, 7.0), config))
    columns = (masked == 0).all(axis=1)[0]
    assert 0 < columns.sum() < 16
    rows = masked[0][:, ~columns]
    assert set(np.unique(rows)) == {1.0, 7.0}
    assert ((rows == 7).all(axis=1) | (rows == 1).all(axis=1)).all()


def wide_operands(jaxpr):
    """Names of the products and convolutions of a program that have an operand in float32."""
    found = []
    for equation in jaxpr.eqns:
        if equation.primitive.name in ("dot_general", "conv_general_dilated"):
            types = {str(operand.aval.dtype) for operand in equation.invars}
            found += [equation.primitive.name] * ("float32" in types)
        for inner in jax.tree.leaves(list(equation.params.values()), is_leaf=lambda leaf: hasattr(leaf, "eqns")):
            inner = getattr(inner, "jaxpr", inner)
            found += wide_operands(inner) if hasattr(inner, "eqns") else []
    return found


@pytest.mark.parametrize("model_type", ["hubert", "wavlm"])
@pytest.mark.parametrize("scan_layers", [False, True])
def test_bfloat16_multiplies_narrow_operands_forward_and_backward(model_type, scan_layers):
    config = read_hubert_config({"model_type": model_type, **SIZES, **LARGE}, True)
    module = SpeechEncoder(config, jnp.bfloat16, scan_layers=scan_layers)
    variables = jax.eval_shape(module.init, jax.random.key(1), WAVEFORM, LENGTHS)

    def gradients(params):
        frozen = jax.lax.stop_gradient(params["feature_encoder"])

        def loss(params):
            rngs = {"dropout": jax.random.key(2)}
            variables = {"params": params | {"feature_encoder": frozen}}
            return module.apply(variables, WAVEFORM, LENGTHS, train=True, rngs=rngs).last_hidden_state.sum()

        return jax.grad(loss)(params)

    # Convolutions before the transformer are in float32 on purpose, and frozen here.
    assert wide_operands(jax.make_jaxpr(gradients)(variables["params"]).jaxpr) == ["conv_general_dilated"] * 3
