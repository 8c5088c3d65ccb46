"""Sharding of parameters by axis names, and equality of runs on all meshes."""

import csv
import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from configs import default
from emojax.config import parse_experiment
from emojax.encoders import axes_by_path, load_encoder
from emojax.errors import ConfigError
from emojax.parallel import MeshConfig, batch_sharding, host_rows, leaf_sharding, make_mesh, state_sharding
from emojax.reporting import evaluate_workdir
from emojax.training import train_workdir
from tests import speech_checkpoints, text_checkpoints


def shape(*lengths):
    return jax.ShapeDtypeStruct(lengths, jnp.float32)


@pytest.mark.parametrize(
    ("sizes", "leaf", "names", "expected"),
    [
        ((2, 2, 2), shape(8, 12), ("embed", "heads"), ("fsdp", "tensor")),
        ((2, 2, 2), shape(12, 8), ("mlp", "embed"), ("tensor", "fsdp")),
        ((2, 2, 2), shape(3, 8, 12), ("layers", "embed", "mlp"), (None, "fsdp", "tensor")),
        ((1, 1, 8), shape(8, 12), ("embed", "heads"), ()),  # 12 heads' features do not divide by 8
        ((1, 8, 1), shape(12, 16), ("embed", "mlp"), (None, "fsdp")),  # nor do 12 of the width; the next axis does
        ((1, 8, 1), shape(16, 24), None, (None, "fsdp")),  # without names, the largest axis
        (
            (1, 4, 2),
            shape(
                7,
            ),
            ("embed",),
            (),
        ),
        ((8, 1, 1), shape(8, 8), ("embed", "mlp"), ()),
        ((1, 8, 1), shape(), None, ()),
    ],
)
def test_named_axes_are_sharded_if_they_divide_evenly(sizes, leaf, names, expected):
    assert leaf_sharding(leaf, make_mesh(MeshConfig(*sizes)), names).spec == jax.P(*expected)


def test_optimizer_state_is_sharded_like_parameters(checkpoints):
    import optax

    encoder = load_encoder(checkpoints["acoustic"])
    params = {"model": {"acoustic": {"encoder": encoder.params}, "other": jnp.ones((4, 6))}}
    mesh = make_mesh(MeshConfig(2, 2, 2))
    axes = axes_by_path({"acoustic/encoder": encoder.family.axes})
    layout = state_sharding(params, mesh, axes)
    adam = state_sharding(jax.eval_shape(optax.adamw(1e-3).init, params), mesh, axes)[0]
    assert adam.mu == layout
    assert adam.nu == layout
    attention = layout["model"]["acoustic"]["encoder"]["transformer"]["layer_0"]["attention"]
    assert attention["query"]["kernel"].spec == jax.P("fsdp", "tensor")
    assert attention["output"]["kernel"].spec == jax.P("tensor", "fsdp")


def test_single_process_loads_all_rows():
    np.testing.assert_array_equal(host_rows(make_mesh(MeshConfig(2, 2, 2)), 8), np.arange(8))
    with pytest.raises(ConfigError, match=r"data.batch_size must be a multiple of the 4 batch shards, got 6"):
        host_rows(make_mesh(MeshConfig(2, 2, 2)), 6)


@pytest.mark.parametrize(
    ("sizes", "message"),
    [
        ((-1, 1, -1), "since only one axis can be -1"),
        ((3, 1, 1), "dcn x data x fsdp x tensor must be the 8 devices, got 1 x 3 x 1 x 1"),
        ((-1, 1, 0), "mesh.tensor must"),
    ],
)
def test_invalid_mesh_raises(sizes, message):
    with pytest.raises(ConfigError, match=message):
        make_mesh(MeshConfig(*sizes))


class HostDevice:
    """A device by number, of a host and a slice."""

    def __init__(self, number, process_index, slice_index):
        self.id, self.process_index, self.slice_index = number, process_index, slice_index
        self.platform = self.device_kind = "cpu"


