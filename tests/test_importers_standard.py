"""Import of transformers' sequence classification heads: equality with its PyTorch classes, bad checkpoints."""

import json

import numpy as np
import pytest
import safetensors.torch
import torch

import emojax
from configs import default, extract_teacher, published, published_text
from emojax.config import parse_experiment
from emojax.data import open_corpus, open_split
from emojax.errors import CheckpointError, ConfigError
from emojax.extraction import extract_store, parse_extraction
from emojax.feature_store import Store
from emojax.importers import import_published, standard_heads
from emojax.reporting import evaluate_workdir
from emojax.training import train_workdir
from tests import speech_checkpoints, test_encoders_whisper, text_checkpoints

pytestmark = pytest.mark.usefixtures("one_device_in_module")

CLIPS = speech_checkpoints.waveforms((8_000, 4_000, 11_117))
LABELS = ("neu", "Happy", "SAD")
ATTRIBUTES = ("arousal", "dominance", "valence")
TEXTS = ("a b c", "d", "e f g h a b c d")
GROUP = speech_checkpoints.BASE | speech_checkpoints.FRAMES_OF_20_MS
LAYER = speech_checkpoints.LARGE | speech_checkpoints.FRAMES_OF_20_MS
DATA2VEC = {"num_conv_pos_embeddings": 2, "conv_pos_kernel_size": 5} | speech_checkpoints.FRAMES_OF_20_MS
DISTILBERT = {"vocab_size": 20, "dim": 32, "n_layers": 2, "n_heads": 4, "hidden_dim": 64, "max_position_embeddings": 30}


def names(labels):
    return {"id2label": dict(enumerate(labels)), "label2id": {label: n for n, label in enumerate(labels)}}


def speech_model(folder, kind="Hubert", labels=LABELS, **changes):
    """A checkpoint, and its model with layer weights that differ."""
    changes = GROUP | {"classifier_proj_size": 12} | names(labels) | changes
    model = speech_checkpoints.make_model(kind, "ForSequenceClassification", **changes)
    return speech_checkpoints.write_checkpoint(folder, model), model


def text_model(folder, kind="Bert", labels=LABELS, **changes):
    sizes = DISTILBERT if kind == "DistilBert" else text_checkpoints.SIZES
    changes = names(labels) | changes
    model = text_checkpoints.make_model(f"{kind}ForSequenceClassification", sizes=sizes, **changes)
    return text_checkpoints.write_checkpoint(folder, model), model


def imported(folder, workdir, module=published):
    config = module.get_config()
    config.model[config.model.modalities[0]].checkpoint = str(folder)
    import_published(parse_experiment(config.to_dict()), workdir)
    return emojax.load(workdir)


def logits(model, rows):
    """Logits of each row alone."""
    with torch.no_grad():
        return np.stack([model(torch.tensor(row[None])).logits.numpy()[0] for row in rows])


def predicted(predictor, clips, labels, transcripts=None):
    """Logarithms of the probabilities, in the order of the labels."""
    found = predictor.predict([(clip, 16_000) for clip in clips], transcripts=transcripts)
    assert [tuple(each.emotions) for each in found] == [labels] * len(found)
    assert not any(each.attributes for each in found)
    return np.log([[each.emotions[label] for label in labels] for each in found])


def assert_equal_logits(found, expected):
    """Compares logits up to the constant that a softmax ignores."""
    np.testing.assert_allclose(found, torch.log_softmax(torch.tensor(expected), dim=1).numpy(), atol=1e-5)


def changed(folder, **changes):
    """Changes `config.json`; None removes a key."""
    config = json.loads((folder / "config.json").read_text()) | changes
    (folder / "config.json").write_text(json.dumps({key: value for key, value in config.items() if value is not None}))


def change_tensors(folder, **changes):
    """Adds, replaces or (None) removes tensors."""
    tensors = safetensors.torch.load_file(folder / "model.safetensors") | changes
    kept = {name: tensor for name, tensor in tensors.items() if tensor is not None}
    safetensors.torch.save_file(kept, folder / "model.safetensors", metadata={"format": "pt"})


@pytest.mark.parametrize(
    ("kind", "changes"),
    [
        ("Hubert", {}),
        ("Hubert", {"use_weighted_layer_sum": True}),
        ("Wav2Vec2", LAYER),
        ("WavLM", LAYER | {"do_stable_layer_norm": False, "use_weighted_layer_sum": True}),
        ("Data2VecAudio", DATA2VEC | {"use_weighted_layer_sum": True}),
    ],
)
def test_categories_of_speech_equal_pytorch(kind, changes, tmp_path):
    folder, model = speech_model(tmp_path / "c", kind, **changes)
    found = predicted(imported(folder, tmp_path / "run"), CLIPS, LABELS)
    assert_equal_logits(found, logits(model, CLIPS))


