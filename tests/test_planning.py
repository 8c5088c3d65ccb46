"""Plans: operations counted like by hand, exchanges read off compiled programs, real TPU programs where libtpu is."""

import dataclasses
import importlib.util
import json
import os
import subprocess
import sys

import jax
import jax.numpy as jnp
import pytest
from jax.sharding import NamedSharding

from configs import default, finetune_hubert
from emojax.config import parse_experiment
from emojax.data import AUDIO
from emojax.errors import ConfigError, EmojaxError
from emojax.parallel import MeshConfig, make_mesh
from emojax.planning.abstract import abstract_run
from emojax.planning.chips import CHIPS, count_flops, find_chip
from emojax.planning.hlo import Collective, array_bytes, collectives, parse_program
from emojax.planning.loops import Loop, find_loops
from emojax.planning.run import run_length
from emojax.planning.search import search
from emojax.planning.step import predict
from emojax.planning.traffic import memory_traffic, traffic
from emojax.training import make_optimizer
from emojax.training.data import open_data, training_stream
from emojax.training.experiment import build_experiment
from tests.test_launch import ROOT
from tests.test_workdir_integrity import make_workdir


def flops(function, *shapes):
    return count_flops(jax.make_jaxpr(function)(*[jax.ShapeDtypeStruct(shape, jnp.float32) for shape in shapes]))


def test_products_and_convolutions_count_two_operations_per_multiplication():
    assert flops(lambda a, b: jnp.tanh(a @ b), (3, 4), (4, 5)) == 2 * 3 * 4 * 5
    assert flops(lambda a, b: jnp.einsum("bij,bjk->bik", a, b), (7, 3, 4), (7, 4, 5)) == 7 * 2 * 3 * 4 * 5

    def convolve(x, kernel, groups=1):
        return jax.lax.conv_general_dilated(
            x, kernel, (2,), "VALID", dimension_numbers=("NWC", "WIO", "NWC"), feature_group_count=groups
        )

    assert flops(convolve, (2, 11, 6), (3, 6, 8)) == 2 * (2 * 5 * 8) * (3 * 6)
    assert flops(lambda x, k: convolve(x, k, 2), (2, 11, 6), (3, 3, 8)) == 2 * (2 * 5 * 8) * (3 * 3)


def test_loops_count_as_often_as_they_run_and_recomputation_counts():
    def layers(x, weights):
        return jax.lax.scan(lambda x, w: (jnp.tanh(x @ w), None), x, weights)[0].sum()

    forward = 6 * 2 * 8 * 4 * 4
    assert flops(layers, (8, 4), (6, 4, 4)) == forward
    assert flops(jax.grad(layers, argnums=(0, 1)), (8, 4), (6, 4, 4)) == 3 * forward
    assert flops(lambda x, w: jax.lax.cond(x[0, 0] > 0, lambda: x @ w, lambda: x @ w @ w), (4, 4), (4, 4)) == 4 * 4**3

    def again(x, w):
        return jnp.tanh(jax.checkpoint(lambda x: jnp.tanh(x @ w) @ w)(x)).sum()

    assert flops(jax.grad(again), (4, 4), (4, 4)) == 2 * 4**3 * (
        2 + 1 + 2
    )  # forward, the first product again, backward


def test_a_mapped_function_counts_for_every_device():
    def local(a, b):
        return a @ b

    mesh = make_mesh(MeshConfig(2, 4, 1))
    for axes, devices in ((("data", "fsdp"), 8), (("data",), 2)):
        mapped = jax.shard_map(
            local, mesh=mesh, in_specs=(jax.P(axes), jax.P()), out_specs=jax.P(axes), axis_names=set(axes)
        )
        assert flops(jax.jit(mapped), (devices * 3, 4), (4, 5)) == devices * 2 * 3 * 4 * 5


