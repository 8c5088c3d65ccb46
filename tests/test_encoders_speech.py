"""Speech encoders against transformers' PyTorch models, and what must hold without them."""

import functools
import json
import re

import flax.traverse_util
import hypothesis
import hypothesis.strategies as st
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import safetensors.numpy
import torch
import transformers

from emojax.encoders import ComputeOptions, load_encoder
from emojax.encoders.hubert import read_hubert_config
from emojax.encoders.speech_encoder import SpeechEncoder
from emojax.encoders.speech_features import num_frames
from emojax.errors import AudioError, CheckpointError
from emojax.parallel import MeshConfig, batch_sharding, make_mesh, replicated, with_mesh
from tests import encoder_contract, speech_checkpoints

CLIPS = speech_checkpoints.waveforms((2000, 400, 1234))


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    """Name of a variant -> PyTorch model and folder."""

    @functools.cache
    def make(name):
        kind, changes = speech_checkpoints.VARIANTS[name]
        model = speech_checkpoints.make_model(kind, **changes)
        return model, speech_checkpoints.write_checkpoint(tmp_path_factory.mktemp(name), model)

    return make


def apply(loaded, waveform, num_samples, **settings):
    arrays = jnp.asarray(waveform), jnp.asarray(num_samples)
    return encoder_contract.apply(loaded.module, loaded.params, *arrays, **settings)


@pytest.mark.parametrize("name", speech_checkpoints.VARIANTS)
def test_every_hidden_state_equals_pytorch(checkpoint, name):
    model, folder = checkpoint(name)
    encoder_contract.assert_states_equal_pytorch(model, load_encoder(folder), atol=2e-5)


@pytest.mark.parametrize("name", ["hubert-large", "wavlm-base"])
def test_bfloat16_stays_close_to_float32(checkpoint, name):
    model, folder = checkpoint(name)
    ours = load_encoder(folder, ComputeOptions(dtype=jnp.bfloat16))
    output = apply(ours, *speech_checkpoints.padded(CLIPS[:1]))
    _, expected = speech_checkpoints.torch_states(model, CLIPS[0])
    assert output.last_hidden_state.dtype == jnp.float32
    np.testing.assert_allclose(output.last_hidden_state[0], expected, atol=3e-2)


@pytest.mark.parametrize("name", ["hubert-base", "wavlm-large"])
def test_remat_and_scan_change_nothing(checkpoint, name):
    _, folder = checkpoint(name)
    inputs = speech_checkpoints.padded(CLIPS)
    plain = apply(load_encoder(folder), *inputs, hidden_states=True)
    saves = "attention" if name == "hubert-base" else "products"
    other = load_encoder(folder, ComputeOptions(remat=True, scan_layers=True, remat_saves=saves))
    scanned = apply(other, *inputs, hidden_states=True)
    assert len(scanned.hidden_states) == len(plain.hidden_states) == 3
    for expected, states in zip(plain.hidden_states, scanned.hidden_states, strict=True):
        np.testing.assert_allclose(states, expected, atol=1e-5)


@pytest.mark.parametrize("name", ["hubert-base", "hubert-large", "wavlm-base"])
def test_states_do_not_depend_on_padding(checkpoint, name):
    ours = load_encoder(checkpoint(name)[1])

    @hypothesis.settings(deadline=None, max_examples=8)
    @hypothesis.given(
        lengths=st.lists(st.integers(40, 1500), min_size=2, max_size=2),
        filler=st.sampled_from([0.0, -1.0, 1e4, np.nan]),
        seed=st.integers(0, 9),
    )
    def check(lengths, filler, seed):
        clips = speech_checkpoints.waveforms(tuple(lengths), seed)
        together = apply(ours, *speech_checkpoints.padded(clips, filler, size=1700))
        for row, clip in enumerate(clips):
            alone = apply(ours, *speech_checkpoints.padded([clip], size=1500))
            valid = int(alone.mask.sum())
            assert valid == together.mask[row].sum()
            states = together.last_hidden_state[row, :valid]
            np.testing.assert_allclose(states, alone.last_hidden_state[0, :valid], atol=2e-5)

    check()


