"""The side of emojax of `benchmarks.gpu_training`: the step of `emojax.training`, parts of it, and a profile."""

import collections
import dataclasses
import json
import re
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from benchmarks.gpu_training import STEPS, WARM_UP, Clock, Row, Sizes, median_step, report
from configs import finetune_hubert
from emojax.config import ExperimentConfig, parse_experiment
from emojax.encoders import ComputeOptions, attention
from emojax.encoders.attention import attend
from emojax.encoders.layers import REMAT_SAVES, grouped_convolution
from emojax.encoders.speech_features import FeatureEncoder
from emojax.models import build_model
from emojax.parallel import batch_sharding, make_mesh
from emojax.planning.architectures import describe_encoder
from emojax.training import make_optimizer
from emojax.training.experiment import Experiment
from emojax.types import Batch, CorpusInfo
from emojax.workdir import unknown_labels

_CATEGORIES = tuple("abcdefgh")


def run(rows: list[Row], sizes: dict[str, Sizes], clock: Clock, profile: int) -> None:
    """Measures the rows that there is time for, and after half a dozen of them a profile and parts of the step."""
    device = jax.devices()[0]
    report("device", {"device": device.device_kind, "version": f"JAX {jax.__version__}", "tflops": product()})
    states: dict[tuple[str, str], Any] = {}
    for number, row in enumerate(rows):
        found = clock.run(row.mode, row.name, lambda row=row: measure(row, sizes[row.model], states))
        program = found.pop("program", None)
        report("row", dataclasses.asdict(row) | found)
        if number == 0 and profile and program:
            listed = clock.run("profile", "profile", lambda program=program: kernels(*program, profile))
            if "top" in listed:
                report("profile", {"name": row.name} | listed)
        del found, program
        if number == min(7, len(rows) - 1):
            for name, part in parts(sizes["large"], rows[0].batch).items():
                report("part", {"name": name, "batch": rows[0].batch} | clock.run("part", name, part))


def product() -> float | None:
    """TFLOP/s of a large matrix product in bfloat16."""
    if jax.default_backend() == "cpu":
        return None
    left, right = (jax.random.normal(jax.random.key(number), (8192, 8192), jnp.bfloat16) for number in range(2))
    multiply = jax.jit(jnp.matmul)

    def call(_: int) -> None:
        jax.block_until_ready([multiply(left, right) for _ in range(5)])

    return round(5 * 2 * 8192**3 / median_step(call)["milliseconds"] / 1e9, 1)


def experiment_of(row: Row, sizes: Sizes) -> tuple[ExperimentConfig, Experiment]:
    """The experiment of configs/finetune_hubert.py with an encoder of these sizes."""
    tree = finetune_hubert.get_config()
    tree.model.acoustic.remat = row.remat != "off"
    tree.model.acoustic.remat_saves = row.remat if row.remat in REMAT_SAVES else "attention"
    tree.model.acoustic.scan_layers = row.mode == "scan"
    tree.data.batch_size = row.batch
    config = parse_experiment(tree.to_dict())
    settings, dtype = config.model.acoustic, jnp.dtype(config.model.dtype)
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "config.json").write_text(json.dumps(sizes.config(row.attention_dropout)))
        options = ComputeOptions(dtype, settings.remat, settings.scan_layers, settings.remat_saves)
        part = describe_encoder(folder, options)
    metadata = unknown_labels(CorpusInfo("noise", (1.0, 7.0), _CATEGORIES, "recorded", "rated", "", ""))
    model = build_model(config.model, len(_CATEGORIES), {"acoustic": part})
    return config, Experiment(config, metadata, make_mesh(config.mesh, jax.devices()[:1]), model, {}, None)


def measure(row: Row, sizes: Sizes, states: dict[tuple[str, str], Any]) -> dict[str, Any]:
    """Times the step of a row; `states` holds the last train state per model and mode."""
    config, experiment = experiment_of(row, sizes)
    optimizer = make_optimizer(config.optimizer, 100_000, config.model.encoder_modalities)
    abstract = experiment.init_state(optimizer, abstract=True)
    sharding = batch_sharding(experiment.mesh)
    batch = batch_of(0, row.batch, sizes.samples, experiment.example, sharding)
    original = attention.cuda_capability
    attention.cuda_capability = original if row.attention == "cudnn" else lambda: 0.0
    try:
        lowered = experiment.jitted_step(optimizer, abstract).lower(abstract, batch)
    finally:
        attention.cuda_capability = original
    program = lowered.compile()
    text, needed = program.as_text(), program.memory_analysis()
    total = needed.argument_size_in_bytes + needed.temp_size_in_bytes
    total += needed.output_size_in_bytes - needed.alias_size_in_bytes
    found: dict[str, Any] = {"gibibytes": total / 2**30, "temporary_gibibytes": needed.temp_size_in_bytes / 2**30}
    found["cudnn_attention"] = "cudnn$fmha" in lowered.as_text()
    if row.attention == "cudnn" and jax.default_backend() == "gpu" and not found["cudnn_attention"]:
        return found | {"error": "the program has no cuDNN attention"}
    limit = (jax.devices()[0].memory_stats() or {}).get("bytes_limit")
    if limit and total > limit:
        return found | {"error": f"does not fit: {total / 2**30:.1f} of {limit / 2**30:.1f} GiB"}
    key = row.model, row.mode
    if key not in states:
        states.clear()  # one model at a time in memory
        states[key] = random_state(abstract)
    batches = [
        batch_of(number, row.batch, sizes.samples, experiment.example, sharding) for number in range(WARM_UP + STEPS)
    ]
    losses = []

    def step(number: int) -> None:
        state = states.pop(key)  # its memory is reused
        state, metrics = program(state, batches[number])
        jax.block_until_ready(state)
        states[key] = state
        losses.append(metrics)

    found |= median_step(step)
    found["losses"] = {name: [float(each[name]) for each in (losses[0], losses[-1])] for name in losses[0]}

    def again() -> None:
        step(0)

    return found | {"program": (again, text)}