def test_exchanges_of_a_compiled_program_are_reported_by_kind_and_axis():
    mesh = make_mesh(MeshConfig(2, 4, 1))
    weights = NamedSharding(mesh, jax.P(None, "fsdp", None))
    rows = NamedSharding(mesh, jax.P(("data", "fsdp")))

    def loss(weights, x):
        return (jax.lax.scan(lambda x, w: (jnp.tanh(x @ w), None), x, weights)[0] ** 2).sum()

    arguments = (
        jax.ShapeDtypeStruct((5, 64, 64), jnp.float32, sharding=weights),
        jax.ShapeDtypeStruct((16, 64), jnp.float32, sharding=rows),
    )
    compiled = jax.jit(jax.grad(loss), out_shardings=weights).lower(*arguments).compile()
    program = parse_program(compiled.as_text())
    found = {(each.kind, each.axes): each for each in collectives(program, dict(mesh.shape))}
    assert all(axes in {"data", "fsdp", "data+fsdp"} for _, axes in found)
    reduced = [each for (kind, _), each in found.items() if kind in ("all-reduce", "reduce-scatter")]
    assert sum(each.bytes for each in reduced) >= 5 * 64 * 64 * 4  # every weight's gradient
    assert max(each.count for each in found.values()) >= 5  # the loop's trips
    gathered = [each for (kind, axes), each in found.items() if (kind, axes) == ("all-gather", "fsdp")]
    assert gathered
    assert gathered[0].group_size == 4
    assert memory_traffic(program) > 5 * 64 * 64 * 4


def test_traffic_of_a_loop_is_reported_by_operation_and_line():
    size, steps = 512, 7

    def run(x, weights):
        return jax.lax.fori_loop(0, steps, lambda _, x: x @ weights, x)

    shape = jax.ShapeDtypeStruct((size, size), jnp.float32)
    program = parse_program(jax.jit(run).lower(shape, shape).compile().as_text())
    largest = traffic(program)[0]
    # Both factors are read and the product is written, in every iteration.
    assert largest.bytes == steps * 3 * size * size * 4
    assert (largest.count, largest.array) == (steps, "f32[512,512]")
    assert "dot_general" in largest.operation
    assert largest.source.startswith("test_planning.py:")
    assert memory_traffic(program) == sum(row.bytes for row in traffic(program))
    # The compiler may copy the product once per iteration, and no more.
    assert memory_traffic(program) < 2 * largest.bytes


SLICES = """HloModule m

%inner (a: f32[6,8,8], i: s32[]) -> f32[1,8,8] {
  %a = f32[6,8,8]{2,1,0} parameter(0)
  %i = s32[] parameter(1)
  ROOT %s = f32[1,8,8]{2,1,0} dynamic-slice(%a, %i), dynamic_slice_sizes={1,8,8}
}

%outer (b: f32[6,8,8], c: f32[6,8,8], j: s32[]) -> (f32[6,8,8], f32[8,8]) {
  %b = f32[6,8,8]{2,1,0} parameter(0)
  %c = f32[6,8,8]{2,1,0} parameter(1)
  %j = s32[] parameter(2)
  %v = f32[6,8,8]{2,1,0} bitcast(%b)
  %f = f32[1,8,8]{2,1,0} fusion(%v, %j), kind=kLoop, calls=%inner
  %u = f32[6,8,8]{2,1,0} dynamic-update-slice(%c, %f, %j)
  %r = f32[8,8]{1,0} bitcast(%f)
  ROOT %t = (f32[6,8,8]{2,1,0}, f32[8,8]{1,0}) tuple(%u, %r)
}

ENTRY %main (x: f32[6,8,8], y: f32[6,8,8], k: s32[]) -> f32[8,8] {
  %x = f32[6,8,8]{2,1,0} parameter(0)
  %y = f32[6,8,8]{2,1,0} parameter(1)
  %k = s32[]{:S(2)} parameter(2)
  %w = (f32[6,8,8]{2,1,0}, f32[8,8]{1,0:S(1)}) fusion(%x, %y, %k), kind=kLoop, calls=%outer
  %g = f32[6,8,8]{2,1,0} get-tuple-element(%w), index=0
  %p = ((f32[6,8,8]{2,1,0}), f32[2,8,8]{2,1,0:S(1)}, s32[]{:S(2)}) slice-start(%g), slice={[0:2], [0:8], [0:8]}
  %q = f32[2,8,8]{2,1,0:S(1)} slice-done(%p)
  %d = (f32[6,8,8]{2,1,0:S(1)}, f32[6,8,8]{2,1,0}, u32[]{:S(2)}) copy-start(%g)
  ROOT %e = f32[6,8,8]{2,1,0:S(1)} copy-done(%d)
}
"""


