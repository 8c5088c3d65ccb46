"""Training on 1, 2, 4, 8 processes on loopback: equal losses, expected collectives, bytes loaded by each process.

  python -m benchmarks.scaling --config=configs/mfb.py [--processes=1,2,4,8] [--axis=data|fsdp] [--config.a.b=value ...]

A test of correctness, not of speed: the processes share the cores of one machine. Each has one device; the mesh axis
`--axis` has all of them. The same config is trained for a few steps

- with strong scaling: the global batch is `--batch` rows, divided over the processes;
- with weak scaling: `--rows` rows per process. The CCC is a statistic of the global batch, so that the losses of N
  processes are compared with those of one process on a batch of N x `--rows` rows.

It fails if a loss differs from that of one process by more than a relative 2e-4 (float32 sums in another order), if a
step has an unexpected collective, or if a process loads other rows than its share.
"""

import dataclasses
import json
import os
import socket
import subprocess
import sys
from pathlib import Path

import numpy as np
from absl import app, flags, logging
from ml_collections import config_flags

_CONFIG = config_flags.DEFINE_config_file("config", "configs/mfb.py", "What to train.")
_PROCESSES = flags.DEFINE_list("processes", ["1", "2", "4", "8"], "Numbers of processes.")
_BATCH = flags.DEFINE_integer("batch", 16, "Global batch of strong scaling.")
_ROWS = flags.DEFINE_integer("rows", 2, "Rows per process of weak scaling.")
_STEPS = flags.DEFINE_integer("steps", 4, "Steps of each run.")
_SECONDS = flags.DEFINE_float("seconds", 2.0, "Length utterances are padded or cropped to.")
_SIZE = flags.DEFINE_integer("size", 16, "Units of the GRU layers, the convolution and the embedding.")
_AXIS = flags.DEFINE_enum("axis", "data", ["data", "fsdp"], "Mesh axis over the processes.")
_JSON = flags.DEFINE_string("json", "", "Also write the results there.")
_CHILD = flags.DEFINE_string("child", "", "Used by the script itself: port, number of processes, index, rows.")

_TOLERANCE = 2e-4


@dataclasses.dataclass(frozen=True)
class Result:
    """Results of one process.

    Attributes:
      losses: loss of each step.
      parameter_bytes: bytes of the trained parameters, which are those of their gradients.
      collectives: fields of the `Collective`s of a step.
      loaded_bytes: bytes of the batches that this process loaded, all steps.
      batch_bytes: bytes of the global batches, all steps.
    """

    losses: list[float]
    parameter_bytes: int
    collectives: list[dict]
    loaded_bytes: int
    batch_bytes: int


def main(argv):
    logging.set_verbosity(logging.WARNING)
    if _CHILD.value:
        port, number, index, rows = map(int, _CHILD.value.split(","))
        print(json.dumps(dataclasses.asdict(train(port, number, index, rows))))
        return
    numbers = [int(number) for number in _PROCESSES.value]
    settings = [("strong", number, _BATCH.value) for number in numbers]
    settings += [("weak", number, number * _ROWS.value) for number in numbers]
    runs = {}

    def results(number, rows):
        if (number, rows) not in runs:
            runs[number, rows] = run(number, rows)
        return runs[number, rows]

    rows, failures = [], []
    for scaling, number, batch in settings:
        found, alone = results(number, batch), results(1, batch)[0]
        rows.append(row(scaling, number, batch, found, alone))
        failures += [f"{scaling}, {number} processes: {each}" for each in problems(found, alone, number)]
        print(f"{scaling} scaling, {number} processes, batch {batch}: losses {found[0].losses}", file=sys.stderr)
    print(table(rows))
    if _JSON.value:
        Path(_JSON.value).write_text(json.dumps({"axis": _AXIS.value, "rows": rows, "failures": failures}, indent=2))
    if failures:
        raise SystemExit("\n".join(failures))


def run(number, rows):
    """Results of so many processes that train together on a global batch of `rows`."""
    with socket.socket() as probe:
        probe.bind(("localhost", 0))
        port = probe.getsockname()[1]
    environment = os.environ | {"JAX_PLATFORMS": "cpu", "JAX_NUM_CPU_DEVICES": "1"}
    command = [sys.executable, "-m", "benchmarks.scaling", *sys.argv[1:]]
    processes = [
        subprocess.Popen(
            [*command, f"--child={port},{number},{index},{rows}"], env=environment, stdout=subprocess.PIPE, text=True
        )
        for index in range(number)
    ]
    try:
        outputs = [process.communicate(timeout=600)[0] for process in processes]
    finally:
        for process in processes:
            process.kill()
    if any(process.returncode for process in processes):
        raise SystemExit(f"{number} processes, batch {rows}: exit status {[each.returncode for each in processes]}")
    return [Result(**json.loads(output.splitlines()[-1])) for output in outputs]


