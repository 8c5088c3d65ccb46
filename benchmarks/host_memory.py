"""A student's gradient with and without memory that is kept between steps (`emojax.parallel.keep_freed_memory`).

    python -m benchmarks.host_memory --config=configs/student_s.py [--rounds=3] [--json=FILE]

Each side is a process of its own, in turn; medians over new batches of 32 x 5 s, page faults per step, peak memory. The
ceiling (`benchmarks.machine`) is that of a large product.
"""

import json
import resource
import statistics
import subprocess
import sys
import time
from pathlib import Path

from absl import app, flags
from ml_collections import config_flags

from benchmarks.machine import print_machine

_CONFIG = config_flags.DEFINE_config_file("config", "configs/student_s.py", "Student.")
_ROUNDS = flags.DEFINE_integer("rounds", 3, "Processes of each side.")
_JSON = flags.DEFINE_string("json", "", "Also write the results there.")
_SIDE = flags.DEFINE_enum("side", "", ["", "keep", "give back"], "Set by the benchmark itself.")

_WARM_UP, _STEPS = 3, 15


def main(argv):
    if _SIDE.value:
        print(json.dumps(measure(_SIDE.value)))
        return
    machine = print_machine()
    found = {"keep": [], "give back": []}
    for _ in range(_ROUNDS.value):
        for side, results in found.items():
            command = [sys.executable, "-m", "benchmarks.host_memory", *sys.argv[1:], f"--side={side}"]
            run = subprocess.run(command, capture_output=True, text=True, check=True)
            results.append(json.loads(run.stdout.splitlines()[-1]))
    print("| freed memory | step | page faults per step | peak |\n|---|---|---|---|")
    medians = {
        side: {name: statistics.median(result[name] for result in results) for name in results[0]}
        for side, results in found.items()
    }
    for side, each in medians.items():
        print(f"| {side} | {1e3 * each['step']:.1f} ms | {each['faults']:,.0f} | {each['peak']:.0f} MB |")
    print(f"keeping it is {medians['give back']['step'] / medians['keep']['step']:.2f} times as fast")
    if _JSON.value:
        Path(_JSON.value).write_text(json.dumps({"machine": machine, "sides": medians}, indent=2))


def measure(side):
    from emojax.parallel import keep_freed_memory

    if side == "keep" and not keep_freed_memory():
        raise SystemExit("only glibc has these settings")
    import jax
    import jax.numpy as jnp
    import numpy as np

    from benchmarks.steps import batch_of, clips
    from emojax.config import parse_experiment
    from emojax.losses import ccc_loss
    from emojax.models import EmotionModel, example_batch

    config = parse_experiment(_CONFIG.value.to_dict())
    model = EmotionModel(config.model, 0)
    variables = model.init(jax.random.key(0), example_batch(model))

    def loss(params, batch):
        output = model.apply({**variables, "params": params}, batch)
        return ccc_loss(output.attributes, batch.attributes, batch.weight).mean()

    gradient = jax.jit(jax.grad(loss))
    times, faulted = [], 0
    for number in range(_WARM_UP + _STEPS):
        labels = jnp.asarray(np.random.default_rng(number).uniform(size=(32, 3)), jnp.float32)
        batch = batch_of(jnp.asarray(clips(number, 32, 5))).replace(attributes=labels)
        faults = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
        start = time.perf_counter()
        jax.block_until_ready(gradient(variables["params"], batch))
        times.append(time.perf_counter() - start)
        faulted += (resource.getrusage(resource.RUSAGE_SELF).ru_minflt - faults) if number >= _WARM_UP else 0
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    return {"step": statistics.median(times[_WARM_UP:]), "faults": faulted / _STEPS, "peak": peak}


if __name__ == "__main__":
    app.run(main)
