"""Encoders of a workdir: lazy loading, sharing between workdirs, verification."""

import json
import os
import pathlib
import shutil

import jax
import numpy as np
import pytest

from configs import default
from emojax.config import parse_experiment
from emojax.encoders import load_encoder
from emojax.errors import CheckpointError, EmojaxError
from emojax.files import SKIP_DIGESTS
from emojax.parallel import MeshConfig, make_mesh, processes
from emojax.workdir import ENCODERS, encoders, keep_encoders, load_encoders, read_encoder_source
from emojax.workdir.encoders import SHARED_FOLDER, check_kept_encoder
from tests import text_checkpoints

WEIGHTS = "model.safetensors"


@pytest.fixture(scope="module")
def published(tmp_path_factory):
    return text_checkpoints.write_checkpoint(
        tmp_path_factory.mktemp("published"), text_checkpoints.make_model("BertModel")
    )


@pytest.fixture
def checkpoint(published, tmp_path):
    return pathlib.Path(shutil.copytree(published, tmp_path / "checkpoint"))


def model_config(checkpoint, store="", keep_stored=False):
    tree = default.get_config()
    tree.model.modalities = ("lexical",)
    tree.model.lexical.update({"checkpoint": str(checkpoint), "store": store})
    tree.model.keep_stored_encoders = keep_stored
    return parse_experiment(tree.to_dict()).model


def kept(workdir):
    return workdir / ENCODERS / "lexical"


def loaded(workdir, config, online=("lexical",)):
    mesh = make_mesh(MeshConfig(data=1, fsdp=1), jax.devices()[:1])
    return load_encoders(workdir, config, mesh, online)["lexical"]


def assert_same_weights(encoder, checkpoint):
    expected = load_encoder(checkpoint).params
    jax.tree.map(np.testing.assert_array_equal, encoder.params, expected)


@pytest.fixture
def loads(monkeypatch):
    """What was loaded when encoders were kept: whether with weights."""
    calls = []

    def load(*arguments, params=True, **options):
        calls.append(params)
        return load_encoder(*arguments, params=params, **options)

    monkeypatch.setattr(encoders, "load_encoder", load)
    return calls


def test_sweep_converts_and_stores_weights_once(checkpoint, tmp_path, loads):
    runs, config = [tmp_path / "runs" / str(number) for number in range(3)], model_config(checkpoint)
    for run in runs:
        keep_encoders(run, config)
        keep_encoders(run, config)  # continued
    assert loads.count(True) == 1
    assert len({(kept(run) / WEIGHTS).stat().st_ino for run in runs}) == 1
    assert len({(kept(run) / "tokenizer.json").stat().st_ino for run in runs}) == 3
    assert_same_weights(loaded(runs[2], config), checkpoint)


def test_workdir_is_self_contained(checkpoint, tmp_path):
    config = model_config(checkpoint)
    keep_encoders(tmp_path / "runs" / "one", config)
    expected = load_encoder(checkpoint)
    moved = shutil.copytree(tmp_path / "runs" / "one", tmp_path / "moved")
    shutil.rmtree(tmp_path / "runs")
    shutil.rmtree(checkpoint)
    jax.tree.map(np.testing.assert_array_equal, loaded(moved, config).params, expected.params)


def test_weights_are_shared_in_the_configured_folder_and_copied_without_links(checkpoint, tmp_path, monkeypatch):
    def refuse(*_):
        raise OSError("another file system")

    monkeypatch.setenv(SHARED_FOLDER, str(tmp_path / "elsewhere"))
    monkeypatch.setattr(os, "link", refuse)
    config = model_config(checkpoint)
    keep_encoders(tmp_path / "runs" / "one", config)
    fingerprint = read_encoder_source(kept(tmp_path / "runs" / "one")).fingerprint
    assert (tmp_path / "elsewhere" / fingerprint / WEIGHTS).is_file()
    assert [path.name for path in (tmp_path / "runs").iterdir()] == ["one"]
    assert_same_weights(loaded(tmp_path / "runs" / "one", config), checkpoint)


def test_encoder_of_a_feature_store_is_neither_loaded_nor_saved(checkpoint, tmp_path, loads):
    config = model_config(checkpoint, store="a_store")
    keep_encoders(tmp_path / "run", config)
    assert not any(loads)
    assert not list(tmp_path.rglob(f"run/**/{WEIGHTS}"))
    assert not (tmp_path / ".encoders").exists()
    assert loaded(tmp_path / "run", config, online=()).num_layers == 2
    assert_same_weights(loaded(tmp_path / "run", config), checkpoint)


def test_missing_or_changed_original_encoder_raises_when_needed(checkpoint, tmp_path):
    config = model_config(checkpoint, store="a_store")
    keep_encoders(tmp_path / "run", config)
    weights = checkpoint / WEIGHTS
    content = weights.read_bytes()
    weights.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    with pytest.raises(CheckpointError, match=r"weights were not saved, .* has changed"):
        loaded(tmp_path / "run", config)
    shutil.rmtree(checkpoint)
    with pytest.raises(CheckpointError, match=r"not saved, .*; the original .* is needed: .*: no such folder"):
        loaded(tmp_path / "run", config)
    assert loaded(tmp_path / "run", config, online=()).num_layers == 2


