"""Import of published emotion models: equality with the PyTorch modules of their cards."""

import json

import numpy as np
import pytest
import safetensors.torch
import torch
import transformers

import emojax
from configs import published
from emojax.config import parse_experiment
from emojax.errors import CheckpointError
from emojax.importers import import_published
from emojax.importers.card import read_card
from emojax.reporting import evaluate_workdir
from tests import speech_checkpoints

pytestmark = pytest.mark.usefixtures("one_device_in_module")

CLIPS = speech_checkpoints.waveforms((16_000, 9_000, 23_456))
SETTINGS = speech_checkpoints.LARGE | {"conv_bias": False} | speech_checkpoints.FRAMES_OF_20_MS


CARD = """---
language: en
datasets:
- msp-podcast
license: cc-by-nc-sa-4.0
---
# A model

```bibtex
@article{wagner2023dawn, title={Dawn of {the} transformer era},
  year={2023}}
```
"""


class MeanModel(torch.nn.Module):
    """Wagner et al.: mean of the last states, dense, tanh, projection; others pool by maximum or sum."""

    def __init__(self, encoder, outputs, pooling="mean"):
        super().__init__()
        self.pooling = {"mean": torch.mean, "max": torch.amax, "sum": torch.sum}[pooling]
        size = encoder.config.hidden_size
        self.wav2vec2 = encoder
        self.classifier = torch.nn.ModuleDict(
            {"dense": torch.nn.Linear(size, size), "out_proj": torch.nn.Linear(size, outputs)}
        )

    def forward(self, waveform):
        pooled = self.pooling(self.wav2vec2(waveform).last_hidden_state, dim=1)
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
    folder.mkdir(parents=True)
    safetensors.torch.save_file(
        {name: t.contiguous() for name, t in model.state_dict().items()}, folder / "model.safetensors"
    )
    (folder / "config.json").write_text(json.dumps(config))


def pooled_model(folder, labels=("arousal", "dominance", "valence"), pooling="mean", **changes):
    encoder = speech_checkpoints.make_model("Wav2Vec2", **SETTINGS)
    model = perturbed(MeanModel(encoder, len(labels), pooling))
    settings = {"id2label": {str(number): label for number, label in enumerate(labels)}, "pooling_mode": pooling}
    write(folder, model, encoder.config.to_dict() | settings | changes)
    settings = {"feature_size": 1, "sampling_rate": 16_000, "do_normalize": True}
    (folder / "preprocessor_config.json").write_text(json.dumps(settings))
    return folder, model


@pytest.fixture(scope="module")
def audeering(tmp_path_factory):
    folder, model = pooled_model(tmp_path_factory.mktemp("audeering") / "checkpoint")
    (folder / "README.md").write_text(CARD)
    return folder, model


def odyssey(folder, labels, mean=-8e-5, std=0.08):
    encoder = speech_checkpoints.make_model("WavLM", **SETTINGS)
    model = perturbed(AttentiveModel(encoder, len(labels)))
    config = {
        "model_type": "ser",
        "ssl_type": "backbone",
        "classifier_hidden_layers": 1,
        "mean": mean,
        "std": std,
        "id2label": {str(number): label for number, label in enumerate(labels)},
    }
    write(folder / "checkpoint", model, config)
    encoder.config.save_pretrained(folder / "checkpoint" / "backbone")
    (folder / "checkpoint" / "README.md").write_text("---\nlicense: mit\ntags:\n- wavlm\n- msp-podcast\n---\n")
    return folder / "checkpoint", model


def experiment(checkpoint):
    config = published.get_config()
    config.model.acoustic.checkpoint = str(checkpoint)
    return parse_experiment(config.to_dict())


def reference(model, clips):
    with torch.no_grad():
        return np.stack([model(torch.tensor(clip[None])).numpy()[0] for clip in clips])


def test_mean_pooled_model_equals_pytorch(audeering, tmp_path):
    folder, model = audeering
    import_published(experiment(folder), tmp_path / "run")
    extractor = transformers.Wav2Vec2FeatureExtractor(do_normalize=True)
    clips = [extractor(clip, sampling_rate=16_000).input_values[0] for clip in CLIPS]
    expected = 1 + 6 * reference(model, clips)
    found = emojax.load(tmp_path / "run").predict([(clip, 16_000) for clip in CLIPS])
    for row, prediction in zip(expected, found, strict=True):
        named = dict(zip(("activation", "dominance", "valence"), row, strict=True))
        assert prediction.attributes == pytest.approx(named, abs=6e-5)  # 1e-5 on the model's own scale of 0 to 1


