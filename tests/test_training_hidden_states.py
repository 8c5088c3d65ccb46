"""Students cut from an encoder, and distillation of its hidden states: from a store, or a teacher in the step."""

import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import emojax
from configs import default
from emojax.config import parse_experiment
from emojax.encoders import ComputeOptions, load_encoder
from emojax.errors import CheckpointError, ConfigError
from emojax.extraction import extract_store, parse_extraction
from emojax.losses import hidden_state_heads, hidden_state_loss
from emojax.training import train_workdir
from emojax.types import FrameStates
from emojax.workdir.restore import quantise_workdir
from tests.untrained_workdirs import write_untrained

pytestmark = pytest.mark.usefixtures("one_device_in_module", "one_shape_in_module")


@pytest.mark.parametrize("scan_layers", [False, True])
@pytest.mark.parametrize("modality", ["acoustic", "lexical"])
def test_an_encoder_is_cut_to_its_first_layers(checkpoints, modality, scan_layers):
    options = ComputeOptions(scan_layers=scan_layers)
    whole, cut = load_encoder(checkpoints[modality]), load_encoder(checkpoints[modality], options, keep_layers=1)
    assert (whole.num_layers, cut.num_layers) == (2, 1)
    item = "a b c" if modality == "lexical" else np.random.default_rng(0).normal(0, 0.1, 8000).astype(np.float32)
    expected, found = (encoder.encode(item, hidden_states=True) for encoder in (whole, cut))
    np.testing.assert_allclose(found, expected[:2], atol=1e-5)


def test_an_encoder_has_the_layers_that_are_kept(checkpoints):
    with pytest.raises(CheckpointError, match="keep_layers must be <= 2, got 3"):
        load_encoder(checkpoints["acoustic"], keep_layers=3)


def frame_states(random, rows, frames, layers, size, lengths):
    weights = np.arange(frames) < np.array(lengths)[:, None]
    values = random.normal(size=(rows, frames, layers, size)).astype(np.float32)
    return FrameStates(jnp.asarray(values), jnp.asarray(weights, jnp.float32))


def test_the_loss_is_that_of_distilhubert_over_frames_that_both_have():
    random = np.random.default_rng(0)
    student, teacher = frame_states(random, 3, 6, 1, 4, [6, 3, 5]), frame_states(random, 3, 5, 2, 7, [5, 4, 5])
    heads = hidden_state_heads(jax.random.key(0), 2, 4, 7)["hidden_states"]
    heads["bias"] = jnp.asarray(random.normal(size=(2, 7)), jnp.float32)
    loss = jax.jit(hidden_state_loss)
    found = loss(student, teacher, jnp.array([1.0, 1.0, 0.0]), heads)
    terms = []
    for row, length in ((0, 5), (1, 3)):
        for frame in range(length):
            for layer in range(2):
                predicted = student.values[row, frame, 0] @ heads["kernel"][layer] + heads["bias"][layer]
                target = teacher.values[row, frame, layer]
                cosine = predicted @ target / np.linalg.norm(predicted) / np.linalg.norm(target)
                terms.append(np.abs(predicted - target).mean() - np.log(1 / (1 + np.exp(-cosine))))
    np.testing.assert_allclose(found, np.mean(terms), rtol=1e-5)
    dirty = student.replace(values=student.values.at[1, 3:].set(jnp.nan).at[2].set(jnp.inf))
    np.testing.assert_allclose(loss(dirty, teacher, jnp.array([1.0, 1.0, 0.0]), heads), found, rtol=1e-6)


def test_without_a_valid_frame_loss_and_gradient_are_zero():
    student = FrameStates(jnp.zeros((2, 3, 1, 4)), jnp.zeros((2, 3)))
    teacher = FrameStates(jnp.zeros((2, 3, 1, 5)), jnp.zeros((2, 3)))
    heads = hidden_state_heads(jax.random.key(0), 1, 4, 5)["hidden_states"]
    value, gradient = jax.jit(jax.value_and_grad(hidden_state_loss, argnums=3))(student, teacher, jnp.ones(2), heads)
    assert value == 0
    assert not any(leaf.any() for leaf in jax.tree.leaves(gradient))


def tree_of(data_dir, checkpoints, modalities=("acoustic",)):
    tree = default.get_config()
    tree.corpus.update({"name": "mini_corpus", "data_dir": str(data_dir), "validation_split": "none"})
    tree.data.update({"batch_size": 8, "bucket_seconds": (2.5,), "workers": 0, "max_tokens": 6})
    tree.model.modalities = modalities
    for modality in ("acoustic", "lexical"):
        tree.model[modality].checkpoint = str(checkpoints[modality])
        tree.model[modality].network.update({"gru_layers": 0, "conv_channels": 0, "embedding_size": 5})
        tree.model[modality].network.pooling = "statistics"
    tree.model.fusion.size = 8
    tree.training.update({"epochs": 1, "log_every_steps": 1, "patience": 0})
    tree.evaluation.bootstrap_resamples = 10
    return tree