def train(port, number, index, rows):
    """Trains in this process, one of `number`."""
    import jax

    from benchmarks.steps import prepare
    from emojax.config import parse_experiment
    from emojax.parallel import join_processes
    from emojax.planning.hlo import collectives, parse_program

    if number > 1:
        join_processes(f"localhost:{port}", number, index)
    config = prepare_config(_CONFIG.value, rows)
    prepared = prepare(parse_experiment(config.to_dict()))
    step, state, stream = prepared["step"], prepared["state"], prepared["stream"]
    parameter_bytes = sum(leaf.size * leaf.dtype.itemsize for leaf in jax.tree.leaves(state.trained))
    program = parse_program(step.lower(state, prepared["batch"]).compile().as_text())
    found = [dataclasses.asdict(each) for each in collectives(program, dict(stream.mesh.shape))]
    losses, loaded, whole = [], 0, 0
    for position in range(_STEPS.value):
        batch = stream.load(position)
        loaded += sum(shard.data.nbytes for leaf in jax.tree.leaves(batch) for shard in leaf.addressable_shards)
        whole += sum(leaf.nbytes for leaf in jax.tree.leaves(batch))
        state, metrics = step(state, batch)
        losses.append(float(metrics["loss"]))
    return Result(losses, parameter_bytes, found, loaded, whole)


def prepare_config(tree, rows):
    """The config with a small network, one length and a batch of `rows`."""
    size = _SIZE.value
    tree.data.update({"batch_size": rows, "bucket_seconds": (_SECONDS.value,), "workers": 0})
    tree.model.log_mel.network.update({"gru_size": size, "conv_channels": size, "embedding_size": size})
    tree.training.epochs = 1
    tree.mesh.update({"data": 1, _AXIS.value: -1})
    return tree


def problems(found, alone, number):
    """Messages about the results of the processes of one run, beside those of one process on the same batch."""
    from emojax.planning.hlo import Collective, unexpected_collectives

    messages = []
    for index, result in enumerate(found):
        if not np.allclose(result.losses, alone.losses, rtol=_TOLERANCE, atol=0):
            messages.append(f"process {index}: losses {result.losses}, expected {alone.losses}")
        if result.loaded_bytes * number != result.batch_bytes:
            messages.append(f"process {index}: loads {result.loaded_bytes} of {result.batch_bytes} bytes")
        if number > 1:
            exchanged = [Collective(**each) for each in result.collectives]
            messages += unexpected_collectives(exchanged, _AXIS.value, result.parameter_bytes)
    return messages


def row(scaling, number, batch, found, alone):
    losses = np.array([result.losses for result in found])
    return {
        "scaling": scaling,
        "processes": number,
        "batch": batch,
        "difference": float(np.max(np.abs(losses / np.array(alone.losses) - 1))),
        "parameter_bytes": found[0].parameter_bytes,
        "collectives": [
            {name: each[name] for name in ("kind", "axes", "count", "bytes")} for each in found[0].collectives
        ],
        "loaded_bytes_per_process_and_step": found[0].loaded_bytes // _STEPS.value,
    }


def table(rows):
    lines = [f"gradients: {rows[0]['parameter_bytes']:,} bytes; mesh axis {_AXIS.value}", ""]
    header = ("scaling", "processes", "global batch", "relative difference", "collectives", "loaded per process, step")
    lines.append("| " + " | ".join(header) + " |")
    lines.append("|---|---|---|---|---|---|")
    for each in rows:
        moved = "; ".join(f"{one['count']} × {one['kind']}, {one['bytes']:,} B" for one in each["collectives"])
        lines.append(
            f"| {each['scaling']} | {each['processes']} | {each['batch']} | {each['difference']:.1e} | "
            f"{moved or 'none'} | {each['loaded_bytes_per_process_and_step']:,} B |"
        )
    return "\n".join(lines)


if __name__ == "__main__":
    app.run(main)