def whisper_model(folder, labels=LABELS, **changes):
    changes = {"classifier_proj_size": 12} | names(labels) | changes
    model, _ = test_encoders_whisper.make(folder, "ForAudioClassification", **changes)
    return folder, model


def whisper_logits(model, clips):
    """Logits of each clip alone, padded by its feature extractor to the longest input."""
    extract, rows = test_encoders_whisper.extractor(model), []
    for clip in clips:
        clip = np.pad(clip, (0, test_encoders_whisper.POSITIONS * 320 - len(clip)))
        features = extract(clip, sampling_rate=16_000, padding=False, return_tensors="pt").input_features
        with torch.no_grad():
            rows.append(model(features).logits[0].numpy())
    return np.stack(rows)


@pytest.mark.parametrize("weighted", [False, True])
def test_categories_of_padded_clips_equal_pytorch_and_long_ones_are_means_over_windows(weighted, tmp_path):
    folder, model = whisper_model(tmp_path / "c", use_weighted_layer_sum=weighted)
    predictor = imported(folder, tmp_path / "run")
    assert_equal_logits(predicted(predictor, CLIPS, LABELS), whisper_logits(model, CLIPS))
    (long,) = speech_checkpoints.waveforms((30_000,))
    windows = torch.softmax(torch.tensor(whisper_logits(model, [long[:15_000], long[15_000:]])), dim=1)
    found = predictor.predict(long, 16_000).emotions
    assert list(found.values()) == pytest.approx(windows.mean(dim=0).tolist(), abs=1e-5)


def test_whisper_with_attributes_is_evaluated_and_a_teacher_above_its_longest_input(mini_data_dir, tmp_path):
    folder, model = whisper_model(tmp_path / "c", ATTRIBUTES)
    predictor = imported(folder, tmp_path / "run")
    found = predictor.predict(CLIPS[0], 16_000).attributes
    expected = dict(zip(("activation", "dominance", "valence"), whisper_logits(model, CLIPS[:1])[0], strict=True))
    assert found == pytest.approx(expected, abs=1e-5)
    assert evaluate_workdir(tmp_path / "run", "mini_corpus", ("test",), str(mini_data_dir))["test"]["n"] == 9
    assert "training data and labels are not known here" in (tmp_path / "run" / "README.md").read_text()
    config = extract_teacher.get_config()
    config.corpus.update({"name": "mini_corpus", "data_dir": str(mini_data_dir), "splits": ("test",)})
    config.data.update({"batch_size": 8, "bucket_seconds": (1.0,), "workers": 0})
    config.teacher.workdir = str(tmp_path / "run")
    extract_store(parse_extraction(config.to_dict()), tmp_path / "cache")
    rows = Store(tmp_path / "cache").split("test").__getitems__(range(9))
    clips = [example["audio"] for example in open_split(open_corpus("mini_corpus", mini_data_dir), "test")]
    for row, prediction in zip(rows, predictor.predict([(clip, 16_000) for clip in clips]), strict=True):
        np.testing.assert_allclose(row["outputs"][0, :3], list(prediction.attributes.values()), atol=1e-5)
    student = default.get_config()
    student.corpus.update({"name": "mini_corpus", "data_dir": str(mini_data_dir)})
    student.data.update({"batch_size": 8, "bucket_seconds": (2.5,)})
    student.teacher.workdir = str(tmp_path / "run")
    student.distillation.attribute_weight = 1.0
    with pytest.raises(ConfigError, match=r"max_seconds must be <= 1.2, the teacher's longest input, got 2.5"):
        train_workdir(parse_experiment(student.to_dict()), tmp_path / "student")


def test_unsupported_heads_of_whisper_raise(tmp_path):
    folder, _ = whisper_model(tmp_path / "c")
    head = {"dense": torch.ones(3, 32), "out_proj": torch.ones(3, 3)}
    change_tensors(folder, **{f"classifier.{name}.weight": tensor for name, tensor in head.items()})
    assert_refused(folder, tmp_path, "has classifier.dense.weight, which is not supported")
    changed(folder, architectures=["WhisperForConditionalGeneration"])
    assert_refused(folder, tmp_path, r"architectures must be \['WhisperForAudioClassification'\], got")