@pytest.mark.parametrize(("hosts", "slices"), [(4, 1), (4, 2)])
def test_slices_or_hosts_are_neighbours_along_dcn_only(hosts, slices):
    from emojax.parallel.mesh import _groups

    devices = [HostDevice(number, number % hosts, number % slices) for number in range(8)]
    groups = _groups(devices, 2)
    unit = "slice_index" if slices > 1 else "process_index"
    assert [len(group) for group in groups] == [4, 4]
    assert not {getattr(each, unit) for each in groups[0]} & {getattr(each, unit) for each in groups[1]}
    with pytest.raises(ConfigError, match=r"mesh\.dcn must divide the (2|4) slices or hosts, got 8"):
        _groups(devices, 8)


def test_batches_are_sharded_over_groups_of_devices_and_parameters_within_them():
    mesh = make_mesh(MeshConfig(2, 2, 1, 2))
    assert dict(mesh.shape) == {"dcn": 2, "data": 2, "fsdp": 2, "tensor": 1}
    assert batch_sharding(mesh).shard_shape((16, 3)) == (2, 3)
    assert leaf_sharding(shape(8, 12), mesh, ("embed", "mlp")).spec == jax.P("fsdp", None)


# Whole runs.


@pytest.fixture(scope="module")
def shallow(tmp_path_factory):
    """As `checkpoints`, with one layer, which is sharded as all are."""
    hubert, bert = tmp_path_factory.mktemp("hubert"), tmp_path_factory.mktemp("bert")
    settings = speech_checkpoints.LARGE | speech_checkpoints.FRAMES_OF_20_MS
    model = speech_checkpoints.make_model("Hubert", num_hidden_layers=1, **settings)
    speech_checkpoints.write_checkpoint(hubert, model, normalize=True)
    text_checkpoints.write_checkpoint(bert, text_checkpoints.make_model("BertModel", num_hidden_layers=1))
    return {"acoustic": hubert, "lexical": bert}


def small(data_dir, checkpoints, layout, **changes):
    tree = default.get_config()
    tree.corpus.update({"name": "mini_corpus", "data_dir": str(data_dir), "validation_split": "none"})
    tree.corpus.test_splits = ("test",)
    tree.data.update({"batch_size": 8, "bucket_seconds": (2.5,), "workers": 0, "max_tokens": 6})
    for modality in ("acoustic", "lexical"):
        tree.model[modality].checkpoint = str(checkpoints[modality])
        tree.model[modality].network.update({"gru_layers": 0, "conv_channels": 0, "embedding_size": 8})
    tree.model.log_mel.network.update({"gru_layers": 1, "gru_size": 8, "conv_channels": 0, "embedding_size": 8})
    tree.model.fusion.size = 8
    tree.objective.emotion_weight = 0.2
    tree.training.update({"epochs": 1, "log_every_steps": 1})
    tree.evaluation.bootstrap_resamples = 10
    tree.mesh.data, tree.mesh.fsdp, tree.mesh.tensor = layout
    tree.update_from_flattened_dict({name.replace("__", "."): value for name, value in changes.items()})
    return parse_experiment(tree.to_dict())


FINE_TUNING = {
    "model__modalities": ("acoustic",),
    "model__acoustic__train": "all",
    "optimizer__encoder_learning_rate": 1e-4,
}
FUSION = {"model__modalities": ("log_mel", "acoustic", "lexical")}
STUDENT = {
    "distillation__attribute_weight": 1.0,
    "distillation__embedding_weight": 0.5,
    "distillation__condition": "soft",  # the others cut at a threshold, where rounding can tip an utterance
}


def outcome(config, workdir):
    """Losses of every step, and the predictions of the test split, whose last batch is not full."""
    train_workdir(config, workdir)
    evaluate_workdir(workdir)
    lines = [json.loads(line) for line in (workdir / "metrics.jsonl").read_text().splitlines()]
    with (workdir / "evaluation" / "test.csv").open() as file:
        rows = [[float(row[f"predicted_{name}"]) for name in ATTRIBUTES] for row in csv.DictReader(file)]
    return np.array([line["train/loss"] for line in lines if "train/loss" in line]), np.array(rows)


ATTRIBUTES = ("activation", "valence", "dominance")


def assert_same(found, expected):
    np.testing.assert_allclose(found[0], expected[0], rtol=5e-4)
    np.testing.assert_allclose(found[1], expected[1], atol=5e-3)


def alone(config, workdir, monkeypatch):
    """The same run on one device."""
    devices = jax.devices()[:1]
    with monkeypatch.context() as patch:
        patch.setattr(jax, "devices", lambda: devices)
        return outcome(config, workdir)


