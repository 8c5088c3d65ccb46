"""The model of the paper in its sizes; padding and filler rows never change a result."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from configs import default
from emojax.config import parse_experiment
from emojax.errors import ConfigError
from emojax.models import TCGRU, EmotionHeads, EmotionModel, TCGRUConfig, count_parameters, parameter_table, pool
from emojax.types import Batch

PAPER = TCGRUConfig(
    gru_layers=2,
    gru_size=128,
    embedding_size=128,
    conv_channels=0,
    conv_kernel=3,
    causal=False,
    pooling="last",
    dropout=0.0,
)


def small_config(**view):
    config = parse_experiment(default.get_config().to_dict()).model
    temporal = dataclasses.replace(config.temporal, gru_size=8, conv_channels=6, embedding_size=5)
    return dataclasses.replace(config, temporal=temporal, view=dataclasses.replace(config.view, **view))


def make_batch(lengths, samples, dtype=np.int16, seed=0):
    rng = np.random.default_rng(seed)
    rows = len(lengths)
    waveform = np.zeros((rows, samples), np.int16)
    for row, length in enumerate(lengths):
        waveform[row, :length] = np.random.default_rng([seed, row]).integers(-9000, 9000, length)
    return Batch(
        waveform=jnp.asarray(waveform if dtype == np.int16 else (waveform / 32768).astype(dtype)),
        num_samples=jnp.asarray(lengths, jnp.int32),
        tokens=jnp.zeros((rows, 0), jnp.int32),
        num_tokens=jnp.zeros(rows, jnp.int32),
        attributes=jnp.asarray(rng.uniform(size=(rows, 3)), jnp.float32),
        emotion=jnp.zeros(rows, jnp.int32),
        emotion_votes=jnp.zeros((rows, 4), jnp.float32),
        weight=jnp.ones(rows, jnp.float32),
        index=jnp.arange(rows, dtype=jnp.int32),
    )


@functools.cache
def small_model(**view):
    model = EmotionModel(small_config(**view), num_categories=4)
    variables = model.init(jax.random.key(0), make_batch([16000], 16000))
    return model, variables, jax.jit(lambda variables, batch: model.apply(variables, batch))


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


def test_parameter_table_names_every_array_and_the_total():
    table = parameter_table({"layer": {"kernel": np.zeros((3, 4)), "bias": np.zeros(1200)}})
    assert "layer/kernel" in table
    assert table.splitlines()[-1].split() == ["total", "1,212"]


@settings(deadline=None, max_examples=6)
@given(
    lengths=st.lists(st.integers(1, 20_000), min_size=3, max_size=3),
    normalisation=st.sampled_from(["none", "utterance", "corpus"]),
)
def test_an_utterance_does_not_depend_on_what_it_is_batched_with(lengths, normalisation):
    _, variables, apply = small_model(normalisation=normalisation)
    together = apply(variables, make_batch(lengths, 24_000))
    for row, length in enumerate(lengths):
        batch = make_batch(lengths, 24_000)
        alone = jax.tree.map(lambda rows, row=row: rows[row : row + 1], batch)
        unpadded = alone.replace(waveform=alone.waveform[:, :length])
        for other in (alone, unpadded):
            output = apply(variables, other)
            jax.tree.map(
                lambda whole, single, row=row: np.testing.assert_allclose(whole[row], single[0], atol=2e-5),
                together,
                output,
            )


def test_garbage_behind_the_end_of_an_utterance_is_not_heard():
    _, variables, apply = small_model()
    clean = make_batch([9_000, 15_000], 16_000)
    noise = np.random.default_rng(1).integers(-9000, 9000, clean.waveform.shape).astype(np.int16)
    dirty = clean.replace(waveform=jnp.where(clean.sample_mask, clean.waveform, noise))
    jax.tree.map(np.testing.assert_array_equal, apply(variables, clean), apply(variables, dirty))


def test_filler_rows_are_finite_and_so_are_their_gradients():
    model, variables, _ = small_model(normalisation="utterance")
    batch = make_batch([12_000, 0], 16_000)

    def loss(params):
        output = model.apply(variables | {"params": params}, batch)
        return (output.attributes**2).sum() + (output.emotion_logits**2).sum()

    value, gradient = jax.value_and_grad(loss)(variables["params"])
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves((value, gradient)))


def test_int16_and_float_audio_are_the_same():
    _, variables, apply = small_model()
    whole, scaled = (apply(variables, make_batch([16_000, 9_000], 16_000, dtype)) for dtype in (np.int16, np.float32))
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-5), whole, scaled)


def test_training_draws_augmentation_and_dropout_from_its_keys_and_evaluation_draws_nothing():
    config = small_config()
    view = dataclasses.replace(
        config.view,
        vtlp=dataclasses.replace(config.view.vtlp, max_warp=0.2),
        time_stretch=dataclasses.replace(config.view.time_stretch, max_stretch=0.2),
        spec_augment=dataclasses.replace(config.view.spec_augment, num_time_masks=2, num_frequency_masks=2),
    )
    config = dataclasses.replace(config, view=view, temporal=dataclasses.replace(config.temporal, dropout=0.5))
    model = EmotionModel(config, num_categories=4)
    batch = make_batch([16_000, 9_000], 16_000)
    variables = model.init(jax.random.key(0), batch)

    def train(seed):
        keys = {"dropout": jax.random.key(seed), "augment": jax.random.key(seed + 1)}
        return model.apply(variables, batch, train=True, rngs=keys).attributes

    np.testing.assert_array_equal(train(1), train(1))
    assert np.abs(train(1) - train(5)).max() > 1e-4
    evaluated = model.apply(variables, batch)
    np.testing.assert_array_equal(evaluated.attributes, model.apply(variables, batch).attributes)


def test_corpus_statistics_are_constants_that_normalise():
    model, variables, _ = small_model(normalisation="corpus")
    assert set(variables["statistics"]["view"]) == {"mean", "std"}
    batch = make_batch([16_000], 16_000)
    moved = jax.tree.map(lambda leaf: leaf + 1.0, variables["statistics"])
    changed = model.apply(variables | {"statistics": moved}, batch)
    assert np.abs(changed.attributes - model.apply(variables, batch).attributes).max() > 1e-4


@pytest.mark.parametrize("name", ["last", "mean", "statistics"])
def test_pooling_sees_valid_frames_only(name):
    frames = np.random.default_rng(0).normal(size=(3, 7, 4)).astype(np.float32)
    lengths = [7, 3, 0]
    mask = jnp.asarray(np.arange(7) < np.array(lengths)[:, None])
    pooled = pool(name, jnp.asarray(frames), mask)
    expected = {
        "last": lambda rows: rows[-1],
        "mean": lambda rows: rows.mean(axis=0),
        "statistics": lambda rows: np.concatenate([rows.mean(axis=0), rows.std(axis=0)]),
    }[name]
    for row, length in enumerate(lengths[:2]):
        np.testing.assert_allclose(pooled[row], expected(frames[row, :length]), atol=1e-5)
    assert np.isfinite(pooled[2]).all()


def test_one_compilation_serves_every_batch_of_a_bucket():
    _, variables, apply = small_model()
    before = apply._cache_size()
    for seed in range(3):
        apply(variables, make_batch([7_000 + seed, 9_000], 13_000, seed=seed))
    assert apply._cache_size() == before + 1


def test_bfloat16_stays_close_and_returns_float32():
    config = dataclasses.replace(small_config(), dtype="bfloat16")
    _, variables, apply = small_model()
    batch = make_batch([16_000, 9_000], 16_000)
    coarse = EmotionModel(config, num_categories=4).apply(variables, batch)
    exact = apply(variables, batch)
    assert coarse.attributes.dtype == jnp.float32
    np.testing.assert_allclose(coarse.attributes, exact.attributes, atol=5e-2)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"gru_layers": 0}, "temporal.gru_layers: 0 is not allowed"),
        ({"conv_kernel": 4}, "temporal.conv_kernel: 4 is not allowed; allowed: odd unless causal"),
        ({"dropout": 1.0}, "temporal.dropout: 1.0 is not allowed"),
    ],
)
def test_impossible_sizes_are_refused(changes, message):
    with pytest.raises(ConfigError, match=message.split(";")[0]):
        dataclasses.replace(PAPER, **changes)


def test_a_causal_convolution_sees_no_later_frame():
    network = TCGRU(
        dataclasses.replace(PAPER, conv_channels=8, gru_size=8, embedding_size=8, causal=True, conv_kernel=4)
    )
    features = jnp.asarray(np.random.default_rng(0).normal(size=(1, 30, 5)), jnp.float32)
    variables = network.init(jax.random.key(0), features, jnp.ones((1, 30), bool))
    short = network.apply(variables, features, jnp.arange(30)[None] < 20)
    cut = network.apply(variables, features[:, :20], jnp.ones((1, 20), bool))
    np.testing.assert_allclose(short, cut, atol=1e-6)
