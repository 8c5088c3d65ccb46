"""Whisper's decoder against transformers' PyTorch model."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
import transformers

from emojax.encoders import ComputeOptions, load_encoder, logical_axes
from emojax.encoders.checkpoint_files import read_json_config
from emojax.encoders.whisper_encoder import padded_encoder
from emojax.errors import CheckpointError
from emojax.recognition.whisper_checkpoint import DECODER_AXES, build_decoder, decoder_shapes, load_decoder
from tests import speech_checkpoints
from tests.test_encoders_whisper import POSITIONS, SIZES, extractor

VARIANTS = {
    "english": {"decoder_layers": 2, "max_target_positions": 12},
    "multilingual, float16": {"decoder_layers": 3, "decoder_attention_heads": 4, "vocab_size": 51_865, "half": True},
    "large-v3": {"num_mel_bins": 128, "vocab_size": 51_866, "encoder_layers": 4, "decoder_layers": 4},
    "turbo": {"num_mel_bins": 128, "vocab_size": 77, "encoder_layers": 3, "activation_function": "relu"},
}


def make(folder, half=False, **changes):
    model = speech_checkpoints.make_model("Whisper", "ForConditionalGeneration", seed=5, **{**SIZES, **changes})
    (model.half() if half else model).save_pretrained(folder, max_shard_size="40KB" if half else "1GB")
    extractor(model).save_pretrained(folder)
    return model.float(), folder


def load(folder, **options):
    return load_decoder(folder, read_json_config(folder), ComputeOptions(**options))


def states_of(rows, frames=7, size=32):
    states = np.random.default_rng(0).normal(size=(rows, frames, size)).astype(np.float32)
    return states, np.ones((rows, frames), bool)


def apply(module, params, *arguments, method=None, **settings):
    """The module's method, compiled."""
    run = functools.partial(module.apply, method=method, **settings)
    return jax.jit(run)({"params": params}, *arguments)


@pytest.fixture(scope="module")
def pair(tmp_path_factory):
    model, folder = make(tmp_path_factory.mktemp("decoder"), **VARIANTS["english"])
    return model, *load(folder)


@pytest.mark.parametrize("name", VARIANTS)
def test_logits_equal_pytorch(tmp_path, name):
    model, folder = make(tmp_path, **VARIANTS[name])
    module, params = load(folder)
    states, mask = states_of(2)
    tokens = np.random.default_rng(1).integers(0, module.config.vocab_size, (2, 6))
    with torch.no_grad():
        hidden = model.model.decoder(torch.tensor(tokens), encoder_hidden_states=torch.tensor(states))
        expected = model.proj_out(hidden.last_hidden_state)
    ours = apply(module, params, tokens, states, mask)
    np.testing.assert_allclose(ours, expected, atol=1e-4)
    assert np.abs(expected).max() > 0.5


def test_logits_of_a_recording_equal_pytorch(tmp_path):
    model, folder = make(tmp_path, **VARIANTS["turbo"])
    module, params = load(folder)
    clip = speech_checkpoints.waveforms((9000,))[0]
    tokens = np.array([[3, 5, 8]])
    whole = np.pad(clip, (0, POSITIONS * 320 - len(clip)))
    features = extractor(model)(whole, sampling_rate=16_000, padding=False, return_tensors="pt").input_features
    with torch.no_grad():
        expected = model(features, decoder_input_ids=torch.tensor(tokens)).logits
    states = padded_encoder(load_encoder(folder)).encode(clip)[None]
    ours = apply(module, params, tokens, states, np.ones((1, POSITIONS), bool))
    np.testing.assert_allclose(ours, expected, atol=1e-4)


def test_tokens_one_by_one_from_the_cache_give_the_same_logits_and_weights(pair):
    _, module, params = pair
    states, mask = states_of(2)
    mask[1, 4:] = False
    tokens = np.random.default_rng(2).integers(0, 30, (4, 6))
    heads = ((1, 1), (0, 0))
    whole = apply(module, params, tokens, np.repeat(states, 2, 0), np.repeat(mask, 2, 0))
    inputs = apply(module, params, states, mask, method="attend_to")
    cache = module.empty_cache(4, 9)
    step = functools.partial(apply, module, params, method="decode", heads=heads)
    for start, end in ((0, 3), (3, 4), (4, 6)):
        output = step(tokens[:, start:end], inputs, cache, jnp.int32(start))
        cache = output.cache
        logits = apply(module, params, output.states, method="logits")
        np.testing.assert_allclose(logits, whole[:, start:end], atol=1e-5)
        np.testing.assert_allclose(output.weights.sum(axis=-1), 1.0, atol=1e-5)
        assert not output.weights[:, 2:, :, 4:].any()
    assert output.weights.shape == (2, 4, 2, 7)


