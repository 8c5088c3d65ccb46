"""Pre-training by masked prediction of units, against librosa, scikit-learn, arithmetic and transformers."""

import dataclasses
import json

import jax
import jax.numpy as jnp
import librosa
import numpy as np
import pytest
import scipy.special
import transformers
from sklearn.metrics import pairwise_distances_argmin

from configs import pretrain_hubert
from emojax.audio import log_mel, mfcc
from emojax.audio.features import MFCC_FILTERBANK
from emojax.encoders import load_encoder
from emojax.errors import CheckpointError, ConfigError
from emojax.pretraining import ENCODER, parse_pretraining, pretrain_workdir
from emojax.pretraining.model import choose_masked, prediction_sums
from emojax.pretraining.units import assign_units, num_valid_frames


def config(data_dir, **changes):
    tree = pretrain_hubert.get_config()
    tree.corpus.update({"name": "mini_corpus", "data_dir": str(data_dir), "train_split": "train[:40%]"})
    tree.data.update({"batch_size": 8, "bucket_seconds": (2.5,), "workers": 0})
    tree.encoder.update(
        {"channels": (8,) * 7, "hidden_size": 16, "num_layers": 2, "num_heads": 2, "intermediate_size": 16}
    )
    tree.encoder.update({"position_taps": 4, "norm_first": True, "dropout": 0.1})
    tree.units.update({"clusters": 5, "fit_frames": 500, "layer": 1, "centred": True})
    tree.prediction.update({"projection_size": 8, "visible_weight": 0.3})
    tree.optimizer.update({"warmup_steps": 2, "learning_rate": 3e-3})
    tree.augment.speed.probability = tree.augment.noise.probability = 0.5
    tree.augment.bank_clips = 3
    tree.training.update({"epochs": 3, "patience": 0, "log_every_steps": 1})
    tree.update(changes)
    return parse_pretraining(tree.to_dict())


def test_coefficients_equal_librosa():
    random = np.random.default_rng(0)
    lengths = np.array([16_000, 9_000])
    waveform = (random.normal(size=(2, 16_000)) * 0.1 * (np.arange(16_000) < lengths[:, None])).astype(np.float32)
    ours = np.asarray(mfcc(jnp.asarray(waveform), jnp.asarray(lengths)))
    energies = np.asarray(log_mel(jnp.asarray(waveform), MFCC_FILTERBANK))
    for row, length in enumerate(lengths):
        frames = 1 + (length - 400) // 160
        cepstra = librosa.feature.mfcc(S=energies[row, :frames].T, n_mfcc=13, lifter=0)
        cepstra = cepstra * (1 + 11 * np.sin(np.pi * np.arange(13) / 22))[:, None]
        slopes = librosa.feature.delta(cepstra, width=5, mode="nearest")
        expected = np.concatenate([cepstra, slopes, librosa.feature.delta(slopes, width=5, mode="nearest")]).T
        np.testing.assert_allclose(ours[row, :frames], expected, atol=2e-3, rtol=1e-4)
        assert not ours[row, frames:, 13:].any()


def test_frames_of_units_are_those_of_the_encoder():
    lengths = np.array([0, 399, 400, 719, 720, 16_000])
    chain = lengths
    for kernel, stride in zip((10, 3, 3, 3, 3, 2, 2), (5, 2, 2, 2, 2, 2, 2), strict=True):
        chain = (chain - kernel) // stride + 1
    np.testing.assert_array_equal(num_valid_frames(lengths), np.maximum(chain, 0))


def test_units_are_the_nearest_centroids():
    random = np.random.default_rng(1)
    features, centroids = random.normal(size=(3, 20, 6)) * 10, random.normal(size=(7, 6)) * 10
    found = assign_units(jnp.asarray(features, jnp.float32), jnp.asarray(centroids, jnp.float32))
    np.testing.assert_array_equal(found.reshape(-1), pairwise_distances_argmin(features.reshape(-1, 6), centroids))


def test_sums_are_those_of_hidden_and_of_visible_frames():
    random = np.random.default_rng(2)
    logits, units = random.normal(size=(2, 6, 4)), random.integers(4, size=(2, 6))
    masked = np.array([[1, 1, 0, 0, 1, 0], [0, 1, 0, 0, 0, 0]], bool)
    valid = np.array([[1, 1, 1, 1, 0, 0], [1, 1, 1, 1, 1, 1]], bool)
    sums = prediction_sums(
        jnp.asarray(logits, jnp.float32), jnp.asarray(units), jnp.asarray(masked), jnp.asarray(valid)
    )
    losses = -np.take_along_axis(scipy.special.log_softmax(logits, axis=-1), units[..., None], axis=-1)[..., 0]
    hits = logits.argmax(axis=-1) == units
    for part, chosen in enumerate((masked & valid, ~masked & valid)):
        assert sums.frames[part] == chosen.sum()
        assert sums.hits[part] == hits[chosen].sum()
        assert sums.losses[part] == pytest.approx(losses[chosen].sum(), rel=1e-5)