def test_slices_within_fusions_and_asynchronous_copies_count_what_passes_through_memory():
    found = {row.operation: row.bytes for row in traffic(parse_program(SLICES))}
    one = 8 * 8 * 4
    assert found == {
        "compiler: fusion": 2 * one,  # reads a slice, updates another in place; the second result stays on the chip
        "compiler: slice-start": 2 * one,
        "compiler: copy-start": 6 * one,
    }


LOOP = """HloModule m

%body (p: (s32[], f32[4,8])) -> (s32[], f32[4,8]) {
  %p = (s32[], f32[4,8]) parameter(0)
  %i = s32[] get-tuple-element(%p), index=0
  %x = f32[4,8]{1,0} get-tuple-element(%p), index=1
  %a = f32[4,8]{1,0} tanh(%x), backend_config={"window_config":{"estimated_cycles":"1900"}}
  %b = f32[4,8]{1,0} sine(%a), backend_config={"window_config":{"estimated_cycles":"CYCLES"}}
  ROOT %t = (s32[], f32[4,8]) tuple(%i, %b)
}

%condition (q: (s32[], f32[4,8])) -> pred[] {
  %q = (s32[], f32[4,8]) parameter(0)
  %j = s32[] get-tuple-element(%q), index=0
  %n = s32[] BOUND
  ROOT %less = pred[] compare(%j, %n), direction=LT
}

ENTRY %main (x: (s32[], f32[4,8])) -> (s32[], f32[4,8]) {
  %x = (s32[], f32[4,8]) parameter(0)
  ROOT %w = (s32[], f32[4,8]) while(%x), condition=%condition, body=%body, metadata={op_name="jit(f)/jvp(M)/gru/while"}
}
"""


def loop_of(cycles, bound="constant(1200)", empty_cycles=1818):
    (loop,) = find_loops(parse_program(LOOP.replace("CYCLES", cycles).replace("BOUND", bound)), empty_cycles)
    return loop


def test_sequential_iterations_take_the_latency_of_their_operations():
    recurrent = loop_of("1820")
    assert (recurrent.name, recurrent.iterations, recurrent.cycles) == ("jvp(M).gru", 1200, 2 * 1818)
    assert recurrent.waiting_cycles == 1200 * 2 * 1818
    assert loop_of("50000").waiting_cycles == 0  # it computes most of the time
    endless = loop_of("1820", "get-tuple-element(%q), index=0")
    assert (endless.iterations, endless.waiting_cycles) == (None, None)
    assert loop_of("1820", empty_cycles=None).waiting_cycles is None


def planned(flops=197e12, traffic_bytes=0):
    return {
        "chips": 1,
        "batch_size": 8,
        "flops_per_step": flops,
        "useful_flops_per_step": flops / 2,
        "memory_traffic_bytes_per_chip": traffic_bytes,
        "compiler_cycles": None,
    }