def test_attentive_model_equals_pytorch_for_any_output_order(tmp_path):
    labels = ("dominance", "valence", "arousal")
    folder, model = odyssey(tmp_path, labels)
    import_published(experiment(folder), tmp_path / "run")
    expected = 1 + 6 * reference(model, [(clip + 8e-5) / (0.08 + 1e-6) for clip in CLIPS])
    found = emojax.load(tmp_path / "run").predict([(clip, 16_000) for clip in CLIPS])
    for row, prediction in zip(expected, found, strict=True):
        named = dict(zip(("dominance", "valence", "activation"), row, strict=True))
        assert prediction.attributes == pytest.approx(named, abs=6e-5)


def test_categorical_model_has_probabilities_and_no_attributes(tmp_path):
    folder, model = odyssey(tmp_path, ("Angry", "Sad", "Happy", "Neutral"), mean=0.0, std=1.0 - 1e-6)
    import_published(experiment(folder), tmp_path / "run")
    expected = torch.softmax(torch.tensor(reference(model, CLIPS)), dim=1).numpy()
    found = emojax.load(tmp_path / "run").predict([(clip, 16_000) for clip in CLIPS])
    for row, prediction in zip(expected, found, strict=True):
        named = dict(zip(("Angry", "Sad", "Happy", "Neutral"), row, strict=True))
        assert prediction.emotions == pytest.approx(named, abs=1e-5)
        assert not prediction.attributes


def test_imported_workdir_is_evaluated_on_another_corpus(commands, audeering, mini_data_dir, tmp_path):
    folder, _ = audeering
    command = ["--mode=import", "--config=configs/published.py"]
    command += [f"--workdir={tmp_path / 'run'}", f"--config.model.acoustic.checkpoint={folder}"]
    done = commands.run(*command)
    assert done.returncode == 0, done.stderr
    summary = evaluate_workdir(tmp_path / "run", "mini_corpus", ("test",), str(mini_data_dir))["test"]
    assert np.isfinite(summary["ccc"]["activation"]["value"])
    again = commands.run(*command)
    assert again.returncode == 1
    assert "must be a new or empty folder" in again.stderr


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"id2label": {"0": "arousal", "1": "valence"}}, "id2label must be the three attributes, or categories only"),
        ({"id2label": {"0": "a", "1": "b", "2": "arousal"}}, "id2label must be the three attributes, or categories"),
        ({"id2label": {"0": "Angry", "1": "anger", "2": "joy"}}, "id2label must have distinct names"),
        ({"id2label": {"0": "a", "1": "b", "3": "c"}}, "id2label must have the keys 0 to 2, got 0, 1, 3"),
        ({"id2label": {"x": "a"}}, "id2label must have the keys 0 to 0, got x"),
        ({"id2label": {"0": "a", "1": "b"}}, r"ser_model.out.0.weight must be floating-point of shape \(2, 32\)"),
        ({"id2label": None}, "id2label must be a group, got None"),
        ({"label2id": {"valence": 0}}, "label2id must be the inverse of id2label, got 'valence' as 0"),
        ({"problem_type": "multi_label_classification"}, "problem_type must be 'regression' or 'single_label"),
        ({"problem_type": "single_label_classification"}, "problem_type must be 'regression' with activation"),
        (
            {"ssl_type": "facebook/hubert-base-ls960"},
            "ssl_type must be 'microsoft/wavlm-large' or a folder in the checkpoint",
        ),
        ({"ssl_type": "../elsewhere"}, "ssl_type must be"),
        ({"classifier_hidden_layers": 2}, "classifier_hidden_layers must be 1, got 2"),
        ({"mean": "none"}, "mean must be a number, got 'none'"),
        ({"std": 0}, "std must be > 0, got 0"),
    ],
)
def test_unsupported_checkpoints_raise(change, message, tmp_path):
    folder, _ = odyssey(tmp_path, ("arousal", "dominance", "valence"))
    config = json.loads((folder / "config.json").read_text()) | change
    (folder / "config.json").write_text(json.dumps(config))
    with pytest.raises(CheckpointError, match=message) as caught:
        import_published(experiment(folder), tmp_path / "run")
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "run").exists()


def test_attentive_model_without_output_layer_raises(tmp_path):
    folder, model = odyssey(tmp_path, ("arousal", "dominance", "valence"))
    tensors = {key: tensor.contiguous() for key, tensor in model.state_dict().items() if "out.0.weight" not in key}
    safetensors.torch.save_file(tensors, folder / "model.safetensors")
    with pytest.raises(CheckpointError, match=r"model.safetensors: ser_model.out.0.weight is missing"):
        import_published(experiment(folder), tmp_path / "run")


