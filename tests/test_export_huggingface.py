"""Hugging Face folders: transformers returns what the model does; other architectures get ONNX files."""

import json
import sys

import numpy as np
import pytest

from configs import default, student_s
from emojax.errors import ConfigError
from emojax.export import export_workdir
from tests.exported_models import write_clips, write_workdir


@pytest.fixture(scope="module")
def clips(tmp_path_factory):
    return write_clips(tmp_path_factory.mktemp("audio") / "clips")


def acoustic_config(checkpoints, **changes):
    tree = default.get_config()
    tree.model.modalities = ("acoustic",)
    tree.model.acoustic.checkpoint = str(checkpoints["acoustic"])
    tree.model.acoustic.update(changes)
    tree.model.acoustic.network.update({"gru_layers": 0, "conv_channels": 0, "pooling": "mean", "embedding_size": 5})
    tree.objective.emotion_weight = 0.5
    return tree


@pytest.mark.parametrize(
    "changes",
    [
        {"layers": (-1,)},
        {"layers": (), "combine": "weighted", "normalisation": "none"},
        {"layers": (0, -1), "combine": "mean", "pooling": "mean"},
    ],
)
def test_transformers_loads_the_folder_and_returns_the_outputs_of_the_model(checkpoints, clips, tmp_path, changes):
    workdir = write_workdir(tmp_path / "run", acoustic_config(checkpoints, **changes))
    export = export_workdir(workdir, tmp_path / "out", "huggingface", (str(clips),))
    assert list(export.checks) == ["model.safetensors"]
    config = json.loads((tmp_path / "out" / "config.json").read_text())
    assert list(config["id2label"].values()) == ["activation", "valence", "dominance", "anger", "joy"]
    assert config["architectures"] == ["HubertForSequenceClassification"]
    assert "library_name: transformers" in (tmp_path / "out" / "README.md").read_text()
    largest = float(export.checks["model.safetensors"].partition("attributes ")[2].partition(" ")[0])
    assert largest < 2e-5


def test_other_architectures_get_onnx_files(clips, tmp_path):
    pytest.importorskip("onnx")
    tree = student_s.get_config()
    tree.model.log_mel.network.update({"gru_size": 8, "gru_layers": 1, "conv_channels": 6, "embedding_size": 5})
    workdir = write_workdir(tmp_path / "run", tree, categories=())
    export = export_workdir(workdir, tmp_path / "out", "huggingface", (str(clips),))
    assert "model.onnx" in export.files
    assert "transformers has no such model (model.modalities" in (tmp_path / "out" / "README.md").read_text()


def test_models_that_neither_has_and_a_missing_package_are_one_line(checkpoints, clips, tmp_path, monkeypatch):
    pytest.importorskip("onnx")
    tree = acoustic_config(checkpoints)
    tree.model.modalities = ("log_mel", "acoustic")
    workdir = write_workdir(tmp_path / "fused", tree)
    with pytest.raises(ConfigError, match=r"transformers has no such model either: model.modalities") as error:
        export_workdir(workdir, tmp_path / "out", "huggingface", (str(clips),))
    assert "\n" not in str(error.value)
    workdir = write_workdir(tmp_path / "mean", acoustic_config(checkpoints))
    monkeypatch.setitem(sys.modules, "torch", None)
    with pytest.raises(ConfigError, match="needs PyTorch"):
        export_workdir(workdir, tmp_path / "out", "huggingface", (str(clips),))


def test_scales_are_folded_into_the_last_layer(checkpoints, clips, tmp_path):
    from safetensors.numpy import load

    tree = acoustic_config(checkpoints)
    workdir = write_workdir(tmp_path / "run", tree)
    export = export_workdir(workdir, tmp_path / "out", "huggingface", (str(clips),))
    tensors = load(export.files["model.safetensors"])
    assert tensors["classifier.weight"].shape == (5, 5)
    np.testing.assert_allclose(tensors["classifier.bias"][:3], 3.0, atol=1e-6)  # the middle of the scale 1 to 5