def test_time_of_recurrent_loops_is_added_and_unknown_latency_is_said():
    chip = CHIPS["v5e"]
    loop = Loop("gru", 1_000_000, 1500, 2000)
    found = predict(planned(), chip, [], [loop])
    assert found["seconds"] == {"compute": 1.0, "memory": 0.0, "interconnect": 0.0, "sequential": 1.0, "step": 2.0}
    assert (found["mfu"], found["examples_per_second"]) == (0.25, 4.0)
    between = Collective("all-reduce", "dcn", 2, 1, 100)
    assert predict(planned(), chip, [between], [])["mfu"] is None
    for loops, kind in (([Loop("gru", None, 1500, 2000)], chip), ([loop], CHIPS["v6e"])):
        unknown = predict(planned(), kind, [], loops)
        assert (unknown["bound_by"], unknown["mfu"], unknown["examples_per_second"]) == ("unknown", None, None)
        assert unknown["mfu_at_most"] > 0
        assert (
            run_length(parse_experiment(default.get_config().to_dict()), planned() | {"predicted": unknown}, 1.0)[
                "hours"
            ]
            is None
        )


def test_search_takes_the_fastest_step_that_fits():
    tree = finetune_hubert.get_config()
    tree.training.micro_batches = 4
    tried = []

    def evaluate(config):
        """Sharding saves memory and a fixed time; recomputation saves memory per row and takes time per row."""
        rows, fsdp, acoustic = config.data.batch_size // 16, config.mesh.fsdp, config.model.acoustic
        kind = acoustic.remat_saves if acoustic.remat else "off"
        per_row, each = {"off": (4, 1.0), "products": (1, 1.05), "attention": (0.5, 1.3), "nothing": (0.4, 1.4)}[kind]
        peak = 4 / fsdp + rows * per_row
        tried.append((fsdp, kind, rows))
        step = 4 / fsdp + rows * each
        predicted = {"seconds": {"step": step}, "mfu_at_most": 0.5}
        plan = {"fits": peak <= 16, "peak_bytes_per_chip": round(peak * 2**30), "batch_size": config.data.batch_size}
        return plan | ({"predicted": predicted} if peak <= 16 else {})

    best, trials = search(parse_experiment(tree.to_dict()), 16, evaluate)
    assert (best.fsdp, best.remat, best.rows) == (8, "products", 8)
    assert best.config.training.micro_batches == 1
    assert best.flags == (
        "--config.data.batch_size=128 --config.mesh.data=2 --config.mesh.fsdp=8 "
        "--config.model.acoustic.remat=True --config.model.acoustic.remat_saves=products"
    )
    assert tried == [(trial.fsdp, trial.remat, trial.rows) for trial in trials]
    assert {trial.remat for trial in trials if trial.fsdp == 8} == {"products"}
    assert (1, "off", 2) in tried  # four rows do not fit, and fewer are tried

    def nothing_fits(config):
        return {"fits": False, "peak_bytes_per_chip": 20 * 2**30}

    with pytest.raises(EmojaxError, match=r"nothing fits on 16 chips; the least needs 20\.0 GiB"):
        search(parse_experiment(tree.to_dict()), 16, nothing_fits)


def test_a_run_takes_its_epochs_of_the_corpus():
    tree = default.get_config()
    tree.data.batch_size, tree.training.epochs = 8, 3
    plan = planned() | {"predicted": {"examples_per_second": 4.0}, "chips": 16}
    found = run_length(parse_experiment(tree.to_dict()), plan, corpus_hours=565.0)
    assert (found["utterances"], found["steps"]) == (360_000, 135_000)
    assert found["hours"] == pytest.approx(3 * 360_000 / 4 / 3600)
    assert found["chip_hours"] == pytest.approx(16 * found["hours"])