@pytest.mark.parametrize("name", ["hubert-base", "wavlm-large"])
def test_gradients_equal_pytorch(checkpoint, name):
    model, folder = checkpoint(name)
    encoder_contract.assert_gradients_equal_pytorch(model, load_encoder(folder))


def test_rows_without_a_frame_are_masked_and_finite(checkpoint):
    ours = load_encoder(checkpoint("hubert-base")[1])
    waveform = jnp.ones((3, 2000))

    def loss(params):
        output = ours.module.apply({"params": params}, waveform, jnp.array([2000, 39, 0]))
        return jnp.sum(output.last_hidden_state), output

    (_, output), gradients = jax.jit(jax.value_and_grad(loss, has_aux=True))(ours.params)
    assert output.mask.sum(axis=1).tolist() == [50, 0, 0]
    assert jnp.isfinite(output.last_hidden_state).all()
    assert all(jnp.isfinite(leaf).all() for leaf in jax.tree.leaves(gradients))


def test_audio_below_the_receptive_field_is_refused(checkpoint):
    ours = load_encoder(checkpoint("hubert-base")[1])
    with pytest.raises(AudioError, match=r"must have at least 40 samples \(one frame\), got 39"):
        ours.module.apply({"params": ours.params}, jnp.ones((1, 39)), jnp.array([39]))
    with pytest.raises(AudioError, match="item 1: must have at least 40 samples"):
        ours.encode([np.zeros(40, np.float32), np.zeros(39, np.float32)])


def test_samples_that_would_overflow_are_refused(checkpoint):
    ours = load_encoder(checkpoint("hubert-base")[1])
    for value in (1e19, 1e300, np.nan):
        with pytest.raises(AudioError, match=r"item 0: sample 3 must be finite and at most 1000"):
            ours.encode([np.array([0.0, 0.0, 0.0, value] * 20)])


def test_one_waveform_is_one_item_and_what_is_none_is_named(checkpoint):
    ours = load_encoder(checkpoint("hubert-base")[1])
    clip = speech_checkpoints.waveforms((2_000,))[0]
    (expected,) = ours.encode([clip])
    for same in (clip, clip.astype(np.float64), jnp.asarray(clip), np.ma.masked_array(clip)):
        np.testing.assert_allclose(ours.encode(same), expected, atol=3e-6)
    assert ours.encode(clip, hidden_states=True).shape == (3, *expected.shape)
    for wrong, message in (
        (np.stack([clip, clip]), r"must be .*, got float32 of shape \(2, 2000\)"),
        (clip.astype(np.int16), r"must be .*, got int16 of shape \(2000,\)"),
        (np.float32(0.5), r"must be .*, got float32 of shape \(\)"),
        (np.zeros(0, np.float32), "must have at least 40 samples .*, got 0"),
        (np.ma.masked_array(clip, clip > 0), "has masked samples"),
        ("clip.wav", "must be a floating-point array .*, got an object of type str"),
        (None, "must be .*, got an object of type NoneType"),
        (iter([clip]), "must be .*, got an object of type list_iterator"),
    ):
        with pytest.raises(AudioError, match=f"^item 0: {message}"):
            ours.encode(wrong)
        with pytest.raises(AudioError, match=f"^item 1: {message}"):
            ours.encode([clip, wrong])
    with pytest.raises(AudioError, match=r"item 0: must be .*, got an object of type float"):
        ours.encode([0.1, 0.2])


def test_min_samples_are_the_first_length_that_has_a_frame(checkpoint):
    ours = load_encoder(checkpoint("hubert-base")[1])
    frames = np.asarray(num_frames(jnp.arange(100), ours.module.config.convolution))
    assert ours.min_samples == np.flatnonzero(frames)[0] == 40
    published = read_hubert_config({"model_type": "wav2vec2"}, mask_embedding=True).convolution
    assert published.receptive_field == 400


@pytest.mark.parametrize("changes", [speech_checkpoints.SEVEN_CONVOLUTIONS, {}])
def test_frame_count_equals_transformers(changes):
    model = speech_checkpoints.make_model("Hubert", **changes)
    config = read_hubert_config(model.config.to_dict(), mask_embedding=True).convolution
    lengths = np.concatenate(
        [np.arange(config.receptive_field, 3000), np.random.default_rng(0).integers(3000, 10**6, 999)]
    )
    expected = model._get_feat_extract_output_lengths(torch.tensor(lengths)).numpy()
    np.testing.assert_array_equal(num_frames(jnp.asarray(lengths), config), expected)
    assert not num_frames(jnp.arange(config.receptive_field), config).any()