@pytest.mark.slow
def test_fine_tuning_is_equal_on_every_mesh(mini_data_dir, shallow, tmp_path, monkeypatch):
    expected = alone(small(mini_data_dir, shallow, (1, 1, 1), **FINE_TUNING), tmp_path / "alone", monkeypatch)
    for layout in ((1, 8, 1), (2, 2, 2)):
        config = small(mini_data_dir, shallow, layout, **FINE_TUNING)
        assert_same(outcome(config, tmp_path / "_".join(map(str, layout))), expected)


@pytest.mark.slow
def test_fusion_and_distillation_are_equal_on_every_mesh(mini_data_dir, shallow, tmp_path, monkeypatch):
    fusion = alone(small(mini_data_dir, shallow, (1, 1, 1), **FUSION), tmp_path / "fusion", monkeypatch)
    assert_same(outcome(small(mini_data_dir, shallow, (8, 1, 1), **FUSION), tmp_path / "divided"), fusion)
    taught = {**STUDENT, "teacher__workdir": str(tmp_path / "fusion")}
    student = alone(small(mini_data_dir, shallow, (1, 1, 1), **taught), tmp_path / "student", monkeypatch)
    assert_same(outcome(small(mini_data_dir, shallow, (4, 1, 2), **taught), tmp_path / "divided_student"), student)


@pytest.mark.parametrize(("layout", "tensor"), [((1, 8, 1), False), ((2, 2, 2), True)])
def test_fsdp_gathers_parameters_and_not_activations(mini_data_dir, checkpoints, layout, tensor):
    from emojax.planning.abstract import abstract_run
    from emojax.planning.hlo import collectives, parse_program

    changes = FINE_TUNING | {"data__batch_size": 64, "corpus__test_splits": ()}
    mesh = make_mesh(MeshConfig(*layout))
    run = abstract_run(small(mini_data_dir, checkpoints, layout, **changes), mesh, seconds=4.0)
    program = parse_program(run.jitted.lower(*run.arguments).compile().as_text())
    found = collectives(program, dict(mesh.shape))
    parameters = sum(leaf.size * 4 for leaf in jax.tree.leaves((run.state.params, run.state.frozen)))
    moved = {axes: sum(each.bytes for each in found if axes in each.axes) for axes in ("fsdp", "tensor")}
    # Gathered for the forward and the backward pass at most, reduced once.
    assert moved["fsdp"] < 3 * parameters
    assert (moved["tensor"] > 0) is tensor


@pytest.mark.parametrize("axis", ["data", "fsdp"])
def test_a_step_reduces_every_gradient_once_and_has_no_other_collective(mini_data_dir, axis):
    from emojax.planning.abstract import abstract_run
    from emojax.planning.hlo import Collective, collectives, parse_program, unexpected_collectives

    tree = default.get_config()
    tree.corpus.update({"name": "mini_corpus", "data_dir": str(mini_data_dir)})
    tree.data.update({"batch_size": 8, "bucket_seconds": (0.5,)})
    tree.model.log_mel.network.update({"gru_layers": 1, "gru_size": 8, "conv_channels": 8, "embedding_size": 8})
    mesh = make_mesh(MeshConfig(**{"data": 1, axis: 4}), jax.devices()[:4])
    run = abstract_run(parse_experiment(tree.to_dict()), mesh, seconds=0.5)
    program = parse_program(run.jitted.lower(*run.arguments).compile().as_text())
    found = collectives(program, dict(mesh.shape))
    size = sum(leaf.size * leaf.dtype.itemsize for leaf in jax.tree.leaves(run.state.trained))
    assert unexpected_collectives(found, axis, size) == []
    batch = Collective("all-gather", axis, 4, 1, 8 * 8_000 * 2)
    assert unexpected_collectives([*found, batch], axis, size)
    exchanged = [Collective("all-to-all", axis, 4, 1, size) for size in (256, 8 * 8_000 * 2)]
    assert bool(unexpected_collectives([*found, exchanged[0]], axis, size)) is (axis == "data")
    assert unexpected_collectives([*found, exchanged[1]], axis, size)
    assert "are not all reduced" in unexpected_collectives([], axis, size)[0]
    assert "over tensor" in unexpected_collectives([*found, Collective("all-reduce", "tensor", 4, 1, 4)], axis, size)[0]