def test_the_texts_of_groups_mean_what_they_say():
    from emojax.planning.hlo import _axes

    mesh = {"data": 2, "fsdp": 4, "tensor": 1}
    for text, expected in (
        ("replica_groups={{0,1,2,3},{4,5,6,7}}", ("fsdp", 4)),
        ("replica_groups=[2,4]<=[8]", ("fsdp", 4)),
        ("replica_groups=[4,2]<=[2,4]T(1,0)", ("data", 2)),
        ("replica_groups=[1,8]<=[8]", ("data+fsdp", 8)),
        ("replica_groups={}", ("data+fsdp", 8)),
        ("replica_groups={{0,3},{1,2},{4,5},{6,7}}", ("?", 2)),
        ("replica_groups=mesh['a'=2,'b'=4] {'b'}", ("fsdp", 4)),
        ("replica_groups=mesh['a'=4,'b'=2], device_ids=([2,4]T(1,0)) {'b'}", ("data", 2)),
    ):
        assert _axes(text, mesh) == expected, text


EXCHANGES = """HloModule m

ENTRY %main (x: f32[4], y: f32[8]) -> f32[16] {
  %x = f32[4]{0} parameter(0)
  %y = f32[8]{0} parameter(1)
  %g = (f32[4]{0}, f32[16]{0}) all-gather-start(%x), channel_id=1, replica_groups={{0,1,2,3}}, dimensions={0}
  %gd = f32[16]{0} all-gather-done(%g)
  %r = f32[4]{0} all-reduce-start(%x), channel_id=2, replica_groups={{0,1,2,3}}, to_apply=%add
  %rd = f32[4]{0} all-reduce-done(%r)
  %s = (f32[1]{0}, f32[2]{0}) reduce-scatter(%x, %y), channel_id=3, replica_groups={{0,1,2,3}}, to_apply=%add
  ROOT %t = f32[16]{0} copy(%gd)
}
"""


def test_bytes_of_exchanges_are_those_of_all_results_or_all_operands():
    found = {each.kind: each.bytes for each in collectives(parse_program(EXCHANGES), {"data": 4})}
    assert found == {"all-gather": 64, "all-reduce": 16, "reduce-scatter": 48}


def test_a_text_that_is_no_program_is_an_error():
    with pytest.raises(EmojaxError, match="cannot be parsed"):
        parse_program(EXCHANGES.replace("ENTRY %", "ENTRY @"))


def test_bytes_of_types_on_the_chip_count_only_when_asked():
    assert array_bytes("f32[2,3]{1,0:T(8,128)}") == 24
    assert array_bytes("(bf16[4]{0}, s32[], pred[5]{0:S(1)})") == 8 + 4
    assert array_bytes("(bf16[4]{0}, s32[], pred[5]{0:S(1)})", everywhere=True) == 8 + 4 + 5


def test_other_topologies_are_refused():
    assert find_chip("v5e:16x16") is find_chip("v5e:16x16@2") is CHIPS["v5e"]
    for wrong in ("v5e", "v7:4x4", "v5e:4", "v5e:4x4x4x4", "v5e:4x4@0"):
        with pytest.raises(ConfigError, match=r"--topology must be CHIP:AxB"):
            find_chip(wrong)


@pytest.mark.parametrize("rated", [False, True])
def test_the_abstract_state_is_that_of_training_and_the_step_lowers(mini_data_dir, rated_data_dir, tmp_path, rated):
    tree = default.get_config()
    tree.corpus.update({"name": "mini_corpus", "data_dir": str(mini_data_dir)})
    if rated:
        tree.corpus.update({"name": "rated_corpus", "data_dir": str(rated_data_dir)})
        tree.model.rating_bins, tree.objective.rating_weight = 7, 0.5
    tree.data.update({"batch_size": 8, "bucket_seconds": (1.0,)})
    tree.model.log_mel.network.update({"gru_layers": 1, "gru_size": 8, "conv_channels": 4, "embedding_size": 6})
    tree.optimizer.ema_decay = 0.9
    tree.teacher.workdir = str(make_workdir(tmp_path / "teacher"))
    tree.distillation.update({"attribute_weight": 1.0, "embedding_weight": 1.0})
    config = parse_experiment(tree.to_dict())
    mesh = make_mesh(MeshConfig(2, 2, 1), jax.devices()[:4])
    run = abstract_run(config, mesh, 1.0)
    data = open_data(config)
    experiment = build_experiment(data.config, data.metadata, tmp_path, mesh)
    state = experiment.init_state(make_optimizer(config.optimizer, 10))

    def described(tree):
        leaves = jax.tree_util.tree_leaves_with_path(tree)
        return {jax.tree_util.keystr(path): (leaf.shape, leaf.dtype, leaf.sharding) for path, leaf in leaves}

    assert described(run.state) == described(state)
    batch = training_stream(data, experiment, dataclasses.replace(AUDIO, ratings=rated)).load(0)
    assert described(run.arguments[1]) == described(batch)
    assert count_flops(run.jitted.trace(*run.arguments).jaxpr) > 0