def test_both_namings_of_the_weight_norm_give_the_same_kernel(checkpoint, tmp_path):
    _, folder = checkpoint("hubert-base")
    tensors = safetensors.numpy.load_file(folder / "model.safetensors")
    renames = {"parametrizations.weight.original0": "weight_g", "parametrizations.weight.original1": "weight_v"}
    older = {re.sub("|".join(renames), lambda match: renames[match[0]], name): tensors[name] for name in tensors}
    assert len(set(older) - set(tensors)) == 2
    safetensors.numpy.save_file(older, tmp_path / "model.safetensors")
    for name in ("config.json", "preprocessor_config.json"):
        (tmp_path / name).write_bytes((folder / name).read_bytes())
    expected = flax.traverse_util.flatten_dict(load_encoder(folder).params)
    loaded = flax.traverse_util.flatten_dict(load_encoder(tmp_path).params)
    assert expected.keys() == loaded.keys()
    assert all(np.array_equal(loaded[path], expected[path]) for path in expected)


@pytest.mark.parametrize("name", ["hubert-batch-norm", "wavlm-base"])
def test_saved_encoder_is_read_by_transformers(checkpoint, name, tmp_path):
    model, folder = checkpoint(name)
    encoder_contract.assert_saved_encoder_is_read_back(model, folder, tmp_path, scan_layers=True)


@pytest.mark.parametrize("name", ["hubert-large", "hubert-batch-norm", "wavlm-base"])
def test_every_parameter_has_logical_axes(checkpoint, name):
    encoder_contract.assert_parameters_have_axes(checkpoint(name)[1])


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("add_adapter", True),
        ("adapter_attn_dim", 16),
        ("feat_extract_norm", "batch"),
        ("hidden_act", "selu"),
        ("num_attention_heads", 5),
        ("num_conv_pos_embedding_groups", 3),
        ("conv_kernel", [10, 3]),
        ("conv_stride", [5, 0]),
        ("layerdrop", 1.5),
        ("conv_bias", "yes"),
    ],
)
def test_unsupported_configuration_is_named(checkpoint, tmp_path, key, value):
    _, folder = checkpoint("wav2vec2-base")
    settings = transformers.AutoConfig.from_pretrained(folder).to_dict() | {key: value}
    (tmp_path / "config.json").write_text(json.dumps(settings))
    (tmp_path / "model.safetensors").write_bytes((folder / "model.safetensors").read_bytes())
    with pytest.raises(CheckpointError, match=rf"config\.json\.{key}\S* must "):
        load_encoder(tmp_path)


def test_data_parallel_computation_gathers_nothing():
    settings = {**speech_checkpoints.SIZES, "num_hidden_layers": 1, "num_buckets": 16, "mask_feature_prob": 0.1}
    module = SpeechEncoder(read_hubert_config({"model_type": "wavlm", **settings}, mask_embedding=True))
    params = jax.eval_shape(module.init, jax.random.key(0), jnp.zeros((1, 500)), jnp.array([500]))["params"]
    mesh = make_mesh(MeshConfig(fsdp=2))
    rows, whole = batch_sharding(mesh), replicated(mesh)
    waveform = jax.ShapeDtypeStruct((16, 500), jnp.float32, sharding=rows)
    lengths = jax.ShapeDtypeStruct((16,), jnp.int32, sharding=rows)

    def gradient(params, waveform, lengths):
        def loss(params):
            rngs = {"dropout": jax.random.key(0)}
            output = module.apply({"params": params}, waveform, lengths, train=True, rngs=rngs)
            return jnp.square(output.last_hidden_state).mean()

        return jax.grad(loss)(params)

    text = jax.jit(with_mesh(gradient, mesh), out_shardings=whole).lower(params, waveform, lengths).compile().as_text()
    assert "all-reduce(" in text
    assert not re.search(r"(all-gather|all-to-all|collective-permute)(-start)?\(", text)
