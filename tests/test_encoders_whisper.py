"""Whisper's encoder against transformers' PyTorch model and feature extractor."""

import json

import hypothesis
import hypothesis.strategies as st
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
import transformers
from safetensors.numpy import load_file

import emojax
from configs import default, extract, pretrain_hubert
from emojax.config import parse_experiment
from emojax.data import open_corpus, open_split, read_index
from emojax.data.loading import BatchLoader
from emojax.data.plan import BatchPlan
from emojax.encoders import ComputeOptions, load_encoder, save_encoder
from emojax.encoders.families import family_of
from emojax.encoders.whisper_encoder import padded_encoder, sinusoids
from emojax.encoders.whisper_inputs import whisper_log_mel
from emojax.errors import AudioError, CheckpointError, ConfigError
from emojax.evaluation import windows_of
from emojax.evaluation.windows import Windows
from emojax.extraction import extract_store, parse_extraction
from emojax.extraction.encoder_states import clip_windows
from emojax.feature_store import Store
from emojax.models import EmotionModel, EncoderPart
from emojax.models.emotion_model import EmotionModelConfig
from emojax.models.encoder_input import AcousticInputConfig
from emojax.models.trainable import count_parameters, trainable_mask
from emojax.parallel import MeshConfig, make_mesh
from emojax.planning.architectures import describe_encoder
from emojax.pretraining import parse_pretraining
from emojax.pretraining.model import make_network
from emojax.pretraining.units import UnitFeatures
from emojax.reporting import evaluate_workdir
from emojax.training import train_workdir
from emojax.workdir import batch_inputs, keep_encoders, restore_model
from tests import encoder_contract, speech_checkpoints

POSITIONS = 60
SIZES = {
    "d_model": 32,
    "encoder_layers": 2,
    "encoder_attention_heads": 4,
    "encoder_ffn_dim": 48,
    "decoder_layers": 1,
    "decoder_attention_heads": 2,
    "decoder_ffn_dim": 16,
    "max_source_positions": POSITIONS,
    "max_target_positions": 8,
    "vocab_size": 30,
    "pad_token_id": 0,
    "bos_token_id": 1,
    "eos_token_id": 2,
    "decoder_start_token_id": 3,
    "dropout": 0.1,
    "encoder_layerdrop": 0.2,
}
VARIANTS = {
    "80 bands": {},
    "128 bands": {
        "num_mel_bins": 128,
        "encoder_layers": 1,
        "encoder_attention_heads": 1,
        "activation_function": "relu",
    },
}


def make(folder, head="Model", **changes):
    model = speech_checkpoints.make_model("Whisper", head, seed=3, **{**SIZES, **changes})
    model.save_pretrained(folder)
    extractor(model).save_pretrained(folder)
    return model, folder


def extractor(model, seconds=None):
    seconds = POSITIONS / 50 if seconds is None else seconds
    return transformers.WhisperFeatureExtractor(model.config.num_mel_bins, chunk_length=seconds)