@pytest.mark.parametrize("padded", [False, True])
def test_fine_tuning_of_whisper_is_abstract_and_counts_silence_where_it_is_computed(mini_data_dir, padded):
    tree = default.get_config()
    tree.corpus.update({"name": "mini_corpus", "data_dir": str(mini_data_dir)})
    tree.data.update({"batch_size": 4, "bucket_seconds": (3.0,)})
    tree.model.modalities = ("acoustic",)
    tree.model.acoustic.update({"checkpoint": "openai/whisper-tiny.en", "train": "all", "padded": padded})
    tree.model.acoustic.network.update({"gru_layers": 0, "conv_channels": 0, "embedding_size": 6})
    config = parse_experiment(tree.to_dict())
    run = abstract_run(config, make_mesh(MeshConfig(2, 1, 1), jax.devices()[:2]), 3.0)
    sizes = [leaf.size for leaf in jax.tree.leaves(run.state.params)]
    assert sum(sizes) / 1e6 == pytest.approx(7.1, rel=0.01)  # without convolutions and positions, which are frozen
    # Forward, and backward for inputs and parameters: per frame of four rows and layers 12 D^2, and 2 T D of attention.
    frames = 1500 if padded else 150
    layers = 3 * 2 * 4 * 4 * frames * (12 * 384**2 + 2 * frames * 384)
    assert layers < count_flops(run.jitted.trace(*run.arguments).jaxpr) < 1.4 * layers
    tree.model.acoustic.update({"checkpoint": "facebook/hubert-base-ls960", "padded": True})
    with pytest.raises(ConfigError, match=r"config\.model\.acoustic\.padded must be False for SpeechEncoder"):
        abstract_run(parse_experiment(tree.to_dict()), make_mesh(MeshConfig(2, 1, 1), jax.devices()[:2]), 3.0)


def plan(workdir, config, *more):
    command = [sys.executable, "launch.py", "--mode=plan", f"--config=configs/{config}.py", f"--workdir={workdir}"]
    return subprocess.run([*command, *more], cwd=ROOT, env=os.environ, capture_output=True, text=True, check=False)


needs_libtpu = pytest.mark.skipif(importlib.util.find_spec("libtpu") is None, reason="needs requirements-tpu.txt")


