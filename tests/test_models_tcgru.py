"""The TC-GRU in the paper's sizes; padded frames never change an embedding; pooling is over valid frames."""

import dataclasses
import functools
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from emojax.errors import ConfigError
from emojax.models import TCGRU, EmotionHeads, TCGRUConfig, count_parameters, parameter_table, pool
from emojax.models.pooling import POOLINGS
from emojax.models.tcgru import TimeConvolution
from emojax.parallel import MeshConfig, batch_sharding, make_mesh, num_batch_shards, replicated
from emojax.schema import parse, to_tree

PAPER = TCGRUConfig(
    gru_layers=2,
    gru_size=128,
    embedding_size=128,
    conv_channels=0,
    conv_kernel=3,
    block_channels=8,
    block_dilations=(),
    causal=False,
    pooling="last",
    embedding_norm=False,
    embedding_activation="none",
    dropout=0.0,
)
SMALL = dataclasses.replace(PAPER, gru_size=8, embedding_size=6, conv_channels=7)
CAUSAL = {"causal": True, "conv_kernel": 4, "pooling": "statistics"}
FRAMES, FEATURES = 20, 5


def draw(*shape, seed=0):
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


def mask_of(lengths, frames=FRAMES):
    return jnp.arange(frames) < jnp.asarray(lengths)[:, None]


@functools.cache
def small_network(**changes):
    network = TCGRU(dataclasses.replace(SMALL, **changes))
    variables = jax.jit(network.init)(jax.random.key(0), draw(1, FRAMES, FEATURES), mask_of([FRAMES]))
    return variables, jax.jit(network.apply)


@pytest.mark.parametrize(
    ("conv_channels", "features", "expected"),
    [(0, 40, 181_251), (0, 1024, 559_107), (128, 40, 245_891), (128, 1024, 1_001_603)],
)
def test_parameter_counts_are_the_papers(conv_channels, features, expected):
    network = TCGRU(dataclasses.replace(PAPER, conv_channels=conv_channels))
    shapes = jax.eval_shape(
        lambda: network.init(jax.random.key(0), jnp.zeros((1, 5, features)), jnp.ones((1, 5), bool))
    )
    heads = jax.eval_shape(lambda: EmotionHeads(0).init(jax.random.key(0), jnp.zeros((1, 128))))
    assert count_parameters(shapes) + count_parameters(heads) == expected


@settings(deadline=None, max_examples=15)
@given(lengths=st.lists(st.integers(1, FRAMES), min_size=3, max_size=3), padding=st.floats(-1e4, 1e4, width=32))
@example(lengths=[1, FRAMES, 9], padding=float("nan"))
@pytest.mark.parametrize("changes", [{}, CAUSAL])
def test_padding_and_neighbours_never_change_an_embedding(changes, lengths, padding):
    variables, apply = small_network(**changes)
    mask, features = mask_of(lengths), draw(3, FRAMES, FEATURES)
    together = apply(variables, np.where(mask[..., None], features, 0), mask)
    padded = apply(variables, np.where(mask[..., None], features, np.float32(padding)), mask)
    np.testing.assert_array_equal(padded, together)
    neighbours = np.concatenate([features[:1], draw(2, FRAMES, FEATURES, seed=1)])
    beside_others = apply(variables, neighbours, mask_of([lengths[0], 3, FRAMES]))
    np.testing.assert_allclose(beside_others[0], together[0], atol=1e-6)


@pytest.mark.parametrize("changes", [{}, {"conv_channels": 0, "gru_layers": 1, "pooling": "mean"}, CAUSAL])
def test_a_padded_utterance_has_the_embedding_of_the_unpadded_one(changes):
    variables, apply = small_network(**changes)
    features, length = draw(1, FRAMES, FEATURES), 13
    padded = apply(variables, features, mask_of([length]))
    unpadded = apply(variables, features[:, :length], mask_of([length], length))
    np.testing.assert_allclose(padded, unpadded, atol=1e-6)


@pytest.mark.parametrize(("causal", "first_changed"), [(False, 8), (True, 9)])
def test_only_the_causal_convolution_is_independent_of_later_frames(causal, first_changed):
    convolution = TimeConvolution(7, 3, causal)
    features = draw(1, FRAMES, FEATURES)
    changed = features.copy()
    changed[:, 9] += 1.0
    context = jnp.zeros((1, 2, FEATURES))
    variables = convolution.init(jax.random.key(0), jnp.asarray(features), context)
    outputs = [convolution.apply(variables, jnp.asarray(x), context)[0] for x in (features, changed)]
    difference = np.abs(outputs[1] - outputs[0])
    assert np.flatnonzero(difference.max(axis=(0, 2)))[0] == first_changed