def batch_of(number: int, rows: int, samples: int, example: Batch, sharding: Any) -> Batch:
    """Noise with random labels, on the GPU."""
    random = np.random.default_rng(number)

    def repeated(values: Any) -> np.ndarray:
        return np.repeat(np.asarray(values), rows, axis=0)

    batch: Any = jax.tree.map(repeated, example)
    batch = batch.replace(
        waveform=random.integers(-4000, 4000, (rows, samples), np.int16),
        num_samples=np.full(rows, samples, np.int32),
        attributes=random.random((rows, 3), np.float32),
    )
    return jax.device_put(batch, sharding)


def random_state(abstract: Any) -> Any:
    """A train state of small random kernels and, for all else, the values that training starts from."""
    pool = np.random.default_rng(0).normal(0, 0.02, 2**22).astype(np.float32)

    def values(path: Any, leaf: Any) -> Any:
        names = [str(getattr(each, "key", getattr(each, "name", ""))) for each in path]
        if names[-1] in ("scale", "variance", "std"):
            filled = np.ones(leaf.shape, leaf.dtype)
        elif "opt_state" in names or leaf.ndim < 2 or leaf.dtype != np.float32 or names[-1] in ("bias", "mean"):
            filled = np.zeros(leaf.shape, leaf.dtype)
        else:
            filled = np.resize(pool, leaf.shape)
        return jax.device_put(filled, leaf.sharding)

    state = jax.tree.map_with_path(values, abstract)
    return jax.block_until_ready(state.replace(opt_state=jax.tree.map(jnp.zeros_like, state.opt_state)))