def test_keep_stored_encoders_saves_weights_also_when_continuing(checkpoint, tmp_path):
    keep_encoders(tmp_path / "run", model_config(checkpoint, store="a_store"))
    config = model_config(checkpoint, store="a_store", keep_stored=True)
    keep_encoders(tmp_path / "run", config)
    expected = load_encoder(checkpoint)
    shutil.rmtree(checkpoint)
    jax.tree.map(np.testing.assert_array_equal, loaded(tmp_path / "run", config).params, expected.params)


def flip(file, position):
    content = bytearray(file.read_bytes())
    content[position % len(content)] ^= 1 << position % 8
    file.write_bytes(content)


def test_flipped_byte_of_a_saved_encoder_is_detected(checkpoint, tmp_path, monkeypatch):
    config = model_config(checkpoint)
    keep_encoders(tmp_path / "run", config)
    folder = kept(tmp_path / "run")
    size = (folder / WEIGHTS).stat().st_size
    for position in np.random.default_rng(0).integers(0, size, 12).tolist():
        flip(folder / WEIGHTS, position)
        with pytest.raises(CheckpointError, match=rf"{WEIGHTS}: was changed or damaged since it was written"):
            check_kept_encoder(folder, weights=True)
        flip(folder / WEIGHTS, position)
    for name in ("config.json", "tokenizer.json", "tokenizer_config.json"):
        flip(folder / name, 40)
        with pytest.raises(CheckpointError, match=rf"{name}: was changed or damaged"):
            loaded(tmp_path / "run", config, online=())
        flip(folder / name, 40)
    flip(folder / WEIGHTS, size - 1)
    with pytest.raises(CheckpointError, match="was changed or damaged"):
        loaded(tmp_path / "run", config)
    monkeypatch.setenv(SKIP_DIGESTS, "1")
    loaded(tmp_path / "run", config)
    (folder / WEIGHTS).unlink()
    with pytest.raises(CheckpointError, match=r"no such file; delete .* training then saves"):
        loaded(tmp_path / "run", config)


def test_damaged_shared_encoder_is_recreated(checkpoint, tmp_path):
    config = model_config(checkpoint)
    keep_encoders(tmp_path / "one", config)
    flip(kept(tmp_path / "one") / WEIGHTS, 999)
    keep_encoders(tmp_path / "two", config)
    assert_same_weights(loaded(tmp_path / "two", config), checkpoint)


def test_encoder_without_digests_is_loaded(checkpoint, tmp_path):
    config = model_config(checkpoint)
    keep_encoders(tmp_path / "run", config)
    source = kept(tmp_path / "run") / "source.json"
    tree = json.loads(source.read_text())
    source.write_text(json.dumps({key: tree[key] for key in ("checkpoint", "fingerprint")}))
    keep_encoders(tmp_path / "run", config)
    assert_same_weights(loaded(tmp_path / "run", config), checkpoint)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"files": {"../../x": "a"}}, r"files must be names without folders, got '\.\./\.\./x'"),
        ({"files": {"config.json": 3}}, "files.config.json must be text, got 3"),
        ({"fingerprint": None}, "fingerprint must be text, got None"),
        ({"files": [1]}, "files must be a group"),
    ],
)
def test_invalid_encoder_source_raises(checkpoint, tmp_path, changes, message):
    config = model_config(checkpoint)
    keep_encoders(tmp_path / "run", config)
    source = kept(tmp_path / "run") / "source.json"
    source.write_text(json.dumps(json.loads(source.read_text()) | changes))
    with pytest.raises(CheckpointError, match=rf"source\.json.*{message}"):
        loaded(tmp_path / "run", config)


def test_encoder_of_another_modality_raises_before_reading_weights(checkpoints, tmp_path, loads):
    with pytest.raises(
        CheckpointError, match=r"config\.model\.lexical\.checkpoint: .* must be a text encoder, got a speech encoder"
    ):
        keep_encoders(tmp_path / "run", model_config(checkpoints["acoustic"]))
    assert not any(loads)


def test_first_process_decides_and_all_processes_raise(monkeypatch):
    acted = []
    monkeypatch.setattr(processes, "is_single_process", lambda: False)
    monkeypatch.setattr(processes, "sync_processes", lambda name: None)
    monkeypatch.setattr(processes.multihost_utils, "broadcast_one_to_all", lambda value: value)
    monkeypatch.setattr(processes, "is_first_process", lambda: False)
    processes.run_on_first_process(lambda: acted.append(1), "x")
    assert not acted
    told = np.frombuffer(b"its own message".ljust(4096, b"\0"), np.uint8)
    monkeypatch.setattr(processes.multihost_utils, "broadcast_one_to_all", lambda value: told)
    with pytest.raises(EmojaxError, match=r"^its own message$"):
        processes.run_on_first_process(lambda: acted.append(1), "x")

    def fail():
        raise CheckpointError("its own message")

    monkeypatch.setattr(processes, "is_first_process", lambda: True)
    monkeypatch.setattr(processes.multihost_utils, "broadcast_one_to_all", lambda value: value)
    with pytest.raises(EmojaxError, match=r"^its own message$"):
        processes.run_on_first_process(fail, "x")