class TorchEncoder(torch.nn.Module):
    """PyTorch's feature extractor and encoder; positions are cut to each clip unless it is padded."""

    def __init__(self, model, padded=False):
        super().__init__()
        self.encoder, self.padded = model.get_encoder(), padded
        self.extract = extractor(model)

    def forward(self, waveform, output_hidden_states):
        clip = waveform[0].numpy()
        if self.padded:
            clip = np.pad(clip, (0, POSITIONS * 320 - len(clip)))
        features = self.extract(clip, sampling_rate=16_000, padding=False, return_tensors="pt").input_features
        frames = features.shape[-1]
        encoder, positions = self.encoder, self.encoder.embed_positions
        table = positions.weight[: (frames + 1) // 2]
        encoder.embed_positions = torch.nn.Embedding.from_pretrained(table)
        object.__setattr__(encoder.config, "max_source_positions", frames / 2)
        try:
            return encoder(features, output_hidden_states=output_hidden_states)
        finally:
            encoder.embed_positions = positions
            object.__setattr__(encoder.config, "max_source_positions", POSITIONS)


@pytest.fixture(scope="module")
def pair(tmp_path_factory):
    return make(tmp_path_factory.mktemp("whisper"))


@pytest.mark.parametrize("name", VARIANTS)
def test_every_hidden_state_equals_pytorch_at_the_clips_own_length(tmp_path, name):
    model, folder = make(tmp_path, **VARIANTS[name])
    encoder_contract.assert_states_equal_pytorch(TorchEncoder(model), load_encoder(folder), atol=2e-5)


def test_every_hidden_state_equals_pytorch_with_padding_to_the_longest_length(pair):
    encoder_contract.assert_states_equal_pytorch(
        TorchEncoder(pair[0], padded=True), padded_encoder(load_encoder(pair[1])), atol=2e-5
    )


def test_gradients_equal_pytorch(pair):
    encoder_contract.assert_gradients_equal_pytorch(TorchEncoder(pair[0]), load_encoder(pair[1]))


def test_training_is_random_and_finite(pair):
    encoder_contract.assert_training_is_random_and_finite(load_encoder(pair[1]))


@pytest.mark.parametrize("scan_layers", [False, True])
def test_saved_encoder_is_read_back(pair, tmp_path, scan_layers):
    options = ComputeOptions(scan_layers=scan_layers)
    encoder = load_encoder(pair[1], options)
    save_encoder(encoder, tmp_path)
    again, report = transformers.AutoModel.from_pretrained(tmp_path, output_loading_info=True)
    assert type(again).__name__ == encoder.family.architecture
    assert not report["unexpected_keys"]
    assert all(key.startswith("decoder.") for key in report["missing_keys"])
    ours, theirs = again.get_encoder().state_dict(), pair[0].get_encoder().state_dict()
    assert ours.keys() == theirs.keys()
    assert all(torch.equal(ours[name], theirs[name]) for name in theirs)
    jax.tree.map(np.testing.assert_array_equal, load_encoder(tmp_path, options).params, encoder.params)
    clip = speech_checkpoints.waveforms((1234,))[0]
    np.testing.assert_allclose(encoder.encode(clip), load_encoder(tmp_path).encode(clip), atol=1e-6)


def test_parameters_have_axes_and_are_frozen_by_path(pair):
    encoder_contract.assert_parameters_have_axes(pair[1])
    encoder_contract.assert_freezing_by_path(load_encoder(pair[1]), "transformer/layer_1")


@pytest.mark.parametrize("head", ["ForConditionalGeneration", "ForAudioClassification"])
def test_task_checkpoints_load_without_their_heads(pair, tmp_path, head):
    model, folder = make(tmp_path, head, num_labels=3)
    assert any(not name.startswith(("encoder.", "model.encoder.")) for name in load_file(folder / "model.safetensors"))
    params, wanted = load_encoder(folder).params, model.get_encoder().layers[1].fc1.weight
    np.testing.assert_array_equal(params["transformer"]["layer_1"]["mlp_in"]["kernel"], wanted.detach().numpy().T)


def test_float16_shards_load(pair, tmp_path):
    model = transformers.WhisperModel.from_pretrained(pair[1]).half()
    model.save_pretrained(tmp_path, max_shard_size="20KB")
    assert len(list(tmp_path.glob("model-*.safetensors"))) > 1
    loaded, whole = load_encoder(tmp_path).params, load_encoder(pair[1]).params
    jax.tree.map(lambda a, b: np.testing.assert_array_equal(a, np.float32(np.float16(b))), loaded, whole)


@pytest.mark.parametrize("num_bands", [80, 128])
def test_log_mel_equals_the_feature_extractor_for_each_clip_alone(num_bands):
    clips = [speech_like(length) for length in (48_000, 400, 16_039)]
    rows, lengths = speech_checkpoints.padded(clips, size=50_000)
    features, mask = jax.jit(whisper_log_mel, static_argnums=2)(rows, lengths, num_bands)
    extract = transformers.WhisperFeatureExtractor(num_bands)
    for row, clip in enumerate(clips):
        expected = extract(clip, sampling_rate=16_000, padding=False, return_tensors="np").input_features[0].T
        assert mask[row].sum() == len(expected) == len(clip) // 160
        np.testing.assert_allclose(features[row, : len(expected)], expected, atol=1e-5)
        assert not features[row, len(expected) :].any()


@pytest.mark.parametrize("length", [30_000, 479_990])
def test_log_mel_equals_the_feature_extractor_with_padding_to_30_s(length):
    clip = speech_like(length)
    rows = np.pad(clip, (0, 480_000 - length))[None]
    features, _ = jax.jit(whisper_log_mel, static_argnums=2)(rows, np.array([480_000]), 80)
    expected = transformers.WhisperFeatureExtractor()(clip, sampling_rate=16_000, return_tensors="np").input_features
    np.testing.assert_allclose(features[0], expected[0].T, atol=1e-5)


def speech_like(length):
    """Harmonics of a varying level in noise; with less, rounding on both sides exceeds 1e-5 in the quietest bands."""
    time = np.arange(length) / 16_000
    tones = sum(np.sin(2 * np.pi * 120 * k * time) / k for k in range(1, 30))
    noise = np.random.default_rng(length).normal(0, 3e-2, length)
    return (0.1 * np.square(np.sin(9 * time)) * tones + noise).astype(np.float32)


def test_positions_equal_pytorch():
    expected = transformers.models.whisper.modeling_whisper.sinusoids(1500, 384).numpy()
    np.testing.assert_allclose(sinusoids(1500, 384), expected, atol=1e-4)


def test_rows_without_samples_are_masked_and_finite(pair):
    encoder = load_encoder(pair[1])
    for each, frames in ((encoder, 0), (padded_encoder(encoder), 0)):
        output = encoder_contract.apply(each.module, each.params, jnp.ones((1, 800)), jnp.array([0]))
        assert output.mask.sum() == frames
        assert np.isfinite(output.last_hidden_state).all()


def test_padding_to_the_longest_length_gives_all_its_frames(pair):
    clip = speech_checkpoints.waveforms((1234,))[0]
    assert load_encoder(pair[1]).encode(clip).shape == (4, 32)
    assert padded_encoder(load_encoder(pair[1])).encode(clip).shape == (POSITIONS, 32)


def test_integers_equal_their_floating_point_waveform(pair):
    encoder = load_encoder(pair[1])
    samples = np.random.default_rng(0).integers(-(2**15), 2**15, (1, 800)).astype(np.int16)
    lengths = jnp.array([700])
    ours = encoder.inputs(jnp.asarray(samples), lengths)
    np.testing.assert_array_equal(ours[0, :700], samples[0, :700].astype(np.float32) / 2**15)
    assert not ours[0, 700:].any()


def test_too_long_and_too_short_clips_are_errors_that_name_them(pair):
    encoder = load_encoder(pair[1])
    with pytest.raises(AudioError, match=r"item 1: must have at most 19200 samples \(1.2 s\), got 19201"):
        encoder.encode([np.zeros(400), np.zeros(19_201)])
    with pytest.raises(AudioError, match="item 0: must have at least 400 samples"):
        encoder.encode([np.zeros(399)])
    with pytest.raises(AudioError, match="must have 400 to 19200 samples, got 19201"):
        encoder_contract.apply(encoder.module, encoder.params, jnp.zeros((1, 19_201)), jnp.array([400]))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"d_model": 30}, r"encoder_attention_heads must divide d_model \(30\), got 4"),
        ({"d_model": 33, "encoder_attention_heads": 3}, "d_model must be an even number >= 4"),
        ({"num_mel_bins": 64}, "num_mel_bins must be 80 or 128, got 64"),
        ({"max_source_positions": 3000}, "max_source_positions must be >= 50 and <= 1500, got 3000"),
        ({"activation_function": "mish"}, "activation_function must be 'gelu' or .*, got 'mish'"),
        ({"apply_spec_augment": True}, "apply_spec_augment must be False, got True"),
        ({"encoder_layers": 300}, "encoder_layers must be"),
    ],
)
def test_unsupported_configuration_is_named(changes, message):
    with pytest.raises(CheckpointError, match=message):
        family_of({"model_type": "whisper", **SIZES, **changes})


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"feature_size": 128}, r"feature_size must be num_mel_bins of config.json \(80\), got 128"),
        ({"n_fft": 512}, "n_fft must be 400, got 512"),
        ({"dither": 0.1}, "dither must be"),
    ],
)
def test_unsupported_features_are_named(tmp_path, changes, message):
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "whisper", **SIZES}))
    (tmp_path / "preprocessor_config.json").write_text(json.dumps(changes))
    with pytest.raises(CheckpointError, match=message):
        load_encoder(tmp_path, params=False)