def test_encoder_without_head_raises(tmp_path):
    folder = speech_checkpoints.write_checkpoint(tmp_path / "c", speech_checkpoints.make_model("Wav2Vec2", **SETTINGS))
    with pytest.raises(CheckpointError, match="unsupported emotion model"):
        import_published(experiment(folder), tmp_path / "run")


@pytest.mark.parametrize("pooling", ["max", "sum"])
def test_pooling_modes_are_independent_of_padding(pooling, tmp_path):
    folder, model = pooled_model(tmp_path / "c", ("angry", "sad"), pooling)
    import_published(experiment(folder), tmp_path / "run")
    extractor = transformers.Wav2Vec2FeatureExtractor(do_normalize=True)
    clips = [extractor(clip, sampling_rate=16_000).input_values[0] for clip in CLIPS]
    expected = torch.softmax(torch.tensor(reference(model, clips)), dim=1).numpy()
    found = emojax.load(tmp_path / "run").predict([(clip, 16_000) for clip in CLIPS])
    for row, prediction in zip(expected, found, strict=True):
        assert prediction.emotions == pytest.approx({"angry": row[0], "sad": row[1]}, abs=1e-5)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"pooling_mode": "median"}, "pooling_mode must be 'mean' or 'max' or 'sum', got 'median'"),
        ({"use_weighted_layer_sum": True}, "use_weighted_layer_sum must be False, got True"),
        ({"problem_type": "regression"}, "problem_type must be 'single_label_classification' with anger, sadness"),
        ({"num_hidden_layers": 10_000}, "num_hidden_layers must be >= 1 and <= 256"),
    ],
)
def test_unsupported_head_raises(changes, message, tmp_path):
    folder, _ = pooled_model(tmp_path / "c", ("angry", "sad"), **changes)
    with pytest.raises(CheckpointError, match=message):
        import_published(experiment(folder), tmp_path / "run")


@pytest.mark.parametrize("name", ["classifier.norm.weight", "layer_weights", "projector.weight"])
def test_unused_tensor_raises(name, tmp_path):
    folder, model = pooled_model(tmp_path / "c")
    tensors = {key: tensor.contiguous() for key, tensor in model.state_dict().items()}
    safetensors.torch.save_file(tensors | {name: torch.ones(3)}, folder / "model.safetensors")
    with pytest.raises(CheckpointError, match=f"has {name}, which is not supported"):
        import_published(experiment(folder), tmp_path / "run")


def test_model_card_gives_licence_citation_and_corpus(audeering):
    card = read_card(audeering[0])
    assert (card.licence, card.corpus, card.scale) == ("cc-by-nc-sa-4.0", "msp_podcast", (1.0, 7.0))
    assert card.citation == "@article{wagner2023dawn, title={Dawn of {the} transformer era}, year={2023}}"


def test_model_without_card_has_unknown_metadata_and_scale_0_to_1(tmp_path):
    folder, model = pooled_model(tmp_path / "c")
    import_published(experiment(folder), tmp_path / "run")
    predictor = emojax.load(tmp_path / "run")
    info = predictor.corpus
    assert (info.name, info.licence, info.citation, info.scale) == ("unknown", "unknown", "unknown", (0.0, 1.0))
    clip = transformers.Wav2Vec2FeatureExtractor(do_normalize=True)(CLIPS[0], sampling_rate=16_000).input_values[0]
    found = predictor.predict(CLIPS[0], rate=16_000).attributes
    expected = dict(zip(("activation", "dominance", "valence"), reference(model, [clip])[0], strict=True))
    assert found == pytest.approx(expected, abs=1e-5)


@pytest.mark.parametrize(
    ("card", "expected"),
    [
        ("---\nlicense: other\nlicense_name: my-own\n---", ("my-own", "unknown")),
        ("---\nlicense: [mit, apache-2.0]\ndatasets: someone/IEMOCAP\n---", ("mit, apache-2.0", "iemocap")),
        ("---\nlicense: 3\ndatasets: {a: 1}\ntags: [speech, english]\n---", ("unknown", "unknown")),
        ("---\n- a\n---", ("unknown", "unknown")),
        ("---\nlicense: !!python/object/apply:os.getcwd []\n---", ("unknown", "unknown")),
        ("---\na: &a [x, x]\nb: &b [*a, *a]\nlicense: [*b, *b, mit]\n---", ("mit", "unknown")),
        ("# no metadata\n@article{open", ("unknown", "unknown")),
    ],
)
def test_invalid_cards_are_read_safely(card, expected, tmp_path):
    (tmp_path / "README.md").write_text(card)
    found = read_card(tmp_path)
    assert (found.licence, found.corpus) == expected
    assert found.citation == "unknown"
