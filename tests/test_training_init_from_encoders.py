"""Initial values from a workdir whose encoder was trained: on another mesh, frozen, and beside a feature store."""

import json

import jax
import numpy as np
import pytest

from configs import default, extract
from emojax.config import parse_experiment
from emojax.errors import ConfigError
from emojax.extraction import extract_store, parse_extraction
from emojax.parallel import MeshConfig, make_mesh
from emojax.training import train_workdir
from emojax.training.initialisation import RECORD
from emojax.workdir import restore_model

MAX_TOKENS = 6


def experiment(data_dir, checkpoints, **changes):
    """A text encoder whose states are averaged."""
    tree = default.get_config()
    tree.corpus.update(
        {"name": "mini_corpus", "data_dir": str(data_dir), "validation_split": "none", "test_splits": ()}
    )
    tree.data.update({"batch_size": 8, "bucket_seconds": (2.5,), "workers": 0, "max_tokens": MAX_TOKENS})
    tree.model.modalities = ("lexical",)
    tree.model.lexical.checkpoint = str(checkpoints["lexical"])
    tree.model.lexical.network.update({"gru_layers": 0, "conv_channels": 0, "pooling": "mean", "embedding_size": 5})
    tree.training.update({"epochs": 1, "log_every_steps": 1, "patience": 0})
    for name, value in changes.items():
        tree.update_from_flattened_dict({name.replace("__", "."): value})
    return parse_experiment(tree.to_dict())


def params(workdir):
    trained = restore_model(workdir, make_mesh(MeshConfig(data=1, fsdp=1), jax.devices()[:1]))
    leaves = jax.tree_util.tree_leaves_with_path(trained.variables["params"])
    return {"/".join(str(key.key) for key in path): np.asarray(leaf) for path, leaf in leaves}


@pytest.fixture(scope="module")
def source(mini_data_dir, checkpoints, tmp_path_factory):
    """A run on one device that changes every layer of its encoder."""
    workdir = tmp_path_factory.mktemp("runs") / "source"
    with pytest.MonkeyPatch.context() as patch:
        devices = jax.devices()[:1]
        patch.setattr(jax, "devices", lambda: devices)
        changes = {"model__lexical__train": "all", "optimizer__encoder_learning_rate": 1e-2}
        train_workdir(experiment(mini_data_dir, checkpoints, **changes), workdir)
    return workdir


def test_a_trained_encoder_is_taken_over_on_a_sharded_mesh(source, mini_data_dir, checkpoints, tmp_path):
    assert len(jax.devices()) == 8
    config = experiment(
        mini_data_dir,
        checkpoints,
        model__init_from=str(source),
        model__lexical__train="all",
        mesh__data=2,
        mesh__fsdp=4,
        optimizer__learning_rate=1e-12,
        optimizer__encoder_learning_rate=1e-12,
    )
    train_workdir(config, tmp_path / "run")
    found, expected = params(tmp_path / "run"), params(source)
    assert set(found) == set(expected)
    for name, values in expected.items():
        np.testing.assert_allclose(found[name], values, atol=1e-6, err_msg=name)
    record = json.loads((tmp_path / "run" / RECORD).read_text())
    assert {f"params/{name}" for name in expected} <= set(record["taken"])
    assert not record["missing"]


@pytest.mark.usefixtures("one_device")
def test_a_trained_encoder_cannot_be_frozen_or_replaced_by_a_store(source, mini_data_dir, checkpoints, tmp_path):
    frozen = experiment(mini_data_dir, checkpoints, model__init_from=str(source))
    with pytest.raises(ConfigError, match=r"config\.model\.lexical\.train must be 'all'.*differs from the published"):
        train_workdir(frozen, tmp_path / "frozen")
    encoder = extract.get_config().encoder.to_dict()
    tree = {
        "corpus": {"name": "mini_corpus", "data_dir": str(mini_data_dir), "splits": ()},
        "encoder": encoder | {"checkpoint": str(checkpoints["lexical"]), "max_tokens": MAX_TOKENS},
        "states": {"layers": (-1,), "combine": "stack", "pooling": "none", "dtype": "float32"},
    }
    extract_store(parse_extraction(tree), tmp_path / "store")
    stored = experiment(
        mini_data_dir, checkpoints, model__init_from=str(source), model__lexical__store=str(tmp_path / "store")
    )
    with pytest.raises(ConfigError, match=r"config\.model\.lexical\.store must be ''.*encoder was trained"):
        train_workdir(stored, tmp_path / "stored")
