"""Whole runs with encoders: from a store and online they train alike; a workdir alone is the whole model."""

import json
import shutil

import jax
import numpy as np
import pytest

import emojax
import emojax.encoders
from configs import default, extract
from emojax.config import parse_experiment
from emojax.data import open_corpus, open_split, read_index
from emojax.encoders.waveform_inputs import WaveformInputs
from emojax.errors import CheckpointError, ConfigError, CorpusError
from emojax.extraction import extract_store, parse_extraction
from emojax.files import with_digest, write_json
from emojax.parallel import MeshConfig, make_mesh
from emojax.reporting import evaluate_workdir
from emojax.training import train_workdir
from emojax.workdir import batch_inputs, restore_model
from tests import mini_corpus, speech_checkpoints

pytestmark = pytest.mark.usefixtures("one_device_in_module", "one_shape_in_module")

MAX_TOKENS = 6


@pytest.fixture(scope="module")
def stores(checkpoints, mini_data_dir, tmp_path_factory):
    folder = tmp_path_factory.mktemp("stores")
    for modality, checkpoint in checkpoints.items():
        tree = {
            "corpus": {"name": "mini_corpus", "data_dir": str(mini_data_dir), "splits": ()},
            "encoder": extract.get_config().encoder.to_dict()
            | {"checkpoint": str(checkpoint), "max_tokens": MAX_TOKENS, "batch_seconds": 16.0, "batch_tokens": 256},
            "states": {"layers": (1, -1), "combine": "stack", "pooling": "none", "dtype": "float32"},
        }
        extract_store(parse_extraction(tree), folder / modality)
    return folder


def experiment(data_dir, checkpoints, stores=None, modalities=("acoustic", "lexical"), **changes):
    tree = default.get_config()
    tree.corpus.update({"name": "mini_corpus", "data_dir": str(data_dir), "validation_split": "none"})
    tree.corpus.test_splits = ("test",)
    tree.data.update({"batch_size": 8, "bucket_seconds": (2.5,), "workers": 0, "max_tokens": MAX_TOKENS})
    tree.model.modalities = modalities
    for modality in ("acoustic", "lexical"):
        tree.model[modality].checkpoint = str(checkpoints[modality])
        tree.model[modality].store = str(stores / modality) if stores else ""
        tree.model[modality].layers = (1, -1)
        tree.model[modality].network.update({"gru_layers": 0, "conv_channels": 0, "embedding_size": 5})
    tree.model.fusion.size = 8
    tree.objective.emotion_weight = 0.2
    tree.training.update({"epochs": 2, "log_every_steps": 1, "patience": 0})
    tree.evaluation.bootstrap_resamples = 20
    for name, value in changes.items():
        tree.update_from_flattened_dict({name.replace("__", "."): value})
    return parse_experiment(tree.to_dict())


def losses(workdir):
    lines = [json.loads(line) for line in (workdir / "metrics.jsonl").read_text().splitlines()]
    return [line["train/loss"] for line in lines if "train/loss" in line]


@pytest.fixture(scope="module")
def online(mini_data_dir, checkpoints, tmp_path_factory):
    workdir = tmp_path_factory.mktemp("runs") / "online"
    train_workdir(experiment(mini_data_dir, checkpoints), workdir)
    return workdir


@pytest.fixture(scope="module")
def stored(mini_data_dir, checkpoints, stores, tmp_path_factory):
    workdir = tmp_path_factory.mktemp("runs") / "stored"
    train_workdir(experiment(mini_data_dir, checkpoints, stores), workdir)
    return workdir


def test_a_store_and_the_encoder_itself_give_the_same_losses(stored, online):
    np.testing.assert_allclose(losses(stored), losses(online), rtol=2e-4)


def test_a_workdir_predicts_alone_with_and_without_transcripts(mini_data_dir, checkpoints, stores, tmp_path):
    moved = {modality: shutil.copytree(folder, tmp_path / modality) for modality, folder in checkpoints.items()}
    config = experiment(mini_data_dir, moved, stores, model__keep_stored_encoders=True)
    train_workdir(config, tmp_path / "run")
    for folder in moved.values():
        shutil.rmtree(folder)
    summary = evaluate_workdir(tmp_path / "run")
    assert np.isfinite(summary["test"]["ccc"]["activation"]["value"])
    model = emojax.load(tmp_path / "run")
    clip = np.random.default_rng(0).normal(0, 0.1, 16_000).astype(np.float32)
    alone = model.predict(clip, rate=16_000)
    worded = model.predict(clip, rate=16_000, transcripts="a b c")
    pair = model.predict([(clip, 16_000), (clip, 16_000)], transcripts=["", "a b c"])
    assert alone.attributes["valence"] != pytest.approx(worded.attributes["valence"], abs=1e-7)
    for one, other in zip((alone, worded), pair, strict=True):
        assert one.attributes == pytest.approx(other.attributes, abs=1e-4)
    with pytest.raises(CorpusError, match="transcripts must be one per item, got 1 for 2 items"):
        model.predict([(clip, 16_000)] * 2, transcripts=["a"])