def test_attributes_of_speech_equal_pytorch(tmp_path):
    folder, model = speech_model(tmp_path / "c", labels=ATTRIBUTES, problem_type="regression")
    found = imported(folder, tmp_path / "run").predict([(clip, 16_000) for clip in CLIPS])
    for row, prediction in zip(logits(model, CLIPS), found, strict=True):
        expected = dict(zip(("activation", "dominance", "valence"), row, strict=True))
        assert prediction.attributes == pytest.approx(expected, abs=1e-5)
        assert not prediction.emotions


def test_weighted_layers_end_with_the_final_norm_as_in_transformers_4(tmp_path):
    folder, model = speech_model(tmp_path / "c", "Wav2Vec2", **LAYER, use_weighted_layer_sum=True)
    with pytest.raises(CheckpointError, match="use_weighted_layer_sum must be False with do_stable_layer_norm in a"):
        imported(folder, tmp_path / "run")
    changed(folder, transformers_version="4.30.0")
    weights, rows = torch.softmax(model.layer_weights, dim=0), []
    with torch.no_grad():
        for clip in CLIPS:
            output = model.wav2vec2(torch.tensor(clip[None]), output_hidden_states=True)
            states = torch.stack([*output.hidden_states[:-1], output.last_hidden_state])
            mean = torch.einsum("l,lbtd->btd", weights, states).mean(dim=1)
            rows.append(model.classifier(model.projector(mean))[0].numpy())
    assert_equal_logits(predicted(imported(folder, tmp_path / "run"), CLIPS, LABELS), np.stack(rows))


@pytest.mark.parametrize("kind", ["Bert", "Roberta", "DistilBert", "XLMRoberta"])
def test_categories_of_text_equal_pytorch(kind, tmp_path):
    folder, model = text_model(tmp_path / "c", kind)
    predictor = imported(folder, tmp_path / "run", published_text)
    tokens = [np.array([0, *(4 + "abcdefgh".index(word) for word in text.split()), 2]) for text in TEXTS]
    assert_equal_logits(predicted(predictor, CLIPS, LABELS, TEXTS), logits(model, tokens))


def test_text_model_with_attributes_is_evaluated_on_transcripts(mini_data_dir, tmp_path):
    folder, model = text_model(tmp_path / "c", "Roberta", ATTRIBUTES)
    extra = {f"roberta.pooler.dense.{name}": torch.ones(shape) for name, shape in (("weight", (32, 32)), ("bias", 32))}
    change_tensors(folder, **extra)  # as in older checkpoints; the head does not use it
    predictor = imported(folder, tmp_path / "run", published_text)
    found = predictor.predict(CLIPS[0], 16_000, transcripts="a b")
    (row,) = logits(model, [np.array([0, 4, 5, 2])])
    expected = dict(zip(("activation", "dominance", "valence"), row, strict=True))
    assert found.attributes == pytest.approx(expected, abs=1e-5)
    summary = evaluate_workdir(tmp_path / "run", "mini_corpus", ("test",), str(mini_data_dir))["test"]
    assert np.isfinite(summary["ccc"]["valence"]["value"]) or summary["ccc"]["valence"]["reason"]


def test_text_model_is_a_teacher(mini_data_dir, tmp_path):
    folder, _ = text_model(tmp_path / "c", labels=("Angry", "neu", "joy", "confusion"))
    imported(folder, tmp_path / "run", published_text)
    config = extract_teacher.get_config()
    config.corpus.update({"name": "mini_corpus", "data_dir": str(mini_data_dir), "splits": ("test",)})
    config.data.update({"batch_size": 16, "bucket_seconds": (2.5,), "workers": 0, "max_tokens": 16})
    config.teacher.workdir = str(tmp_path / "run")
    assert extract_store(parse_extraction(config.to_dict()), tmp_path / "cache").utterances == 9