@needs_libtpu
@pytest.mark.slow
def test_a_student_is_planned_beside_its_teacher(tmp_path):
    small = ("--topology=v5e:2x2", "--config.data.bucket_seconds=(2.0,)", "--config.data.batch_size=16")
    teacher = plan(tmp_path / "teacher", "mfb", *small)
    assert teacher.returncode == 0, teacher.stderr
    taught = (f"--config.teacher.workdir={tmp_path / 'teacher'}", "--config.distillation.attribute_weight=1.0")
    result = plan(tmp_path / "student", "student_s", *small, *taught)
    assert result.returncode == 0, result.stderr
    found = json.loads((tmp_path / "student" / "plan.json").read_text())
    assert (found["topology"], found["chips"], found["fits"]) == ("v5e:2x2", 4, True)
    assert found["predicted"]["bound_by"] == "sequential"
    # Frames of the GRUs of teacher and student, whose frames are stacked by four.
    assert {loop["iterations"] for loop in found["loops"]} >= {198, 49}
    assert len(found["memory_traffic"]) >= 20
    assert "WARNING" not in result.stderr
    assert "E0000" not in result.stderr
    assert found["peak_bytes_per_chip"] < found["hbm_bytes_per_chip"] == 16 * 2**30
    assert {each["axes"] for each in found["collectives"]} == {"data"}
    assert {each["kind"] for each in found["collectives"]} == {"all-reduce"}
    without = plan(tmp_path / "alone", "student_s", *small)
    assert without.returncode == 0, without.stderr
    alone, taught_by = (json.loads((tmp_path / name / "plan.json").read_text()) for name in ("alone", "teacher"))
    # A teacher adds a forward pass, less than half of its own training step.
    assert 0.25 < (found["flops_per_step"] - alone["flops_per_step"]) / taught_by["flops_per_step"] < 0.5
    assert found["frozen_parameters"] > taught_by["trained_parameters"]


@needs_libtpu
def test_a_step_that_does_not_fit_is_reported_with_what_to_change(tmp_path):
    result = plan(tmp_path / "run", "mfb", "--topology=v5e:2x2", "--config.data.batch_size=16384")
    assert result.returncode == 0, result.stderr
    found = json.loads((tmp_path / "run" / "plan.json").read_text())
    assert not found["fits"]
    assert found["peak_bytes_per_chip"] > found["hbm_bytes_per_chip"]
    assert any("micro_batches" in line for line in found["suggestions"])
    assert "DOES NOT FIT" in result.stdout
    changed = plan(
        tmp_path / "changed",
        "mfb",
        "--topology=v5e:2x2",
        "--config.data.batch_size=16384",
        "--config.training.micro_batches=8",
    )
    assert json.loads((tmp_path / "changed" / "plan.json").read_text())["fits"], changed.stdout


@needs_libtpu
@pytest.mark.slow
def test_hubert_large_fits_sixteen_small_chips(tmp_path):
    small = ("--topology=v5e:4x4", "--config.data.batch_size=16", "--config.data.bucket_seconds=(4.0,)")
    layout = ("--config.mesh.data=4", "--config.mesh.fsdp=2", "--config.mesh.tensor=2")
    result = plan(tmp_path / "run", "finetune_hubert", *small, *layout)
    assert result.returncode == 0, result.stderr
    found = json.loads((tmp_path / "run" / "plan.json").read_text())
    assert found["fits"]
    parameters = 4 * found["trained_parameters"]
    # Parameters and both moments of AdamW are divided by four, give or take what does not divide.
    assert 3 * parameters / 4 < found["argument_bytes_per_chip"] < 3 * parameters / 3.5
    kinds = {(each["kind"], each["axes"]) for each in found["collectives"]}
    assert ("all-gather", "fsdp") in kinds
    assert any(kind in ("all-reduce", "reduce-scatter") and "data" in axes for kind, axes in kinds)
    assert any("tensor" in axes for _, axes in kinds)


@needs_libtpu
def test_what_cannot_be_planned_is_an_error_of_one_line(tmp_path):
    for config, more, message in (
        ("student_s", (), "--topology=CHIP:AxB is missing"),
        ("student_s", ("--topology=v5e:3x5",), "error: "),
        (
            "hubert",
            ("--topology=v5e:2x2", "--config.model.acoustic.checkpoint=someone/model"),
            "unknown architecture",
        ),
        ("student_s", ("--topology=v5e:4x4", "--config.data.batch_size=8"), "must divide data.batch_size (8), got 1"),
    ):
        result = plan(tmp_path / "run", config, *more)
        assert result.returncode != 0
        lines = [line for line in result.stderr.splitlines() if line.startswith("error: ")]
        assert len(lines) == 1, result.stderr
        assert message in lines[0]
    assert not (tmp_path / "run" / "plan.json").exists()
