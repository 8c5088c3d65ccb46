"""Teachers that read the hidden states of their encoders from the stores they were trained from."""

import json

import jax
import numpy as np
import pytest

from configs import default, extract, extract_teacher
from emojax.config import TeacherConfig, parse_experiment
from emojax.data import AUDIO, open_corpus, read_index
from emojax.extraction import extract_store, parse_extraction
from emojax.feature_store import OUTPUTS, Store
from emojax.parallel import MeshConfig, make_mesh
from emojax.teachers import TeacherSplit, load_ensemble
from emojax.training import train_workdir
from tests import mini_corpus
from tests.untrained_workdirs import write_untrained

pytestmark = pytest.mark.usefixtures("one_device_in_module", "one_shape_in_module")

MAX_TOKENS = 6
FLOAT16 = {"rtol": 0, "atol": 2e-3}
"""Outputs of order 1 from hidden states of order 1 that are rounded to a relative 2⁻¹¹."""


def small(config, data_dir):
    config.corpus.update({"name": "mini_corpus", "data_dir": str(data_dir)})
    config.data.update({"batch_size": 8, "bucket_seconds": (2.5,), "workers": 0, "max_tokens": MAX_TOKENS})
    return config


@pytest.fixture(scope="module")
def teacher(checkpoints, mini_data_dir, tmp_path_factory):
    """A model with log-mel, acoustic and lexical input, of stores of both encoders."""
    root = tmp_path_factory.mktemp("teacher")
    config = small(default.get_config(), mini_data_dir)
    config.model.modalities = ("log_mel", "acoustic", "lexical")
    config.model.fusion.size = 8
    for modality, checkpoint in checkpoints.items():
        store = extract.get_config()
        store.corpus.update({"name": "mini_corpus", "data_dir": str(mini_data_dir), "splits": ("train", "dev", "test")})
        store.encoder.update({"checkpoint": str(checkpoint), "max_tokens": MAX_TOKENS, "batch_seconds": 16.0})
        extract_store(parse_extraction(store.to_dict()), root / modality)
        config.model[modality].update({"checkpoint": str(checkpoint), "store": str(root / modality)})
    for modality in config.model.modalities:
        config.model[modality].network.update({"gru_layers": 0, "conv_channels": 0, "embedding_size": 5})
    write_untrained(parse_experiment(config.to_dict()), root / "run")
    return root


def cached(teacher, data_dir, place):
    config = small(extract_teacher.get_config(), data_dir)
    config.corpus.splits, config.teacher.workdir = ("train",), str(teacher / "run")
    extract_store(parse_extraction(config.to_dict()), place)
    split = Store(place).split("train")
    return np.stack([row[OUTPUTS][0] for row in split.__getitems__(range(len(split)))])


def student(teacher, data_dir, place):
    config = small(default.get_config(), data_dir)
    config.corpus.validation_split = "none"
    config.model.log_mel.network.update({"gru_layers": 0, "conv_channels": 0, "embedding_size": 5})
    config.training.update({"epochs": 1, "log_every_steps": 1})
    config.distillation.attribute_weight = 1.0
    config.teacher.workdir = str(teacher / "run")
    train_workdir(parse_experiment(config.to_dict()), place)
    lines = [json.loads(line) for line in (place / "metrics.jsonl").read_text().splitlines()]
    return [line["train/loss"] for line in lines if "train/loss" in line]


@pytest.mark.parametrize("outputs", [cached, student])
def test_outputs_from_the_stores_equal_those_of_the_encoders(
    teacher, mini_data_dir, tmp_path, monkeypatch, capsys, outputs
):
    capsys.readouterr()
    read = outputs(teacher, mini_data_dir, tmp_path / "read")
    printed = capsys.readouterr().out
    for modality in ("acoustic", "lexical"):
        assert f"teacher {teacher / 'run'}: {modality} hidden states are read from {teacher / modality}" in printed
    monkeypatch.setattr("emojax.teachers.stores.stored_modalities", lambda _: ())
    computed = outputs(teacher, mini_data_dir, tmp_path / "computed")
    assert "hidden states are read" not in capsys.readouterr().out
    np.testing.assert_allclose(read, computed, **FLOAT16)
    assert np.any(np.not_equal(read, computed))


def test_a_store_that_does_not_fit_is_replaced_by_its_encoder(teacher, mini_data_dir, tmp_path, capsys):
    expected = cached(teacher, mini_data_dir, tmp_path / "expected")
    (teacher / "acoustic").rename(teacher / "away")
    capsys.readouterr()
    found = cached(teacher, mini_data_dir, tmp_path / "found")
    (teacher / "away").rename(teacher / "acoustic")
    printed = capsys.readouterr().out
    assert "acoustic encoder is computed, its store does not fit" in printed
    assert "lexical hidden states are read" in printed
    np.testing.assert_allclose(found, expected, **FLOAT16)
    sources = [Store(tmp_path / name).metadata for name in ("expected", "found")]
    assert sources[0] == sources[1]  # the same models: an interrupted extraction continues


def test_stores_of_other_audio_are_not_read(teacher, tmp_path, capsys):
    mini_corpus.build(tmp_path, noise=True)
    corpus = open_corpus("mini_corpus", tmp_path)
    splits = [TeacherSplit(corpus.info.name, "train", read_index(corpus, "train"), AUDIO, MAX_TOKENS)]
    mesh = make_mesh(MeshConfig(-1, 1), jax.devices()[:1])
    config = TeacherConfig(str(teacher / "run"))
    (member,) = load_ensemble(config, mesh, splits).members
    assert member.online == ("acoustic",)
    assert "was computed from other audio" in capsys.readouterr().out
    (member,) = load_ensemble(config, mesh).members
    assert member.online == ("acoustic", "lexical")