def test_metadata_is_that_of_the_card_or_unknown(tmp_path):
    folder, _ = text_model(tmp_path / "c")
    info = imported(folder, tmp_path / "without", published_text).corpus
    assert (info.name, info.licence, info.citation, info.categories) == ("unknown", "unknown", "unknown", LABELS)
    (folder / "README.md").write_text("---\nlicense: mit\ndatasets: [dair-ai/emotion]\n---\n@article{key, year={2020}}")
    info = imported(folder, tmp_path / "with", published_text).corpus
    assert (info.name, info.licence, info.citation) == ("emotion", "mit", "@article{key, year={2020}}")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"id2label": None}, r"config.json.id2label is missing"),
        (
            {"id2label": {"0": "a", "1": "b"}, "label2id": {}},
            "config.json: id2label must have 3 names, .*, got 2",
        ),
        ({"id2label": {"0": "a"}, "label2id": {}}, "id2label must have at least two categories, or the three"),
        ({"problem_type": "multi_label_classification"}, r"config.json.problem_type must be .* got 'multi_label_class"),
        ({"id2label": {"0": "a", "1": " ", "2": "b"}, "label2id": {}}, "id2label must have names that are not empty"),
        ({"id2label": {"0": "a", "1": "b\nc", "2": "b c"}, "label2id": {}}, "id2label must have distinct names, got"),
        ({"add_adapter": True}, "config.json.add_adapter must be"),
        ({"problem_type": "regression"}, "problem_type must be 'single_label_classification' with"),
        (
            {"model_type": "whisper", "apply_spec_augment": False},
            r"architectures must be \['WhisperForAudioClassification'\], got",
        ),
        ({"model_type": None}, "model_type must be one of"),
        ({"architectures": ["HubertForCTC"]}, r"architectures must be \['HubertForSequenceClassification'\], got"),
        ({"pooling_mode": "max"}, r"config.json: pooling_mode must be 'mean' with this head, got 'max'"),
        ({"use_weighted_layer_sum": True}, "model.safetensors: layer_weights is missing"),
        ({"use_weighted_layer_sum": "yes"}, "use_weighted_layer_sum must be"),
    ],
)
def test_unsupported_config_raises(changes, message, speech_folder, tmp_path):
    folder = copied(speech_folder, tmp_path)
    changed(folder, **changes)
    assert_refused(folder, tmp_path, message)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"classifier.weight": None}, "model.safetensors: classifier.weight is missing"),
        (
            {"projector.bias": None},
            "model.safetensors: projector.bias is missing",
        ),
        ({"classifier.bias": torch.ones(3, dtype=torch.int32)}, "classifier.bias must be floating-point of shape"),
        ({"projector.weight": torch.ones(12, 31)}, r"projector.weight must be floating-point of shape \(12, 32\)"),
        ({"layer_weights": torch.ones(3)}, "has layer_weights, which is not supported"),
        ({"tdnn.0.kernel.weight": torch.ones(3)}, "has tdnn.0.kernel.weight, which is not supported"),
    ],
)
def test_unsupported_tensors_raise(changes, message, speech_folder, tmp_path):
    folder = copied(speech_folder, tmp_path)
    change_tensors(folder, **changes)
    assert_refused(folder, tmp_path, message)


@pytest.mark.parametrize(
    ("kind", "tensor"),
    [
        ("Bert", "bert.pooler.dense.weight"),
        ("Roberta", "classifier.dense.weight"),
        ("DistilBert", "pre_classifier.weight"),
        ("XLMRoberta", "classifier.out_proj.weight"),
    ],
)
def test_text_head_without_tensor_raises(kind, tensor, tmp_path):
    folder, _ = text_model(tmp_path / "c", kind)
    change_tensors(folder, **{tensor: None})
    assert_refused(folder, tmp_path, f"model.safetensors: {tensor} is missing", published_text)


def test_family_without_head_raises(speech_folder, tmp_path, monkeypatch):
    monkeypatch.delitem(standard_heads.HEADS, "hubert")
    assert_refused(speech_folder, tmp_path, "config.json: model_type must be one of bert, .* got 'hubert'")


def test_other_modality_raises(speech_folder, tmp_path):
    message = r"config.model.modalities must be \('acoustic',\) for this checkpoint, got \('lexical',\)"
    assert_refused(speech_folder, tmp_path, message, published_text)


@pytest.fixture(scope="module")
def speech_folder(tmp_path_factory):
    return speech_model(tmp_path_factory.mktemp("speech") / "c")[0]


def copied(folder, tmp_path):
    target = tmp_path / "c"
    target.mkdir()
    for file in folder.iterdir():
        (target / file.name).write_bytes(file.read_bytes())
    return target


def assert_refused(folder, tmp_path, message, module=published):
    with pytest.raises(CheckpointError, match=message) as caught:
        imported(folder, tmp_path / "run", module)
    assert "\n" not in str(caught.value)
    assert str(folder) in str(caught.value)
    assert not (tmp_path / "run").exists()