def test_evaluation_of_stored_and_computed_states_agrees(mini_data_dir, stored):
    mesh = make_mesh(MeshConfig(data=1, fsdp=1), jax.devices()[:1])
    without, online = (restore_model(stored, mesh, names) for names in (("acoustic", "lexical"), ()))
    assert "encoder" not in without.variables["params"].get("acoustic", {})
    assert "encoder" in online.variables["params"]["acoustic"]
    evaluate_workdir(stored, splits=("test",))
    table = (stored / "evaluation" / "test.csv").read_text().splitlines()
    model = emojax.load(stored)
    examples = list(open_split(open_corpus("mini_corpus", mini_data_dir), "test"))[:3]
    header = table[0].split(",")
    column = next(i for i, name in enumerate(header) if "valence" in name and "pred" in name)
    rows = {line.split(",")[0]: line.split(",") for line in table[1:]}
    for example in examples:
        clip = example["audio"].astype(np.float32) / 2**15
        found = model.predict(clip, rate=16_000, transcripts=example["transcript"].decode())
        assert found.attributes["valence"] == pytest.approx(float(rows[example["id"].decode()][column]), abs=2e-3)


def test_clips_without_a_frame_are_left_out_of_training_and_evaluation(
    mini_data_dir, checkpoints, tmp_path, monkeypatch, capsys
):
    monkeypatch.setattr(WaveformInputs, "min_samples", property(lambda _: 20_000, lambda *_: None), raising=False)
    lengths = [len(example["audio"]) for example in open_split(open_corpus("mini_corpus", mini_data_dir), "test")]
    config = experiment(mini_data_dir, checkpoints, modalities=("acoustic",), training__epochs=1)
    train_workdir(config, tmp_path / "run")
    output = capsys.readouterr().out
    assert "split 'train': " in output
    assert "utterances of fewer than 20000 samples" in output
    summary = evaluate_workdir(tmp_path / "run")
    assert summary["test"]["n"] == sum(length >= 20_000 for length in lengths) < len(lengths)
    assert f"{sum(length < 20_000 for length in lengths)} utterances of fewer" in capsys.readouterr().out


def trained_and_kept_encoder(workdir, scan_layers):
    """The fine-tuned parameters of a run's acoustic encoder, and those it began with."""
    mesh = make_mesh(MeshConfig(data=1, fsdp=1), jax.devices()[:1])
    tuned = restore_model(workdir, mesh).variables["params"]["acoustic"]["encoder"]
    options = emojax.encoders.ComputeOptions(scan_layers=scan_layers)
    return tuned, emojax.encoders.load_encoder(workdir / "encoders" / "acoustic", options).params


@pytest.mark.parametrize(
    "changes",
    [
        {"train": "all"},
        {"train": "all", "scan_layers": True, "remat": True},
        {"train": "top", "top_layers": 1},
    ],
)
def test_fine_tuning_moves_what_it_should(mini_data_dir, checkpoints, tmp_path, changes):
    named = {f"model__acoustic__{name}": value for name, value in changes.items()}
    more = {"optimizer__layer_decay": 0.9, "training__epochs": 1, "model__dtype": "bfloat16"}
    train_workdir(experiment(mini_data_dir, checkpoints, modalities=("acoustic",), **named, **more), tmp_path / "run")
    same = jax.tree.map(np.array_equal, *trained_and_kept_encoder(tmp_path / "run", changes.get("scan_layers", False)))
    assert all(jax.tree.leaves(same["feature_encoder"]))
    layers = same["transformer"].get("layers") or same["transformer"]["layer_1"]
    assert not layers["mlp_in"]["kernel"]
    if changes["train"] == "top":
        assert all(jax.tree.leaves(same["transformer"]["layer_0"]))


def test_fine_tuning_in_parts_resumes_bit_for_bit(mini_data_dir, checkpoints, tmp_path):
    changes = {
        "model__acoustic__train": "top",
        "model__acoustic__top_layers": 1,
        "data__batch_size": 16,
        "training__micro_batches": 2,
        "optimizer__ema_decay": 0.9,
        "objective__weighting": "learned",
    }
    config = experiment(mini_data_dir, checkpoints, modalities=("acoustic",), **changes)
    half = experiment(mini_data_dir, checkpoints, modalities=("acoustic",), **changes | {"training__epochs": 1})
    train_workdir(config, tmp_path / "whole")
    train_workdir(half, tmp_path / "half")
    # The schedule is constant, so that a run of one epoch is the first half of a run of two.
    shutil.copyfile(tmp_path / "whole" / "config.json", tmp_path / "half" / "config.json")
    train_workdir(config, tmp_path / "half")
    assert losses(tmp_path / "half") == losses(tmp_path / "whole")
    one, other = (trained_and_kept_encoder(tmp_path / name, False)[0] for name in ("half", "whole"))
    jax.tree.map(np.testing.assert_array_equal, one, other)


