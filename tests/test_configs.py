"""Config files: each trains and evaluates on a miniature corpus with miniature encoders."""

import importlib
import json
from pathlib import Path

import numpy as np
import pytest

from emojax.config import parse_experiment
from emojax.extraction import parse_extraction
from emojax.pretraining import parse_pretraining
from emojax.reporting import evaluate_workdir
from emojax.training import train_workdir
from tests import speech_checkpoints, text_checkpoints

CONFIGS = Path(__file__).parents[1] / "configs"
NO_SYSTEMS = ("default", "extract", "extract_teacher", "published", "published_text")
NO_SYSTEMS += ("pretrain_hubert", "pretrain_hubert_tiny", "transcribe", "annotate", "model_tests", "robustness")
SYSTEMS = sorted(path.stem for path in CONFIGS.glob("*.py") if path.stem not in NO_SYSTEMS)
SYSTEMS += ["demo:lexical", "demo:acoustic", "demo:fusion", "raters_emobank:acoustic,both"]
SPEECH = {"hubert": "Hubert", "wav2vec2": "Wav2Vec2", "wavlm": "WavLM"}
TEXT = {"roberta": "RobertaModel", "bert": "BertModel", "minilm": "BertModel"}


@pytest.fixture(scope="module")
def miniature(tmp_path_factory):
    """Gives a folder with a miniature of the checkpoint a config names."""
    made = {}

    def folder(published):
        name = published.lower()
        kind = next((kind for kind in (*SPEECH, *TEXT) if kind in name), "hubert")  # also for a package
        if kind not in made:
            made[kind] = tmp_path_factory.mktemp(kind)
            if kind in SPEECH:
                settings = speech_checkpoints.LARGE | speech_checkpoints.FRAMES_OF_20_MS
                model = speech_checkpoints.make_model(SPEECH[kind], num_hidden_layers=1, **settings)
                speech_checkpoints.write_checkpoint(made[kind], model, normalize=True)
            else:
                model = text_checkpoints.make_model(TEXT[kind], num_hidden_layers=1)
                text_checkpoints.write_checkpoint(made[kind], model)
        return str(made[kind])

    return folder


@pytest.mark.usefixtures("one_device")
@pytest.mark.parametrize("system", SYSTEMS)
def test_config_trains_and_evaluates(system, miniature, mini_data_dir, rated_data_dir, tmp_path):
    module, _, row = system.partition(":")
    config = importlib.import_module(f"configs.{module}").get_config(*filter(None, [row]))
    config.corpus.update({"name": "mini_corpus", "data_dir": str(mini_data_dir)})
    if config.model.get("rating_bins"):
        config.corpus.update({"name": "rated_corpus", "data_dir": str(rated_data_dir)})
        config.model.rating_bins = 7
    config.data.update({"batch_size": 8, "bucket_seconds": (2.5,), "workers": 0, "max_tokens": 8})
    for modality in config.model.modalities:
        settings = config.model[modality]
        settings.network.update({"gru_size": 4, "embedding_size": min(settings.network.embedding_size, 4)})
        settings.network.conv_channels = min(settings.network.conv_channels, 4)
        settings.network.gru_layers = min(settings.network.gru_layers, 1)  # one of each layer: it is the compilation
        settings.network.block_dilations = settings.network.block_dilations[:2]
        if modality != "log_mel":
            settings.checkpoint = miniature(settings.checkpoint)
            settings.layers, settings.keep_layers = settings.layers[:2], min(settings.keep_layers, 1)
            settings.store, settings.make_store = "", False
    config.model.fusion.update({"size": 4, "attention_heads": 2})
    config.training.update({"epochs": 1, "evaluate_every_epochs": 1})
    config.evaluation.bootstrap_resamples = 10
    train_workdir(parse_experiment(config.to_dict()), tmp_path / "run")
    summary = evaluate_workdir(tmp_path / "run")["test"]
    logged = [json.loads(line) for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()]
    assert np.isfinite([value for line in logged for name, value in line.items() if name.endswith("loss")]).all()
    wanted = {"ccc": sum(config.objective.attribute_weights) > 0, "uar": config.objective.emotion_weight > 0}
    assert {name for name, flag in wanted.items() if flag} <= set(summary)


def test_ablation_rows_have_different_configs():
    from configs import student_ablation

    taught = {"labels": False, "half": False, "noisy_labels": False}
    seen = []
    for row in student_ablation.ROWS:
        config = student_ablation.get_config(row)
        if taught.get(row, True):
            config.teacher.cache = "somewhere"
        seen.append(parse_experiment(config.to_dict()))
        assert seen[-1].distillation.on is taught.get(row, True)
    assert all(one != other for number, one in enumerate(seen) for other in seen[:number])
    with pytest.raises(ValueError, match="row must be labels, embedding"):
        student_ablation.get_config("nothing")


def test_demo_student_has_the_network_of_the_acoustic_system():
    from configs import demo

    alone, taught = demo.get_config("acoustic"), demo.get_config("student")
    assert taught.distillation.attribute_weight > alone.distillation.attribute_weight == 0
    assert taught.model == alone.model
    assert taught.training == alone.training
    with pytest.raises(ValueError, match="system must be mfb, acoustic"):
        demo.get_config("nothing")


@pytest.mark.parametrize("system", SYSTEMS)
def test_config_docstring_has_its_command(system):
    name = system.partition(":")[0]
    assert f"--config=configs/{name}.py" in importlib.import_module(f"configs.{name}").__doc__


def test_extraction_config_requires_only_a_checkpoint():
    config = importlib.import_module("configs.extract").get_config()
    config.encoder.checkpoint = "somewhere"
    parse_extraction(config.to_dict())


@pytest.mark.parametrize("name", ["pretrain_hubert", "pretrain_hubert_tiny"])
def test_pretraining_configs_are_complete(name):
    parse_pretraining(importlib.import_module(f"configs.{name}").get_config().to_dict())
