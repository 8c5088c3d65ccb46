"""Steps in the training loop (reading, logging, checkpoints) beside the same step on a batch in memory.

    python -m benchmarks.training --config=configs/NAME.py [--config.a.b=value ...] [--json=FILE]

Utterances are padded to one length, so that every step is the same program. The time in the loop is the median over an
epoch after the first steps, without evaluations; that of the step alone is the median of `--steps` calls on the last
batch, with its share of the ceiling (`benchmarks.machine`). Beside another implementation: `benchmarks.training_step`.
"""

import json
import statistics
import tempfile
import time
from pathlib import Path

import jax
from absl import app, flags
from ml_collections import config_flags

from benchmarks.machine import print_machine, share
from benchmarks.work import work_of

_CONFIG = config_flags.DEFINE_config_file("config", None, "Config to train.")
_SECONDS = flags.DEFINE_float("seconds", 5.0, "Length utterances are padded or cropped to.")
_STEPS = flags.DEFINE_integer("steps", 40, "Calls of the step alone.")
_JSON = flags.DEFINE_string("json", "", "Also write the results there.")

_WARM_UP = 5


def main(argv):
    from emojax.config import parse_experiment
    from emojax.training import train_workdir
    from emojax.training.experiment import Experiment

    tree = _CONFIG.value
    tree.data.bucket_seconds = (_SECONDS.value,)
    tree.training.update({"epochs": 1, "log_every_steps": 1})
    config = parse_experiment(tree.to_dict())
    made, last = [], {}

    def recorded(*arguments):
        step = original(*arguments)
        made.append(step)

        def call(state, batch):
            state, metrics = step(state, batch)
            last.update(state=state, batch=batch)
            return state, metrics

        return call

    original, Experiment.train_step = Experiment.train_step, recorded
    with tempfile.TemporaryDirectory() as folder:
        train_workdir(config, Path(folder) / "run")
        lines = [json.loads(line) for line in (Path(folder) / "run" / "metrics.jsonl").read_text().splitlines()]
    found = {
        name: statistics.median([line[f"seconds/{name}"] for line in lines if f"seconds/{name}" in line][_WARM_UP:])
        for name in ("step", "input_wait", "device")
    }
    work = work_of(made[0], last["state"], last["batch"])
    found["machine"] = print_machine(work.products)
    times = []
    for _ in range(_STEPS.value + _WARM_UP):
        start = time.perf_counter()
        last["state"], metrics = made[0](last["state"], last["batch"])
        jax.block_until_ready((last["state"], metrics))
        times.append(time.perf_counter() - start)
    found["bare"] = statistics.median(times[_WARM_UP:])
    found["examples_per_second"] = config.data.batch_size / found["step"]
    found["kept"] = found["bare"] / found["step"]
    found["share"] = share(work.flops, found["bare"], found["machine"])
    print(f"{config.corpus.name}, modalities {', '.join(config.model.modalities)}, {jax.devices()}")
    print(f"batch {config.data.batch_size} x {_SECONDS.value:g} s; {found['examples_per_second']:.0f} examples/s")
    print(
        f"in the loop {1e3 * found['step']:.1f} ms: waiting for input {1e3 * found['input_wait']:.1f} ms, "
        f"on the devices {1e3 * found['device']:.1f} ms"
    )
    print(
        f"alone {1e3 * found['bare']:.1f} ms, {100 * found['kept']:.0f} % of it; {100 * found['share']:.0f} % of the "
        "ceiling"
    )
    if _JSON.value:
        Path(_JSON.value).write_text(json.dumps(found, indent=2))


if __name__ == "__main__":
    app.run(main)
