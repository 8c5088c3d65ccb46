"""Published emotion models imported: outputs equal the PyTorch modules that their cards describe, by name."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import safetensors.torch
import torch
import transformers

import emojax
from configs import published
from emojax.config import parse_experiment
from emojax.errors import CheckpointError
from emojax.evaluation import evaluate_workdir
from emojax.published import import_published
from tests import speech_checkpoints

CLIPS = speech_checkpoints.waveforms((16_000, 9_000, 23_456))
SETTINGS = speech_checkpoints.LARGE | {"conv_bias": False} | speech_checkpoints.FRAMES_OF_20_MS


class MeanModel(torch.nn.Module):
    """Wagner et al.: mean of the last states, dense, tanh, projection."""

    def __init__(self, encoder, outputs):
        super().__init__()
        size = encoder.config.hidden_size
        self.wav2vec2 = encoder
        self.classifier = torch.nn.ModuleDict(
            {"dense": torch.nn.Linear(size, size), "out_proj": torch.nn.Linear(size, outputs)}
        )

    def forward(self, waveform):
        pooled = self.wav2vec2(waveform).last_hidden_state.mean(dim=1)
        return self.classifier["out_proj"](torch.tanh(self.classifier["dense"](pooled)))


class AttentiveModel(torch.nn.Module):
    """The Odyssey baseline: attentive statistics, dense, layer norm, ReLU, projection; states of one clip at a time."""

    def __init__(self, encoder, outputs):
        super().__init__()
        size = encoder.config.hidden_size
        self.ssl_model = encoder
        self.pool_model = torch.nn.Module()
        self.pool_model.sap_linear = torch.nn.Linear(size, size)
        self.pool_model.attention = torch.nn.Parameter(torch.randn(size, 1))
        block = torch.nn.Sequential(torch.nn.Linear(2 * size, size), torch.nn.LayerNorm(size), torch.nn.ReLU())
        self.ser_model = torch.nn.Module()
        self.ser_model.fc = torch.nn.ModuleList([block])
        self.ser_model.out = torch.nn.Sequential(torch.nn.Linear(size, outputs))

    def forward(self, waveform):
        states = self.ssl_model(waveform).last_hidden_state
        scores = torch.tanh(self.pool_model.sap_linear(states)) @ self.pool_model.attention
        weights = torch.softmax(scores, dim=1)
        mean = (weights * states).sum(dim=1)
        variance = (weights * states.square()).sum(dim=1) - mean.square()
        pooled = torch.cat([mean, variance.clamp(min=1e-5).sqrt()], dim=1)
        return self.ser_model.out(self.ser_model.fc[0](pooled))


def perturbed(model):
    torch.manual_seed(1)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter += 0.05 * torch.randn_like(parameter)
    return model.eval()


def write(folder, model, config):
    folder.mkdir()
    safetensors.torch.save_file(
        {name: t.contiguous() for name, t in model.state_dict().items()}, folder / "model.safetensors"
    )
    (folder / "config.json").write_text(json.dumps(config))


@pytest.fixture(scope="module")
def audeering(tmp_path_factory):
    folder = tmp_path_factory.mktemp("audeering") / "checkpoint"
    encoder = speech_checkpoints.make_model("Wav2Vec2", **SETTINGS)
    model = perturbed(MeanModel(encoder, 3))
    labels = {"id2label": {"0": "arousal", "1": "dominance", "2": "valence"}}
    write(folder, model, encoder.config.to_dict() | labels)
    settings = {"feature_size": 1, "sampling_rate": 16_000, "do_normalize": True}
    (folder / "preprocessor_config.json").write_text(json.dumps(settings))
    return folder, model


def odyssey(folder, labels, mean=-8e-5, std=0.08):
    encoder = speech_checkpoints.make_model("WavLM", **SETTINGS)
    model = perturbed(AttentiveModel(encoder, len(labels)))
    backbone = folder / "backbone"
    backbone.mkdir(parents=True)
    encoder.config.save_pretrained(backbone)
    config = {
        "model_type": "ser",
        "ssl_type": str(backbone),
        "classifier_hidden_layers": 1,
        "mean": mean,
        "std": std,
        "id2label": {str(number): label for number, label in enumerate(labels)},
    }
    write(folder / "checkpoint", model, config)
    return folder / "checkpoint", model


def experiment(checkpoint):
    config = published.get_config()
    config.model.acoustic.checkpoint = str(checkpoint)
    return parse_experiment(config.to_dict())


def reference(model, clips):
    with torch.no_grad():
        return np.stack([model(torch.tensor(clip[None])).numpy()[0] for clip in clips])


def test_mean_pooled_model_predicts_what_pytorch_does_in_our_order_and_scale(audeering, tmp_path):
    folder, model = audeering
    import_published(experiment(folder), tmp_path / "run")
    extractor = transformers.Wav2Vec2FeatureExtractor(do_normalize=True)
    clips = [extractor(clip, sampling_rate=16_000).input_values[0] for clip in CLIPS]
    expected = 1 + 6 * reference(model, clips)
    found = emojax.load(tmp_path / "run").predict([(clip, 16_000) for clip in CLIPS])
    for row, prediction in zip(expected, found, strict=True):
        named = dict(zip(("activation", "dominance", "valence"), row, strict=True))
        assert prediction.attributes == pytest.approx(named, abs=6e-5)  # 1e-5 on the model's own scale of 0 to 1


def test_attentive_model_predicts_what_pytorch_does_whatever_the_order_of_its_outputs(tmp_path):
    labels = ("dominance", "valence", "arousal")
    folder, model = odyssey(tmp_path, labels)
    import_published(experiment(folder), tmp_path / "run")
    expected = 1 + 6 * reference(model, [(clip + 8e-5) / (0.08 + 1e-6) for clip in CLIPS])
    found = emojax.load(tmp_path / "run").predict([(clip, 16_000) for clip in CLIPS])
    for row, prediction in zip(expected, found, strict=True):
        named = dict(zip(("dominance", "valence", "activation"), row, strict=True))
        assert prediction.attributes == pytest.approx(named, abs=6e-5)


def test_a_categorical_model_gives_probabilities_by_name_and_no_attributes(tmp_path):
    folder, model = odyssey(tmp_path, ("Angry", "Sad", "Happy", "Neutral"), mean=0.0, std=1.0 - 1e-6)
    import_published(experiment(folder), tmp_path / "run")
    expected = torch.softmax(torch.tensor(reference(model, CLIPS)), dim=1).numpy()
    found = emojax.load(tmp_path / "run").predict([(clip, 16_000) for clip in CLIPS])
    for row, prediction in zip(expected, found, strict=True):
        named = dict(zip(("anger", "sadness", "happiness", "neutral"), row, strict=True))
        assert prediction.emotions == pytest.approx(named, abs=1e-5)
        assert not prediction.attributes


def test_the_command_imports_and_the_workdir_evaluates_on_another_corpus(audeering, mini_data_dir, tmp_path):
    folder, _ = audeering
    root = Path(__file__).parents[1]
    command = [sys.executable, "launch.py", "--mode=import", "--config=configs/published.py"]
    command += [f"--workdir={tmp_path / 'run'}", f"--config.model.acoustic.checkpoint={folder}"]
    environment = os.environ | {"JAX_NUM_CPU_DEVICES": "1"}
    done = subprocess.run(command, cwd=root, env=environment, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr
    summary = evaluate_workdir(tmp_path / "run", "mini_corpus", ("test",), str(mini_data_dir))["test"]
    assert np.isfinite(summary["ccc"]["activation"]["value"])
    again = subprocess.run(command, cwd=root, env=environment, capture_output=True, text=True, timeout=300, check=False)
    assert again.returncode == 1
    assert "is not empty" in again.stderr


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"id2label": {"0": "arousal", "1": "valence"}}, "all three attributes"),
        ({"id2label": None}, "no id2label"),
        ({"ssl_type": "facebook/hubert-base-ls960"}, "ssl_type"),
    ],
)
def test_what_is_not_known_is_an_error_that_says_so(change, message, tmp_path):
    folder, _ = odyssey(tmp_path, ("arousal", "dominance", "valence"))
    config = json.loads((folder / "config.json").read_text()) | change
    (folder / "config.json").write_text(json.dumps(config))
    with pytest.raises(CheckpointError, match=message):
        import_published(experiment(folder), tmp_path / "run")


def test_an_encoder_without_a_head_is_no_emotion_model(tmp_path):
    folder = speech_checkpoints.write_checkpoint(tmp_path / "c", speech_checkpoints.make_model("Wav2Vec2", **SETTINGS))
    with pytest.raises(CheckpointError, match="no emotion model known here"):
        import_published(experiment(folder), tmp_path / "run")