def test_attention_weights_equal_pytorch(pair):
    model, module, params = pair
    states, mask = states_of(1)
    tokens = np.arange(5)[None]
    model.set_attn_implementation("eager")
    with torch.no_grad():
        output = model.model.decoder(
            torch.tensor(tokens), encoder_hidden_states=torch.tensor(states), output_attentions=True
        )
    inputs = apply(module, params, states, mask, method="attend_to")
    cache = module.empty_cache(1, 5)
    heads = ((1, 0), (0, 1))
    weights = apply(module, params, tokens, inputs, cache, 0, method="decode", heads=heads).weights
    for (layer, head), found in zip(heads, weights, strict=True):
        np.testing.assert_allclose(found, output.cross_attentions[layer][:, head], atol=1e-5)


def test_products_in_bfloat16_keep_the_logits_float32(pair):
    _, module, params = pair
    states, mask = states_of(1)
    tokens = np.arange(5)[None]
    exact = apply(module, params, tokens, states, mask)
    rounded = apply(module.clone(dtype=jnp.bfloat16), params, tokens, states, mask)
    assert rounded.dtype == jnp.float32
    assert 0 < np.abs(rounded - exact).max() < 0.05 * np.abs(exact).max()


PUBLISHED = {
    "tiny.en": ({"vocab_size": 51_864}, 29.55),
    "small": (
        {"d_model": 768, "decoder_layers": 12, "decoder_attention_heads": 12, "decoder_ffn_dim": 3072},
        153.6,
    ),
    "large-v3-turbo": (
        {
            "d_model": 1280,
            "decoder_layers": 4,
            "decoder_attention_heads": 20,
            "decoder_ffn_dim": 5120,
            "vocab_size": 51_866,
        },
        171.9,
    ),
}


@pytest.mark.parametrize("name", PUBLISHED)
def test_every_parameter_of_published_shapes_has_logical_axes(name):
    config, millions = PUBLISHED[name]
    shapes = decoder_shapes(build_decoder({"model_type": "whisper", **config}, jnp.float32))
    logical_axes(shapes, DECODER_AXES)
    assert sum(leaf.size for leaf in jax.tree.leaves(shapes)) / 1e6 == pytest.approx(millions, rel=5e-3)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"decoder_attention_heads": 5}, r"decoder_attention_heads must divide d_model \(384\), got 5"),
        ({"max_target_positions": 2}, "max_target_positions must be >= 4"),
        ({"tie_word_embeddings": False}, "tie_word_embeddings must be True, got False"),
        ({"scale_embedding": True}, "scale_embedding must be False, got True"),
        ({"decoder_layers": 0}, "decoder_layers must be >= 1"),
    ],
)
def test_unsupported_configuration_is_named(changes, message):
    with pytest.raises(CheckpointError, match=message):
        build_decoder({"model_type": "whisper", **changes}, jnp.float32)


def test_a_checkpoint_without_decoder_or_with_other_shapes_is_named(tmp_path, pair):
    model = transformers.WhisperForAudioClassification(transformers.WhisperConfig(**SIZES))
    model.save_pretrained(tmp_path)
    with pytest.raises(CheckpointError, match="must have a decoder for recognition, has tensors of the encoder only"):
        load(tmp_path)
    _, folder = make(tmp_path)
    config = {**read_json_config(folder), "vocab_size": 31}
    with pytest.raises(CheckpointError, match=r"decoder.embed_tokens.weight has shape \(30, 32\), .* \(31, 32\)"):
        load_decoder(folder, config, ComputeOptions())
    with pytest.raises(CheckpointError, match="has 3 transformer layers, stored are 1"):
        load_decoder(folder, {**config, "decoder_layers": 3}, ComputeOptions())