def test_hidden_spans_lie_within_a_clip(mini_data_dir):
    settings = config(mini_data_dir).prediction
    masked = np.asarray(choose_masked(jax.random.key(0), jnp.asarray([40, 200, 9]), 200, settings))
    assert not masked[0, 40:].any()
    assert not masked[2].any()
    assert 0.4 < masked[1].mean() < 0.7


@pytest.fixture(scope="module")
def whole(mini_data_dir, one_device_in_module, tmp_path_factory):
    """Folder and outcome of a run on one device; nothing is written in it later."""
    workdir = tmp_path_factory.mktemp("runs") / "whole"
    return workdir, pretrain_workdir(config(mini_data_dir), workdir)


def losses(workdir):
    lines = map(json.loads, (workdir / "metrics.jsonl").read_text().splitlines())
    return [line["train/loss"] for line in lines if "train/loss" in line]


def test_two_iterations_give_an_encoder_that_transformers_reads(whole, mini_data_dir, tmp_path):
    first, outcome = whole
    assert losses(first)[-1] < losses(first)[0]
    assert 0 < outcome.best_score < 1
    assert (first / "learning_curves.png").exists()
    clip = np.random.default_rng(0).normal(size=8_000).astype(np.float32)
    model = transformers.HubertModel.from_pretrained(first / ENCODER).eval()
    extractor = transformers.AutoFeatureExtractor.from_pretrained(first / ENCODER)
    expected = model(**extractor(clip, sampling_rate=16_000, return_tensors="pt")).last_hidden_state
    (ours,) = load_encoder(first / ENCODER).encode([clip])
    np.testing.assert_allclose(ours, expected[0].detach().numpy(), atol=2e-5)

    base = config(mini_data_dir)
    units = dataclasses.replace(base.units, checkpoint=str(first / ENCODER), clusters=6)
    shape = dataclasses.replace(base.encoder, checkpoint=str(first / ENCODER))
    second = dataclasses.replace(base, units=units, encoder=shape)
    assert pretrain_workdir(second, tmp_path / "second").best_score > 0
    assert (tmp_path / "second" / ENCODER / "model.safetensors").exists()
    with pytest.raises(CheckpointError, match=r"was made with another config: encoder\.checkpoint"):
        pretrain_workdir(second, first)


def test_a_run_that_was_stopped_continues_bit_for_bit_on_other_devices_nearly(
    whole, mini_data_dir, tmp_path, monkeypatch
):
    from emojax.pretraining import run

    real = run.train

    def until_interrupted(state, step, stream, score, checkpoints, settings, workdir):
        calls = iter(range(10))

        def failing(state, batch):
            if next(calls) == 4:
                raise KeyboardInterrupt
            return step(state, batch)

        return real(state, failing, stream, score, checkpoints, settings, workdir)

    monkeypatch.setattr(run, "train", until_interrupted)
    with pytest.raises(KeyboardInterrupt):
        pretrain_workdir(config(mini_data_dir), tmp_path / "stopped")
    monkeypatch.setattr(run, "train", real)
    again = pretrain_workdir(config(mini_data_dir), tmp_path / "stopped")
    assert again.best_score == whole[1].best_score
    assert losses(tmp_path / "stopped") == losses(whole[0])
    monkeypatch.setattr(jax, "devices", jax.local_devices)
    sharded = dataclasses.replace(config(mini_data_dir), mesh=type(config(mini_data_dir).mesh)(data=2, fsdp=4))
    pretrain_workdir(sharded, tmp_path / "sharded")
    np.testing.assert_allclose(losses(tmp_path / "sharded"), losses(whole[0]), rtol=2e-3)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"units": {"clusters": 1}}, "units.clusters must"),
        ({"prediction": {"temperature": 0.0}}, "prediction.temperature must"),
        ({"encoder": {"channels": (8,)}}, "encoder.channels"),
        ({"encoder": {"hidden_size": 17}}, "num_attention_heads"),
        ({"units": {"clusters": 90_000, "fit_frames": 90_000}}, "units.clusters must be <= "),
    ],
)
def test_invalid_settings_are_errors_of_one_line(mini_data_dir, tmp_path, change, message):
    with pytest.raises((ConfigError, CheckpointError), match=message):
        pretrain_workdir(config(mini_data_dir, **change), tmp_path / "run")
