"""Hidden states of a frozen speech encoder are computed once per batch, and predictions stay the same."""

import jax
import numpy as np
import pytest

from configs import default
from emojax.config import parse_experiment
from emojax.inference import load
from emojax.robustness import shared_states
from emojax.robustness.degrade import ClipBatch
from emojax.robustness.models import open_models
from emojax.robustness.run import grid_mesh
from tests.model_doubles import toy_info
from tests.untrained_workdirs import write_untrained

pytestmark = pytest.mark.usefixtures("one_device_in_module")


def experiment(data_dir, checkpoints, seed, **changes):
    tree = default.get_config()
    tree.seed = seed
    tree.corpus.update({"name": "mini_corpus", "data_dir": str(data_dir), "test_splits": ()})
    tree.data.update({"batch_size": 16, "bucket_seconds": (1.5,), "workers": 0})
    tree.model.modalities, tree.model.clip_attributes = ("acoustic",), False
    settings = tree.model.acoustic
    settings.update({"checkpoint": str(checkpoints["acoustic"]), "layers": (), "pooling": "statistics"})
    settings.network.update({"gru_layers": 0, "conv_channels": 0, "pooling": "mean", "embedding_size": 4})
    tree.training.update({"epochs": 1, "patience": 0})
    for name, value in changes.items():
        tree.update_from_flattened_dict({name.replace("__", "."): value})
    return parse_experiment(tree.to_dict())


@pytest.fixture(scope="module")
def workdirs(mini_data_dir, checkpoints, tmp_path_factory):
    """Two seeds with the frozen encoder, one of frames of its last layer, one whose encoder is trained."""
    folder = tmp_path_factory.mktemp("runs")
    others = {
        "frames": {"model__acoustic__layers": (-1,), "model__acoustic__pooling": "none"},
        "tuned": {"model__acoustic__train": "top", "model__acoustic__top_layers": 1},
    }
    for name, seed, changes in (
        ("pooled_seed0", 0, {}),
        ("pooled_seed1", 1, {}),
        *((name, 0, changes) for name, changes in others.items()),
    ):
        write_untrained(experiment(mini_data_dir, checkpoints, seed, **changes), folder / name)
    return [str(path) for path in sorted(folder.glob("[!.]*"))]


def test_models_with_the_same_frozen_encoder_share_its_states(workdirs, monkeypatch):
    traced = []
    original = shared_states._states
    monkeypatch.setattr(shared_states, "_states", lambda *args: traced.append(args) or original(*args))
    random = np.random.default_rng(0)
    lengths = np.array([16_000, 9_000, 0], np.int32)
    waveform = (0.1 * random.standard_normal((3, 16_000))).astype(np.float32)
    waveform[np.arange(16_000) >= lengths[:, None]] = 0
    models = open_models(workdirs, toy_info(), grid_mesh())
    keys = {model.name: model._states_key for model in models}
    assert keys["pooled_seed0"] == keys["pooled_seed1"] != keys["frames"]
    assert keys["frames"]
    assert keys["tuned"] == ""
    for scale in (1.0, 0.5):
        batch = ClipBatch(scale * waveform, lengths, ("a", "b"), ("", ""))
        for name, model in zip(workdirs, models, strict=True):
            found = model.predict(batch, ["", ""]).attributes
            alone = load(name).forward(scale * waveform, lengths, []).attributes[:2]
            np.testing.assert_allclose(found, alone, atol=1e-5, err_msg=name)
    assert len(traced) == 2  # once per encoder and pooling, compiled for both batches
    shared = models[0]._shared
    before = shared(keys["pooled_seed0"], models[0]._predictor.trained, batch)["acoustic"]
    assert shared(keys["pooled_seed1"], models[1]._predictor.trained, batch)["acoustic"] is before
    assert isinstance(before.values, jax.Array)