def extraction(data_dir, folder, padded=False, splits=("test",), **states):
    tree = {
        "corpus": {"name": "mini_corpus", "data_dir": str(data_dir), "splits": splits},
        "encoder": extract.get_config().encoder.to_dict()
        | {"checkpoint": str(folder), "batch_seconds": 8.0, "padded": padded},
        "states": {"layers": (0, -1), "combine": "stack", "pooling": "none", "dtype": "float32"} | states,
    }
    return parse_extraction(tree)


@hypothesis.given(num_samples=st.integers(19_201, 200_000))
def test_windows_of_a_long_clip_are_equal_and_begin_at_frames(num_samples):
    bounds = clip_windows(num_samples, 19_200, 320)
    assert len(bounds) == -(-num_samples // 19_200)
    assert [0, *(end for _, end in bounds)] == [*(first for first, _ in bounds), num_samples]
    lengths = [end - first for first, end in bounds]
    assert max(lengths) <= 19_200
    assert max(lengths) - min(lengths) < 2 * 320
    assert all(first % 320 == 0 for first, _ in bounds)


@pytest.fixture(scope="module")
def long_clips(mini_data_dir):
    """Utterances of the test split, of which some are longer than the longest input."""
    clips = [example["audio"] for example in open_split(open_corpus("mini_corpus", mini_data_dir), "test")]
    assert 0 < sum(len(clip) > 19_200 for clip in clips) < len(clips)
    return [clip.astype(np.float32) / 2**15 for clip in clips]


@pytest.mark.parametrize("padded", [False, True])
def test_extraction_stores_the_states_of_each_utterance_alone_in_windows_of_the_longest_input(
    mini_data_dir, long_clips, pair, tmp_path, padded
):
    extract_store(extraction(mini_data_dir, pair[1], padded), tmp_path / "store")
    extract_store(extraction(mini_data_dir, pair[1], padded, pooling="statistics"), tmp_path / "pooled")
    encoder = padded_encoder(load_encoder(pair[1])) if padded else load_encoder(pair[1])
    split, pooled = Store(tmp_path / "store").split("test"), Store(tmp_path / "pooled").split("test")
    bounds = [clip_windows(len(clip), 19_200, 320) if len(clip) > 19_200 else [(0, len(clip))] for clip in long_clips]
    windows = [clip[first:end] for clip, parts in zip(long_clips, bounds, strict=True) for first, end in parts]
    encoded = iter(encoder.encode(windows, hidden_states=True))
    for number, (clip, parts) in enumerate(zip(long_clips, bounds, strict=True)):
        expected = np.concatenate([next(encoded) for _ in parts], axis=1)[[0, -1]].swapaxes(0, 1)
        found = split[number]["states"]
        np.testing.assert_allclose(found, expected, atol=1e-5)
        assert len(found) == (len(parts) * POSITIONS if padded else (len(clip) // 160 + 1) // 2)
        moments = np.concatenate([expected.mean(axis=0), expected.std(axis=0)], axis=-1)
        np.testing.assert_allclose(pooled[number]["states"], moments[None], atol=2e-5)


def experiment(data_dir, folder, seconds=1.2, **acoustic):
    config = default.get_config()
    config.corpus.update({"name": "mini_corpus", "data_dir": str(data_dir)})
    config.data.update({"batch_size": 8, "bucket_seconds": (seconds,), "workers": 0})
    config.model.modalities = ("acoustic",)
    config.model.acoustic.update({"checkpoint": str(folder), "layers": (0, -1), **acoustic})
    config.model.acoustic.network.update({"gru_layers": 0, "conv_channels": 0, "embedding_size": 4, "pooling": "mean"})
    config.optimizer.layer_decay = 0.5
    config.training.epochs = 1
    config.evaluation.bootstrap_resamples = 20
    return parse_experiment(config.to_dict())


@pytest.mark.usefixtures("one_device")
@pytest.mark.parametrize("padded", [False, True])
def test_training_reads_a_store_with_clips_above_the_longest_input(mini_data_dir, pair, tmp_path, padded):
    extract_store(extraction(mini_data_dir, pair[1], padded, ("train", "dev", "test")), tmp_path / "store")
    config = experiment(mini_data_dir, pair[1], 2.5, store=str(tmp_path / "store"), padded=padded)
    if padded:
        train_workdir(config, tmp_path / "run")
    else:
        keep_encoders(tmp_path / "run", config.model)
    index = read_index(open_corpus("mini_corpus", mini_data_dir), "train")
    inputs = batch_inputs(tmp_path / "run", config.model, "mini_corpus/1.0.0", "train", 1, ()).for_split(index)
    plan = BatchPlan(index.num_samples, (40_000,), len(index), 0, False)
    rows = BatchLoader(open_corpus("mini_corpus", mini_data_dir), "train", plan, inputs, 1)(0).stored["acoustic"]
    assert rows.values.shape[1] == (3 * POSITIONS if padded else 125)
    stored = Store(tmp_path / "store").split("train")
    assert sorted(rows.num_rows) == sorted(len(stored[number]["states"]) for number in range(len(stored)))
    other = experiment(mini_data_dir, pair[1], store=str(tmp_path / "store"), padded=not padded).model
    with pytest.raises(CheckpointError, match=f"was made with padded {padded}, not {not padded}"):
        batch_inputs(tmp_path / "run", other, "mini_corpus/1.0.0", "train", 1, ())


@pytest.mark.usefixtures("one_device")
def test_fine_tuning_decays_learning_rates_by_layer_and_predicts_padded_clips(mini_data_dir, pair, tmp_path):
    config = experiment(mini_data_dir, pair[1], train="all", train_convolutions=True, padded=True)
    train_workdir(config, tmp_path / "run")
    mesh = make_mesh(MeshConfig(data=1, fsdp=1), jax.devices()[:1])
    tuned = restore_model(tmp_path / "run", mesh).variables["params"]["acoustic"]["encoder"]
    before = load_encoder(pair[1]).params
    change = jax.tree.map(lambda new, old: float(np.abs(new - old).mean()), tuned, dict(before))
    assert change["feature_encoder"].pop("sinusoids") == 0
    assert all(amount > 0 for amount in jax.tree.leaves(change))
    steps = [change[part][layer] for part, layer in (("feature_encoder", "conv_1"), ("transformer", "layer_1"))]
    assert steps[0]["kernel"] < steps[1]["mlp_in"]["kernel"]
    summary = evaluate_workdir(tmp_path / "run")["test"]
    model = emojax.load(tmp_path / "run")
    clips = [example["audio"] for example in open_split(open_corpus("mini_corpus", mini_data_dir), "test")]
    together = model.predict([(clip, 16_000) for clip in clips])
    assert together[0].attributes == pytest.approx(model.predict(clips[0], 16_000).attributes, abs=1e-4)
    assert summary["n"] == len(clips)


def test_an_encoder_without_padded_clips_and_lengths_above_the_longest_input_are_refused(
    mini_data_dir, checkpoints, pair, tmp_path
):
    with pytest.raises(ConfigError, match=r"config\.encoder\.padded must be False for SpeechEncoder"):
        extract_store(extraction(mini_data_dir, checkpoints["acoustic"], padded=True), tmp_path / "store")
    with pytest.raises(ConfigError, match=r"config\.model\.acoustic\.padded must be False for SpeechEncoder"):
        train_workdir(experiment(mini_data_dir, checkpoints["acoustic"], padded=True), tmp_path / "hubert")
    with pytest.raises(ConfigError, match=r"max_seconds must be <= 1.2, the speech encoder's longest input, got 2.5"):
        train_workdir(experiment(mini_data_dir, pair[1], 2.5), tmp_path / "run")


def test_windows_of_predictions_are_within_the_longest_input(pair):
    part = EncoderPart.of(load_encoder(pair[1], params=False))
    config = default.get_config()
    config.model.modalities = ("acoustic",)
    config.model.acoustic.checkpoint = str(pair[1])
    parsed = parse_experiment(config.to_dict())
    model = EmotionModel(parsed.model, 0, {"acoustic": part})
    assert windows_of(parsed, model, ("acoustic",)).samples == 19_200
    assert windows_of(parsed, model, ()) == Windows(0)
    config.model.acoustic.padded = True
    padded = parse_experiment(config.to_dict())
    windows = windows_of(padded, model, ("acoustic",))
    assert (windows.samples, windows.always, windows.divide(16_000)) == (19_200, True, True)
    config.evaluation.window_seconds = 1.5
    with pytest.raises(ConfigError, match=r"window_seconds must be <= 1.2, .*, got 1.5"):
        windows_of(parse_experiment(config.to_dict()), model, ("acoustic",))


def test_positions_are_never_trained(pair):
    settings = AcousticInputConfig(checkpoint="whisper", train="all", train_convolutions=True)
    config = EmotionModelConfig(modalities=("acoustic",), acoustic=settings)
    mask = trainable_mask({"acoustic": {"encoder": load_encoder(pair[1]).params}}, config)["acoustic"]["encoder"]
    assert not mask["feature_encoder"].pop("sinusoids")
    assert all(jax.tree.leaves(mask))


PUBLISHED = {"openai/whisper-tiny.en": 8.2, "openai/whisper-small": 88.2, "openai/whisper-large-v3": 637}


@pytest.mark.parametrize("name", PUBLISHED)
def test_planning_builds_the_published_architectures(name):
    part = describe_encoder(name, ComputeOptions())
    shapes = jax.eval_shape(part.module.init, jax.random.key(0), *part.inputs.example())["params"]
    assert count_parameters(shapes) / 1e6 == pytest.approx(PUBLISHED[name], rel=5e-3)


def test_pretraining_names_an_encoder_it_cannot_continue(pair):
    needed = r"must be an encoder of the waveform itself \(hubert, wav2vec2, wavlm or data2vec-audio\), got whisper"
    with pytest.raises(ConfigError, match=rf"config\.units\.checkpoint {needed}"):
        UnitFeatures.of(load_encoder(pair[1]), 1, centred=True)
    config = pretrain_hubert.get_config()
    config.encoder.checkpoint = str(pair[1])
    with pytest.raises(ConfigError, match=rf"config\.encoder\.checkpoint {needed}"):
        make_network(parse_pretraining(config.to_dict()), ComputeOptions(), load_encoder(pair[1]))