def parts(sizes: Sizes, batch: int) -> dict[str, Callable[[], dict[str, Any]]]:
    """Variants of parts of the step, to see what a change would give."""
    frames, width = sizes.frames[-1], sizes.hidden
    key = jax.random.key(0)

    def array(*shape: int, dtype: Any = jnp.bfloat16) -> jax.Array:
        return jax.random.normal(key, shape, jnp.float32).astype(dtype)

    def timed(function: Callable[..., Any], *arguments: Any, gradient: bool = True) -> dict[str, Any]:
        def loss(*arguments: Any) -> jax.Array:
            return jnp.sum(function(*arguments).astype(jnp.float32) ** 2)

        everything = tuple(range(len(arguments)))
        call = jax.jit(jax.grad(loss, argnums=everything) if gradient else function)
        compiled = call.lower(*arguments).compile()
        return median_step(lambda _: jax.block_until_ready(compiled(*arguments)))

    def attended(how: str, frames: int) -> dict[str, Any]:
        original = attention.cuda_capability
        attention.cuda_capability = original if how == "cudnn" else lambda: 0.0
        mask = jnp.ones((batch, frames), bool)
        try:
            return timed(lambda *states: attend(*states, mask, sizes.heads), *[array(batch, frames, width)] * 3)
        finally:
            attention.cuda_capability = original

    def convolutions(dtype: Any) -> dict[str, Any]:
        with tempfile.TemporaryDirectory() as folder:
            (Path(folder) / "config.json").write_text(json.dumps(sizes.config(0.0)))
            module: Any = describe_encoder(folder, ComputeOptions()).module
        encoder = FeatureEncoder(module.config.convolution)
        waveform, lengths = array(batch, sizes.samples, dtype=dtype), jnp.full(batch, sizes.samples)
        params = encoder.init(key, waveform[:1, :800], lengths[:1])
        return timed(lambda waveform: encoder.apply(params, waveform, lengths), waveform, gradient=False)

    def position(grouped: bool, dtype: Any, sums: Any) -> dict[str, Any]:
        states = array(batch, frames, width, dtype=dtype)
        kernel = array(sizes.taps, width // sizes.groups, width, dtype=dtype)
        if not grouped:
            return timed(lambda *operands: grouped_convolution(*operands, sizes.groups), states, kernel)
        padding = [(sizes.taps // 2, sizes.taps - 1 - sizes.taps // 2)]

        def convolve(states: jax.Array, kernel: jax.Array) -> jax.Array:
            return jax.lax.conv_general_dilated(
                states,
                kernel,
                (1,),
                padding,
                dimension_numbers=("NWC", "WIO", "NWC"),
                feature_group_count=sizes.groups,
                preferred_element_type=sums,
            )

        return timed(convolve, states, kernel)

    def layer(remat: str, mode_frames: int) -> dict[str, Any]:
        with tempfile.TemporaryDirectory() as folder:
            (Path(folder) / "config.json").write_text(json.dumps(sizes.config(0.0)))
            module: Any = describe_encoder(folder, ComputeOptions(jnp.dtype(jnp.bfloat16))).module
        one = attention_layer(module.config, remat)
        states, mask = array(batch, mode_frames, width, dtype=jnp.float32), jnp.ones((batch, mode_frames), bool)
        params = one.init({"params": key, "dropout": key}, states, jnp.zeros(()), mask, None)
        return timed(
            lambda params, states: one.apply(params, states, jnp.zeros(()), mask, None, rngs={"dropout": key})[0],
            params,
            states,
        )

    even = frames + frames % 2
    return {
        f"layer, {frames} frames, forward and backward": lambda: layer("off", frames),
        f"layer, {even} frames, forward and backward": lambda: layer("off", even),
        f"attention, cuDNN, {frames} frames": lambda: attended("cudnn", frames),
        f"attention, cuDNN, {even} frames": lambda: attended("cudnn", even),
        f"attention, exact, {frames} frames": lambda: attended("exact", frames),
        "convolutions, float32, forward": lambda: convolutions(jnp.float32),
        "convolutions, bfloat16, forward": lambda: convolutions(jnp.bfloat16),
        "positional convolution, one per group (as computed)": lambda: position(False, jnp.bfloat16, None),
        "positional convolution, grouped, bfloat16": lambda: position(True, jnp.bfloat16, None),
        "positional convolution, one per group, float32": lambda: position(False, jnp.float32, None),
        "positional convolution, grouped, float32": lambda: position(True, jnp.float32, None),
    }


def attention_layer(config: Any, remat: str) -> Any:
    """One layer of the transformer in training."""
    from emojax.encoders.layers import remat_layer
    from emojax.encoders.transformer import TransformerLayer

    module = TransformerLayer if remat == "off" else remat_layer(TransformerLayer, False, remat)
    return module(config, jnp.dtype(jnp.bfloat16), True)


_OPERATION = re.compile(r"^\s*(?:ROOT )?%?([\w.-]+) = .*?metadata=\{[^}]*op_name=\"([^\"]*)\"")


def kernels(step: Callable[[], None], text: str, number: int) -> dict[str, Any]:
    """The kernels that take the most time, from a trace of three steps, with the operation that they belong to."""
    operations = {}
    for line in text.splitlines():
        if match := _OPERATION.match(line):
            operations[re.sub(r"[.-]", "_", match[1])] = match[2]
    with tempfile.TemporaryDirectory() as folder:
        options = jax.profiler.ProfileOptions()
        options.python_tracer_level = 0
        jax.profiler.start_trace(folder, profiler_options=options)
        for _ in range(3):
            step()
        jax.profiler.stop_trace()
        (file,) = Path(folder).rglob("*.xplane.pb")
        trace = jax.profiler.ProfileData.from_file(str(file))
    times: dict[str, float] = collections.Counter()
    counts: dict[str, int] = collections.Counter()
    labels: dict[str, str] = {}
    for plane in trace.planes:
        lines = list(plane.lines) if plane.name.startswith("/device:GPU") else []
        streams = [line for line in lines if line.name.startswith("Stream")]
        for line in streams or [line for line in lines if line.name == "XLA Ops"]:
            for event in line.events:
                times[event.name] += event.duration_ns / 3e6
                counts[event.name] += 1
                if event.name not in labels:
                    operation = str(dict(event.stats).get("hlo_op", event.name))
                    labels[event.name] = operations.get(re.sub(r"[.-]", "_", operation), operation)
    top = [
        {
            "kernel": name[:90],
            "ms": spent,
            "count": round(counts[name] / 3),
            "operation": short(labels[name]),
        }
        for name, spent in sorted(times.items(), key=lambda item: -item[1])[:number]
    ]
    return {"total": sum(times.values()), "top": top}


def short(operation: str) -> str:
    """The end of an operation's name, with its direction."""
    direction = "backward: " if "transpose(" in operation else ""
    return direction + "/".join(operation.replace("|", " ").split("/")[-4:])[:90]
