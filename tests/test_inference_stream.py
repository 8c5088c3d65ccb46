"""A stream's running estimates equal the prediction for everything heard so far, however it is cut into chunks."""

import dataclasses
import itertools

import hypothesis
import hypothesis.strategies as st
import jax
import numpy as np
import pytest

import emojax
from configs import default, student_conv, student_s
from emojax.config import parse_experiment
from emojax.errors import AudioError, ConfigError
from emojax.inference import Predictor
from emojax.models import EmotionModel, example_batch
from emojax.types import CorpusInfo
from emojax.workdir import TrainedModel, unknown_labels

INFO = CorpusInfo("toy/1.0.0", (1.0, 7.0), ("anger", "neutral"), "recorded", "rated", "CC0-1.0", "nobody")


def model_of(tree, **network):
    """A model with random parameters and statistics that are not the identity."""
    tree.model.log_mel.network.update(network)
    tree.objective.emotion_weight = 0.5
    config = parse_experiment(tree.to_dict())
    model = EmotionModel(config.model, 2)
    variables = jax.jit(model.init)(jax.random.key(0), example_batch(model))
    if "statistics" in variables:
        bands = np.linspace(-1, 1, config.model.log_mel.filterbank.num_bands, dtype=np.float32)
        variables = {**variables, "statistics": {"log_mel": {"mean": bands - 8, "std": 2 + bands}}}
    return Predictor(TrainedModel(None, config, unknown_labels(INFO), model, variables, 0, ()))


def small(tree=None, **network):
    sizes = {"gru_size": 8, "conv_channels": 6, "embedding_size": 5, "block_channels": 8, "causal": True}
    return model_of(tree or default.get_config(), **(sizes | network))


@pytest.fixture(scope="module")
def models():
    stacked = student_s.get_config()
    plain = default.get_config()
    plain.model.log_mel.normalisation = "none"
    rated = default.get_config()
    rated.model.rating_bins = 7
    return {
        "last": small(),
        "ratings": small(rated),
        "mean": small(plain, pooling="mean", conv_channels=0),
        "student": small(stacked),
        "attentive": small(student_s.get_config(), pooling="attentive"),
        "attentive_statistics": small(student_s.get_config(), pooling="attentive_statistics", gru_layers=1),
        "blocks": small(student_conv.get_config(), conv_channels=0),
        "blocks_and_gru": small(student_s.get_config(), block_dilations=(1, 3), conv_kernel=4),
    }


def speech(samples, seed=0):
    random = np.random.default_rng(seed)
    envelope = np.repeat(random.uniform(0, 0.4, samples // 800 + 1), 800)[:samples]
    return (envelope * random.normal(size=samples)).astype(np.float32)


def same(estimate, prediction):
    for name, value in prediction.attributes.items():
        assert estimate.attributes[name] == pytest.approx(value, abs=2e-4)
    assert estimate.ratings.keys() == prediction.ratings.keys()
    for name, distribution in prediction.ratings.items():
        assert estimate.ratings[name].probabilities == pytest.approx(distribution.probabilities, abs=2e-5)
    assert estimate.emotions == pytest.approx(prediction.emotions, abs=2e-5)
    np.testing.assert_allclose(estimate.embedding, prediction.embedding, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize(
    "name", ["last", "ratings", "mean", "student", "attentive", "attentive_statistics", "blocks", "blocks_and_gru"]
)
@hypothesis.settings(deadline=None, max_examples=4)
@hypothesis.given(cuts=st.lists(st.integers(0, 16_000), min_size=0, max_size=6), seed=st.integers(0, 9))
def test_every_chunk_boundary_has_the_offline_prediction(models, name, cuts, seed):
    model, waveform = models[name], speech(16_000, seed)
    stream = emojax.Stream(model)
    bounds = [0, *sorted(cuts), len(waveform)]
    shortest = 400 + 160 * (model.trained.config.model.log_mel.stack - 1)
    for start, end in itertools.pairwise(bounds):
        estimate = stream(waveform[start:end])
        if end < shortest:
            assert estimate is None
        else:
            same(estimate, model.predict(waveform[:end], 16_000))


def test_a_hundred_milliseconds_at_a_time_for_a_while(models):
    stream, waveform = emojax.Stream(models["student"]), speech(80_000)
    for start in range(0, len(waveform), 1600):
        estimate = stream((waveform[start : start + 1600] * 2**15).astype(np.int16))
    same(estimate, models["student"].predict((waveform * 2**15).astype(np.int16), 16_000))
    size = sum(leaf.nbytes for leaf in jax.tree.leaves(stream.state))
    assert size < 5_000
    stream.reset()
    assert stream(waveform[:100]) is None
    same(stream(waveform[100:20_000]), models["student"].predict(waveform[:20_000], 16_000))


def test_two_streams_of_one_model_are_independent(models):
    first, second = emojax.Stream(models["last"]), emojax.Stream(models["last"])
    waveform, other = speech(8_000), speech(8_000, 1)
    first(waveform[:4_000])
    second(other)
    same(first(waveform[4_000:]), models["last"].predict(waveform, 16_000))


@pytest.mark.parametrize(
    ("group", "fields", "message"),
    [
        ("model.log_mel.network", {"causal": False}, "network.causal must be True"),
        ("model.log_mel", {"normalisation": "utterance"}, "normalisation must be .*, got 'utterance'"),
        ("model.log_mel.deltas", {"order": 1}, "deltas.order must be 0"),
    ],
)
def test_a_model_that_looks_ahead_is_refused(models, group, fields, message):
    model = models["last"]
    config = model.trained.config

    def changed(part, names):
        if not names:
            return dataclasses.replace(part, **fields)
        return dataclasses.replace(part, **{names[0]: changed(getattr(part, names[0]), names[1:])})

    other = dataclasses.replace(model.trained, config=changed(config, group.split(".")))
    with pytest.raises(ConfigError, match=message):
        emojax.Stream(Predictor(other))


@pytest.mark.parametrize("value", [1e19, 1e300, -np.inf, np.nan])
def test_a_refused_chunk_leaves_the_stream_as_it_was(models, value):
    waveform = np.random.default_rng(0).normal(0, 0.1, 4_000)
    stream, other = emojax.Stream(models["last"]), emojax.Stream(models["last"])
    stream(waveform[:2_000])
    other(waveform[:2_000])
    with pytest.raises(AudioError, match=r"chunk: sample 1 must be finite and at most 1000"):
        stream(np.array([0.0, value] * 1_000))
    expected = other(waveform[2_000:])
    found = stream(waveform[2_000:])
    assert np.isfinite(list(found.attributes.values())).all()
    assert found.attributes == expected.attributes


@pytest.mark.parametrize("chunk", [np.zeros((2, 4), np.float32), np.zeros(4, np.int32), np.array([0.0, np.nan]), ["a"]])
def test_a_chunk_that_is_no_sound_is_refused(models, chunk):
    with pytest.raises(AudioError, match="chunk"):
        emojax.Stream(models["last"])(chunk)