def test_dropout_changes_training_only():
    network = TCGRU(dataclasses.replace(SMALL, dropout=0.5))
    features, mask = jnp.asarray(draw(2, FRAMES, FEATURES)), mask_of([FRAMES, 7])
    variables, apply = small_network()
    train = jax.jit(lambda key: network.apply(variables, features, mask, True, rngs={"dropout": key}))
    assert np.abs(train(jax.random.key(0)) - train(jax.random.key(1))).max() > 1e-3
    np.testing.assert_array_equal(jax.jit(network.apply)(variables, features, mask), apply(variables, features, mask))


def test_the_gradient_of_a_sharded_batch_moves_no_activations_between_devices():
    mesh = make_mesh(MeshConfig(data=-1, fsdp=1))
    rows = num_batch_shards(mesh)
    variables, apply = small_network()
    inputs = (jnp.zeros((rows, FRAMES, FEATURES)), jnp.ones((rows, FRAMES), bool))
    arguments = jax.device_put(variables, replicated(mesh)), *jax.device_put(inputs, batch_sharding(mesh))
    gradient = jax.jit(jax.grad(lambda *arguments: apply(*arguments).sum()))
    program = gradient.lower(*arguments).compile().as_text()
    assert rows > 1
    assert "all-reduce" in program
    assert not [name for name in ("all-gather", "all-to-all", "collective-permute") if name in program]


@pytest.mark.parametrize("name", ["last", "mean", "max", "sum", "statistics"])
def test_pooling_is_over_valid_frames_only(name):
    frames, lengths = draw(3, 7, 4), [7, 3, 0]
    expected = {
        "last": lambda rows: rows[-1],
        "mean": lambda rows: rows.mean(axis=0),
        "max": lambda rows: rows.max(axis=0),
        "sum": lambda rows: rows.sum(axis=0),
        "statistics": lambda rows: np.concatenate([rows.mean(axis=0), rows.std(axis=0)]),
    }[name]
    pooled = pool(name, jnp.asarray(frames), mask_of(lengths, 7))
    for row, length in enumerate(lengths[:2]):
        np.testing.assert_allclose(pooled[row], expected(frames[row, :length]), atol=2e-5)
    assert np.isfinite(pooled[2]).all()
    gradient = jax.grad(lambda frames: pool(name, frames, mask_of(lengths, 7)).sum())(jnp.ones_like(frames))
    assert np.isfinite(gradient).all()
    assert not np.asarray(gradient)[1:, 3:].any()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"gru_layers": -1}, "gru_layers must"),
        ({"conv_channels": -1}, "conv_channels must"),
        ({"conv_kernel": 4}, "network.conv_kernel must"),
        ({"dropout": 1.0}, "dropout must"),
    ],
)
def test_impossible_sizes_are_refused(changes, message):
    with pytest.raises(ConfigError, match=message):
        dataclasses.replace(PAPER, **changes)


def test_parameter_table_names_every_array_and_the_total():
    table = parameter_table({"layer": {"kernel": np.zeros((3, 4)), "bias": np.zeros(1200)}})
    assert "layer/kernel" in table
    assert table.splitlines()[-1].split() == ["total", "1,212"]


@functools.cache
def pooling_of(name):
    """Compiled: variables and result of pooling at once; the steps of pooling in chunks."""
    module = POOLINGS[name]()
    return (
        jax.jit(module.init_with_output),
        jax.jit(lambda variables: module.bind(variables).start(2, 3)),
        jax.jit(lambda variables, state, chunk: module.bind(variables).update(state, chunk)),
        jax.jit(lambda variables, state: module.bind(variables).finish(state)),
    )


@pytest.mark.parametrize("name", POOLINGS)
@settings(deadline=None, max_examples=10)
@given(cuts=st.sets(st.integers(1, 6), max_size=4), seed=st.integers(0, 9))
def test_pooling_in_chunks_equals_pooling_at_once(name, cuts, seed):
    frames = draw(2, 7, 3, seed=seed)
    at_once, start, update, finish = pooling_of(name)
    whole, variables = at_once(jax.random.key(seed), frames, np.ones(frames.shape[:2], bool))
    state = start(variables)
    for begin, end in itertools.pairwise([0, *sorted(cuts), 7]):
        state = update(variables, state, frames[:, begin:end])
    np.testing.assert_allclose(finish(variables, state), whole, atol=2e-5)


def test_names_of_the_config_are_those_of_the_registry():
    for name in POOLINGS:
        assert dataclasses.replace(PAPER, pooling=name).pooling == name
    with pytest.raises(ConfigError, match=r"pooling must be 'last' or 'mean' .* got 'men'; did you mean 'mean'\?"):
        parse(TCGRUConfig, {**to_tree(PAPER), "pooling": "men"})
