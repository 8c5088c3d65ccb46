"""The whole model: padding, filler rows and sample formats never change a result; training draws from its keys."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from configs import default
from emojax.config import parse_experiment
from emojax.encoders import load_encoder
from emojax.models import EmotionModel, EncoderPart
from emojax.models.log_mel_input import LogMelInput
from emojax.types import Batch

SAMPLES = 16_000


def small_config(**modality):
    config = parse_experiment(default.get_config().to_dict()).model
    network = dataclasses.replace(config.log_mel.network, gru_size=8, conv_channels=6, embedding_size=5)
    return dataclasses.replace(config, log_mel=dataclasses.replace(config.log_mel, network=network, **modality))


def make_batch(lengths, samples=SAMPLES, dtype=np.int16, seed=0):
    rows = len(lengths)
    waveform = np.zeros((rows, samples), np.int16)
    for row, length in enumerate(lengths):
        waveform[row, :length] = np.random.default_rng([seed, row]).integers(-9000, 9000, length)
    return Batch(
        waveform=jnp.asarray(waveform if dtype == np.int16 else (waveform / 32768).astype(dtype)),
        num_samples=jnp.asarray(lengths, jnp.int32),
        tokens=jnp.zeros((rows, 0), jnp.int32),
        num_tokens=jnp.zeros(rows, jnp.int32),
        attributes=jnp.zeros((rows, 3), jnp.float32),
        emotion=jnp.zeros(rows, jnp.int32),
        emotion_votes=jnp.zeros((rows, 4), jnp.float32),
        weight=jnp.ones(rows, jnp.float32),
        index=jnp.arange(rows, dtype=jnp.int32),
    )


@functools.cache
def small_model(**modality):
    model = EmotionModel(small_config(**modality), num_categories=4)
    variables = jax.jit(model.init)(jax.random.key(0), make_batch([SAMPLES]))
    return model, variables, jax.jit(lambda variables, batch: model.apply(variables, batch))


def assert_close(actual, expected, atol):
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=atol), actual, expected)


def row_of(tree, row):
    return jax.tree.map(lambda rows: rows[row : row + 1], tree)


@pytest.mark.parametrize("normalisation", ["utterance", "corpus"])
def test_an_utterance_does_not_depend_on_what_it_is_batched_with_or_how_far_it_is_padded(normalisation):
    _, variables, apply = small_model(normalisation=normalisation)
    together = apply(variables, make_batch([7_345, SAMPLES]))
    assert_close(row_of(apply(variables, make_batch([7_345, 90])), 0), row_of(together, 0), 2e-5)
    assert_close(apply(variables, make_batch([7_345], samples=7_345)), row_of(together, 0), 2e-5)


@settings(deadline=None, max_examples=8)
@given(lengths=st.lists(st.integers(0, SAMPLES), min_size=2, max_size=2), seed=st.integers(0, 100))
@example(lengths=[0, 1], seed=0)
def test_samples_after_the_end_of_an_utterance_have_no_influence(lengths, seed):
    _, variables, apply = small_model(normalisation="corpus")
    clean = make_batch(lengths)
    noise = np.random.default_rng(seed).integers(-9000, 9000, clean.waveform.shape).astype(np.int16)
    dirty = clean.replace(waveform=jnp.where(clean.sample_mask, clean.waveform, noise))
    output = apply(variables, clean)
    jax.tree.map(np.testing.assert_array_equal, output, apply(variables, dirty))
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(output))


@pytest.mark.parametrize("normalisation", ["utterance", "corpus"])
def test_filler_rows_are_finite_and_so_are_all_gradients(normalisation):
    model, variables, _ = small_model(normalisation=normalisation)
    batch = make_batch([12_000, 0])

    @jax.jit
    @jax.value_and_grad
    def loss(params):
        output = model.apply(variables | {"params": params}, batch)
        return (output.attributes**2).sum() + (output.emotion_logits**2).sum() + (output.embedding**2).sum()

    value, gradients = loss(variables["params"])
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves((value, gradients)))
    assert all(np.abs(leaf).max() > 0 for leaf in jax.tree.leaves(gradients["log_mel_network"]["gru_0"]))


@pytest.mark.parametrize("stack", [1, 3])
def test_min_samples_are_the_first_length_with_which_every_modality_has_a_frame(stack):
    config = small_config(stack=stack)
    model = EmotionModel(config, num_categories=0)
    batch = make_batch(range(1, 1_000))
    _, mask = LogMelInput(config.log_mel).apply({}, batch, mutable=True)[0]
    assert model.min_samples == 1 + np.flatnonzero(np.asarray(mask).any(axis=1))[0]


def test_the_modality_that_needs_most_decides_min_samples(checkpoints):
    parts = {modality: EncoderPart.of(load_encoder(folder, params=False)) for modality, folder in checkpoints.items()}
    assert {modality: part.min_samples for modality, part in parts.items()} == {"acoustic": 650, "lexical": 0}
    assert EmotionModel(small_config(), 0, parts).min_samples == 650
    lexical = dataclasses.replace(small_config().lexical, checkpoint="somewhere")
    words = dataclasses.replace(small_config(), modalities=("lexical",), lexical=lexical)
    assert EmotionModel(words, 0, {"lexical": parts["lexical"]}).min_samples == 0


def test_int16_and_float_audio_are_the_same():
    _, variables, apply = small_model(normalisation="corpus")
    whole, scaled = (apply(variables, make_batch([SAMPLES, 9_000], dtype=dtype)) for dtype in (np.int16, np.float32))
    assert_close(whole, scaled, 1e-5)


def test_training_draws_augmentation_and_dropout_from_its_keys_and_evaluation_draws_nothing():
    config = small_config()
    modality = dataclasses.replace(
        config.log_mel,
        vtlp=dataclasses.replace(config.log_mel.vtlp, max_warp=0.2),
        time_stretch=dataclasses.replace(config.log_mel.time_stretch, max_stretch=0.2),
        spec_augment=dataclasses.replace(config.log_mel.spec_augment, num_time_masks=2, num_frequency_masks=2),
        network=dataclasses.replace(config.log_mel.network, dropout=0.5),
    )
    config = dataclasses.replace(config, log_mel=modality)
    model = EmotionModel(config, num_categories=4)
    _, variables, plain = small_model()
    batch = make_batch([SAMPLES, 9_000])

    @jax.jit
    def train(augment, dropout):
        rngs = {"dropout": jax.random.key(dropout), "augment": jax.random.key(augment)}
        return model.apply(variables, batch, train=True, rngs=rngs).attributes

    np.testing.assert_array_equal(train(1, 1), train(1, 1))
    assert np.abs(train(1, 1) - train(2, 1)).max() > 1e-4
    assert np.abs(train(1, 1) - train(1, 2)).max() > 1e-4
    evaluated = jax.jit(lambda variables: model.apply(variables, batch))
    assert_close(evaluated(variables), plain(variables, batch), 1e-6)


def test_corpus_statistics_are_constants_that_normalise():
    _, variables, apply = small_model(normalisation="corpus")
    mean, std = (variables["statistics"]["log_mel"][name] for name in ("mean", "std"))
    assert not np.asarray(mean).any()
    assert (np.asarray(std) == 1).all()
    batch = make_batch([SAMPLES])
    moved = jax.tree.map(lambda leaf: leaf + 1.0, variables["statistics"])
    changed = apply(variables | {"statistics": moved}, batch)
    assert np.abs(changed.attributes - apply(variables, batch).attributes).max() > 1e-4


def test_attributes_start_around_the_middle_of_their_scale():
    _, variables, _ = small_model(normalisation="corpus")
    np.testing.assert_array_equal(variables["params"]["heads"]["attributes"]["bias"], 0.5)


def test_a_model_without_categories_has_no_head_for_them():
    model = EmotionModel(small_config(), num_categories=0)
    shapes = jax.eval_shape(model.init_with_output, jax.random.key(0), make_batch([SAMPLES] * 2))
    assert shapes[0].emotion_logits.shape == (2, 0)
    assert set(shapes[1]["params"]["heads"]) == {"attributes"}


def test_one_compilation_serves_every_batch_of_a_bucket():
    _, variables, apply = small_model(normalisation="corpus")
    apply(variables, make_batch([7_000, 9_000]))
    before = apply._cache_size()
    for seed in range(3):
        apply(variables, make_batch([7_000 + seed, 8_000 * seed], seed=seed))
    assert apply._cache_size() == before


def test_bfloat16_stays_close_and_returns_float32():
    coarse_model = EmotionModel(dataclasses.replace(small_config(), dtype="bfloat16"), num_categories=4)
    _, variables, apply = small_model()
    batch = make_batch([SAMPLES, 9_000])
    coarse = jax.jit(lambda variables, batch: coarse_model.apply(variables, batch))(variables, batch)
    assert {leaf.dtype for leaf in jax.tree.leaves(coarse)} == {jnp.dtype("float32")}
    assert_close(coarse, apply(variables, batch), 5e-2)