def test_a_store_of_another_kind_is_refused_before_training(mini_data_dir, checkpoints, stores, tmp_path):
    for changes, message in (
        ({"model__acoustic__layers": (1,)}, r"was made with layers \(1, 2\), not \(1,\)"),
        ({"data__max_tokens": 7}, "was made with max_tokens 6, not 7"),
    ):
        with pytest.raises(CheckpointError, match=message):
            train_workdir(experiment(mini_data_dir, checkpoints, stores, **changes), tmp_path / "run")
        shutil.rmtree(tmp_path / "run")
    other = {**checkpoints, "acoustic": tmp_path / "other"}
    model = speech_checkpoints.make_model(
        "Hubert", seed=3, **speech_checkpoints.LARGE, **speech_checkpoints.FRAMES_OF_20_MS
    )
    speech_checkpoints.write_checkpoint(tmp_path / "other", model, normalize=True)
    with pytest.raises(CheckpointError, match="was made with checkpoint"):
        train_workdir(experiment(mini_data_dir, other, stores), tmp_path / "run")


def test_a_store_of_a_corpus_whose_audio_was_replaced_is_refused(checkpoints, stores, online, tmp_path):
    mini_corpus.build(tmp_path, noise=True)
    with pytest.raises(CheckpointError) as caught:
        train_workdir(experiment(tmp_path, checkpoints, stores, modalities=("acoustic",)), tmp_path / "run")
    assert str(caught.value) == (
        f"{stores}/acoustic/train: was computed from other audio than the corpus has now; "
        f"delete {stores}/acoustic and run the command that wrote it again"
    )
    words = experiment(tmp_path, checkpoints, stores, modalities=("lexical",)).model
    inputs = batch_inputs(online, words, "mini_corpus/1.0.0", "train", MAX_TOKENS, ())
    assert inputs.for_split(read_index(open_corpus("mini_corpus", tmp_path), "train[50%:]"))  # words are as they were


@pytest.mark.parametrize(
    ("modality", "change", "message"),
    [
        ("acoustic", {"source": {"samples_per_frame": 640}}, "was made with samples_per_frame 640, not 320"),
        ("acoustic", {"source": {"samples_per_frame": 0}}, r"source\.samples_per_frame must be >= 1"),
        ("acoustic", {"source": {"pooling": "max"}}, r"source\.pooling must be 'none' or 'mean'"),
        ("acoustic", {"source": {"layers": [10**15]}}, r"source\.layers\[0\] must be >= 0 and <= 1000"),
        ("acoustic", {"shape": [2, 33]}, r"rows must have shape \(2, 32\) \(layers, features\), got \(2, 33\)"),
        ("acoustic", {"shape": [64]}, r"rows must have shape \(2, 32\)"),
        ("acoustic", {"name": "values"}, r"arrays must be 'states' alone, got \['values'\]"),
        ("lexical", {"source": {"max_tokens": None}}, "was made with max_tokens None, not 6"),
        ("lexical", {"source": {"checkpoint": 3}}, r"source\.checkpoint must be text"),
    ],
)
def test_a_store_that_declares_what_its_encoder_does_not_give_is_refused(
    mini_data_dir, checkpoints, stores, online, tmp_path, modality, change, message
):
    shutil.copytree(stores / modality, tmp_path / modality)
    tree = json.loads((tmp_path / modality / "store.json").read_text())
    del tree["sha256"]
    tree["source"] |= change.get("source", {})
    tree["arrays"][0] |= {key: value for key, value in change.items() if key != "source"}
    write_json(tmp_path / modality / "store.json", with_digest(tree))
    config = experiment(mini_data_dir, checkpoints, tmp_path, modalities=(modality,))
    with pytest.raises(CheckpointError, match=message):
        batch_inputs(online, config.model, "mini_corpus/1.0.0", "train", MAX_TOKENS, ())


def test_an_encoder_of_the_wrong_kind_and_uneven_parts_are_refused(mini_data_dir, checkpoints, tmp_path):
    swapped = {"acoustic": checkpoints["lexical"], "lexical": checkpoints["lexical"]}
    with pytest.raises(CheckpointError, match="must be a speech encoder, got a text encoder"):
        train_workdir(experiment(mini_data_dir, swapped, modalities=("acoustic",)), tmp_path / "swapped")
    with pytest.raises(ConfigError, match=r"micro_batches times .* must divide data.batch_size \(\d+\), got 3"):
        train_workdir(experiment(mini_data_dir, checkpoints, training__micro_batches=3), tmp_path / "uneven")
