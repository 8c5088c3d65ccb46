"""Initial values from another workdir: what fits is taken over, what does not is listed, once."""

import json
import shutil

import jax
import numpy as np
import pytest

from configs import default
from emojax.config import parse_experiment
from emojax.errors import CheckpointError, ConfigError
from emojax.parallel import MeshConfig, make_mesh
from emojax.training import train_workdir
from emojax.training.initialisation import RECORD
from emojax.workdir import restore_model

pytestmark = pytest.mark.usefixtures("one_device_in_module")


def experiment(data_dir, **changes):
    tree = default.get_config()
    tree.corpus.update({"name": "mini_corpus", "data_dir": str(data_dir), "validation_split": "none"})
    tree.data.update({"batch_size": 8, "bucket_seconds": (2.5,), "workers": 0})
    tree.model.log_mel.network.update({"gru_layers": 0, "conv_channels": 0, "pooling": "mean", "embedding_size": 5})
    tree.objective.emotion_weight = 0.2
    tree.training.update({"epochs": 1, "log_every_steps": 1, "patience": 0})
    for name, value in changes.items():
        tree.update_from_flattened_dict({name.replace("__", "."): value})
    return parse_experiment(tree.to_dict())


def arrays(workdir):
    trained = restore_model(workdir, make_mesh(MeshConfig(data=1, fsdp=1), jax.devices()[:1]))
    leaves = jax.tree_util.tree_leaves_with_path(trained.variables)
    return {"/".join(str(key.key) for key in path): np.asarray(leaf) for path, leaf in leaves}


@pytest.fixture(scope="module")
def source(mini_data_dir, tmp_path_factory):
    workdir = tmp_path_factory.mktemp("runs") / "source"
    train_workdir(experiment(mini_data_dir), workdir)
    return workdir


def start_from(source, data_dir, workdir, **changes):
    """Trains one epoch with a rate so low that parameters stay; returns arrays and record."""
    config = experiment(data_dir, model__init_from=str(source), optimizer__learning_rate=1e-12, **changes)
    train_workdir(config, workdir)
    return arrays(workdir), json.loads((workdir / RECORD).read_text())


def test_parameters_and_statistics_are_taken_over(source, mini_data_dir, tmp_path, capsys):
    found, record = start_from(
        source,
        mini_data_dir,
        tmp_path / "run",
        corpus__train_split="test+dev[:50%]",
        corpus__validation_split="dev[50%:]",
        corpus__test_splits=("train",),
    )
    expected = arrays(source)
    for name, values in expected.items():
        np.testing.assert_allclose(found[name], values, atol=1e-6, err_msg=name)
    assert sorted(record["taken"]) == sorted(expected)
    assert not any(record[part] for part in ("missing", "other_shape", "other_categories", "extra"))
    assert f"{len(expected)} arrays taken over" in capsys.readouterr().out


def test_what_does_not_fit_is_listed_and_starts_anew(source, mini_data_dir, tmp_path):
    found, record = start_from(
        source,
        mini_data_dir,
        tmp_path / "run",
        corpus__categories=("happiness", "anger", "neutral"),
        model__log_mel__network__pooling="statistics",
        model__log_mel__network__embedding_norm=True,
    )
    assert [path.split()[0] for path in record["other_shape"]] == ["params/log_mel_network/embedding/kernel"]
    assert all(path.startswith("params/log_mel_network/norm/") for path in record["missing"])
    assert len(record["missing"]) == 2
    assert record["other_categories"] == ["params/heads/categories/bias", "params/heads/categories/kernel"]
    before = arrays(source)
    np.testing.assert_allclose(
        found["params/heads/attributes/kernel"], before["params/heads/attributes/kernel"], atol=1e-6
    )
    kernels = (each["params/heads/categories/kernel"] for each in (found, before))
    assert not np.allclose(*kernels, atol=1e-5)


def test_a_run_that_continues_does_not_read_it_again(source, mini_data_dir, tmp_path):
    copy = shutil.copytree(source, tmp_path / "copy")
    config = experiment(mini_data_dir, model__init_from=str(copy))
    first = train_workdir(config, tmp_path / "run")
    shutil.rmtree(copy)
    assert train_workdir(config, tmp_path / "run").steps == first.steps


def test_a_folder_that_is_no_workdir_is_an_error_of_one_line(mini_data_dir, tmp_path):
    (tmp_path / "empty").mkdir()
    for folder, message in (("nowhere", "is not a folder"), ("empty", "config.json")):
        with pytest.raises(CheckpointError, match=message) as caught:
            train_workdir(
                experiment(mini_data_dir, model__init_from=str(tmp_path / folder)), tmp_path / f"run_{folder}"
            )
        assert "\n" not in str(caught.value)
        assert not list((tmp_path / f"run_{folder}").glob("*.json"))  # found before any work


def test_linear_heads_need_a_pooled_embedding(mini_data_dir):
    with pytest.raises(ConfigError, match="linear_heads must be False unless"):
        experiment(mini_data_dir, training__linear_heads=True)