def student(data_dir, checkpoints, **teacher):
    tree = tree_of(data_dir, checkpoints)
    tree.model.acoustic.update({"keep_layers": 1, "train": "all", "train_convolutions": True})
    tree.distillation.update({"hidden_weight": 1.0, "hidden_layers": (1, 2)})
    tree.teacher.update(teacher)
    tree.training.micro_batches = 2
    return tree


def scalars(workdir, name):
    lines = [json.loads(line) for line in (workdir / "metrics.jsonl").read_text().splitlines()]
    return [line[f"train/{name}"] for line in lines if f"train/{name}" in line]


@pytest.fixture(scope="module")
def store(mini_data_dir, checkpoints, tmp_path_factory):
    folder = tmp_path_factory.mktemp("stores") / "states"
    tree = {
        "corpus": {"name": "mini_corpus", "data_dir": str(mini_data_dir), "splits": ("train",)},
        "encoder": {
            "checkpoint": str(checkpoints["acoustic"]),
            "revision": "",
            "dtype": "float32",
            "max_tokens": 6,
            "batch_seconds": 16.0,
            "batch_tokens": 256,
            "transcripts": "",
            "padded": False,
        },
        "states": {"layers": (0, 1, 2), "combine": "stack", "pooling": "none", "dtype": "float32"},
    }
    extract_store(parse_extraction(tree), folder)
    return folder


@pytest.fixture(scope="module")
def from_store(mini_data_dir, checkpoints, store, tmp_path_factory):
    workdir = tmp_path_factory.mktemp("runs") / "student"
    train_workdir(parse_experiment(student(mini_data_dir, checkpoints, states=str(store)).to_dict()), workdir)
    return workdir


def test_a_fusion_teacher_in_the_step_gives_the_losses_of_its_encoders_store(
    mini_data_dir, checkpoints, from_store, tmp_path
):
    teacher = tree_of(mini_data_dir, checkpoints, ("acoustic", "lexical"))
    write_untrained(parse_experiment(teacher.to_dict()), tmp_path / "teacher")
    tree = student(mini_data_dir, checkpoints, workdir=str(tmp_path / "teacher"))
    tree.distillation.update({"attribute_weight": 1e-9, "embedding_weight": 1e-9})
    train_workdir(parse_experiment(tree.to_dict()), tmp_path / "run")
    found, expected = (scalars(folder, "teacher/hidden_states") for folder in (tmp_path / "run", from_store))
    np.testing.assert_allclose(found, expected, rtol=1e-3)
    assert min(scalars(tmp_path / "run", "teacher/embedding")) > 0


def test_the_workdir_holds_the_cut_encoder_and_is_quantised_with_it(from_store, checkpoints, tmp_path):
    kept = load_encoder(from_store / "encoders" / "acoustic")
    assert kept.num_layers == 1
    size = (from_store / "encoders" / "acoustic" / "model.safetensors").stat().st_size
    assert size < 0.9 * (checkpoints["acoustic"] / "model.safetensors").stat().st_size
    path = quantise_workdir(from_store, tmp_path / "small")
    assert path.stat().st_size < 0.4 * size
    assert not (tmp_path / "small" / "encoders" / "acoustic" / "model.safetensors").exists()
    clip = np.random.default_rng(0).normal(0, 0.1, 16_000).astype(np.float32)
    folders = (from_store, tmp_path / "small")
    expected, found = (emojax.load(folder).predict(clip, 16_000).attributes for folder in folders)
    assert found == pytest.approx(expected, abs=0.1)
    assert found != expected


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"distillation.hidden_layers": ()}, "hidden_layers must name layers"),
        ({"teacher.states": ""}, "teacher.workdir or teacher.states must be given"),
        ({"model.acoustic.train": "nothing"}, "hidden_weight must be 0 without an acoustic encoder that is trained"),
        ({"augment.speed.probability": 0.5}, "augment.speed.probability must be 0"),
        ({"distillation.attribute_weight": 1.0}, "teacher.workdir or teacher.cache must be given"),
    ],
)
def test_settings_that_do_not_fit_are_named(mini_data_dir, checkpoints, changes, message):
    tree = student(mini_data_dir, checkpoints, states="store")
    tree.update_from_flattened_dict(changes)
    with pytest.raises(ConfigError, match=message):
        parse_experiment(tree.to_dict())


def test_a_store_without_the_layer_is_named(mini_data_dir, checkpoints, store, tmp_path):
    tree = student(mini_data_dir, checkpoints, states=str(store))
    tree.distillation.hidden_layers = (3,)
    with pytest.raises(CheckpointError, match=r"hidden_layers must be layers of .*, got 3"):
        train_workdir(parse_experiment(tree.to_dict()), tmp_path / "run")
