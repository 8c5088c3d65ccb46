"""Checkpoints: exact restoring, latest and best kept, errors for damage."""

import shutil

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from etils import epath

from emojax.errors import CheckpointError, TrainingError
from emojax.parallel import MeshConfig, make_mesh, replicated, state_sharding
from emojax.workdir import Checkpoints, abstract_like, read_json, write_json

MODEL = {"params": {"a": jnp.arange(16.0).reshape(8, 2)}, "statistics": {}}
TRAINING = {"step": jnp.int32(3), "opt_state": [jnp.ones(8), jnp.zeros((), jnp.int32)]}


def mesh(devices=1, fsdp=1):
    return make_mesh(MeshConfig(data=-1, fsdp=fsdp), jax.devices()[:devices])


def save_some(directory):
    with Checkpoints(directory, writing=True) as checkpoints:
        for step, score in ((1, 0.1), (2, None), (3, 0.5), (4, 0.2), (5, None)):
            scaled = jax.tree.map(lambda leaf, step=step: leaf * step, MODEL)
            checkpoints.save(step, scaled, TRAINING, {"position": step, "value": 0.1 + 0.2, "none": None}, score)


def test_latest_and_best_checkpoints_are_kept_and_restored_exactly(tmp_path):
    save_some(tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["3", "5"]
    with Checkpoints(tmp_path, writing=False) as checkpoints:
        assert (checkpoints.latest_step, checkpoints.best_step) == (5, 3)
        assert checkpoints.metadata(5) == {"position": 5, "value": 0.1 + 0.2, "none": None}
        parts = checkpoints.restore(
            5,
            {
                "model": abstract_like(MODEL, replicated(mesh())),
                "training": abstract_like(TRAINING, replicated(mesh())),
            },
        )
    np.testing.assert_array_equal(parts["model"]["params"]["a"], MODEL["params"]["a"] * 5)
    assert parts["training"]["step"] == 3


@pytest.mark.parametrize(("devices", "fsdp"), [(1, 1), (8, 1), (8, 8), (4, 2)])
def test_checkpoint_is_restored_on_any_mesh(tmp_path, devices, fsdp):
    save_some(tmp_path)
    target = mesh(devices, fsdp)
    with Checkpoints(tmp_path, writing=False) as checkpoints:
        shardings = state_sharding(MODEL, target)
        restored = checkpoints.restore(3, {"model": abstract_like(MODEL, shardings)})["model"]["params"]["a"]
    np.testing.assert_array_equal(restored, MODEL["params"]["a"] * 3)
    assert restored.addressable_shards[0].data.shape[0] == 8 // fsdp


def test_other_model_or_truncated_checkpoint_raises(tmp_path):
    save_some(tmp_path)
    other = {"params": {"a": jnp.zeros((9, 2))}, "statistics": {}}
    with (
        Checkpoints(tmp_path, writing=False) as checkpoints,
        pytest.raises(CheckpointError, match=r"5: cannot be restored"),
    ):
        checkpoints.restore(5, {"model": abstract_like(other, replicated(mesh()))})
    for path in (tmp_path / "5" / "model").rglob("*"):
        if path.is_file() and path.stat().st_size > 64:
            path.write_bytes(path.read_bytes()[:20])
    with (
        Checkpoints(tmp_path, writing=False) as checkpoints,
        pytest.raises(CheckpointError, match=r"5/model/.*: is damaged .*step 3 is intact: remove .*5 to use it"),
    ):
        checkpoints.restore(5, {"model": abstract_like(MODEL, replicated(mesh()))})


def test_unfinished_saves_are_ignored_and_removed_by_writers_only(tmp_path):
    save_some(tmp_path)
    left = tmp_path / "6.orbax-checkpoint-tmp"
    shutil.copytree(tmp_path / "5", left)
    with Checkpoints(tmp_path, writing=False) as checkpoints:
        assert checkpoints.latest_step == 5
    assert left.exists()
    with Checkpoints(tmp_path, writing=True) as checkpoints:
        assert checkpoints.latest_step == 5
    assert not left.exists()


def test_file_at_the_checkpoint_folder_raises(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(TrainingError, match="checkpoints cannot be saved there"):
        Checkpoints(tmp_path / "file" / "checkpoints", writing=True)


def test_json_files_are_strict_and_atomic(tmp_path):
    write_json(tmp_path / "x.json", {"a": [1.5, None]})
    assert read_json(tmp_path / "x.json") == {"a": [1.5, None]}
    with pytest.raises(ValueError, match="JSON"):
        write_json(tmp_path / "x.json", {"a": float("nan")})
    assert read_json(tmp_path / "x.json") == {"a": [1.5, None]}
    (tmp_path / "x.json").write_text("{")
    with pytest.raises(CheckpointError, match=r"x.json: is not valid JSON"):
        read_json(tmp_path / "x.json")
    with pytest.raises(CheckpointError, match=r"config.json: no such file; .* is not a workdir"):
        read_json(tmp_path / "config.json")


def test_bucket_without_client_library_raises(monkeypatch):
    def open_bucket(*arguments, **settings):
        raise ImportError("Please install gcsfs")

    monkeypatch.setattr("orbax.checkpoint.v1.training.Checkpointer", open_bucket)
    with pytest.raises(TrainingError, match=r"gs://bucket/run: cannot be reached \(Please install gcsfs\)"):
        Checkpoints(epath.Path("gs://bucket/run"), writing=False)
