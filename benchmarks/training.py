"""Steps inside the whole training loop (reading, logging, checkpoints) beside the bare step on a batch that is there.

  python -m benchmarks.training --config=configs/NAME.py [--config.a.b=value ...]

Utterances are padded to one length, so that every step is the same program. The loop's time is the median over an epoch
after the first steps, without evaluations; the bare step's is the median over as many calls on the last batch. Their
ratio says how much of the bare step's speed the loop keeps; two configs' examples per second can be compared.
"""

import json
import statistics
import tempfile
import time
from pathlib import Path

import jax
from absl import app, flags
from ml_collections import config_flags

_CONFIG = config_flags.DEFINE_config_file("config", None, "What to train.")
_SECONDS = flags.DEFINE_float("seconds", 5.0, "Length utterances are padded or cropped to.")
_STEPS = flags.DEFINE_integer("steps", 40, "Calls of the bare step.")
_JSON = flags.DEFINE_string("json", "", "Also write the numbers there.")

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
    times = []
    for _ in range(_STEPS.value + _WARM_UP):
        start = time.perf_counter()
        last["state"], metrics = made[0](last["state"], last["batch"])
        jax.block_until_ready((last["state"], metrics))
        times.append(time.perf_counter() - start)
    found["bare"] = statistics.median(times[_WARM_UP:])
    found["examples_per_second"] = config.data.batch_size / found["step"]
    found["kept"] = found["bare"] / found["step"]
    print(f"{config.corpus.name}, modalities {', '.join(config.model.modalities)}, {jax.devices()}")
    print(f"batch {config.data.batch_size} x {_SECONDS.value:g} s; {found['examples_per_second']:.0f} examples/s")
    print(
        f"in the loop {1e3 * found['step']:.1f} ms, bare {1e3 * found['bare']:.1f} ms: {100 * found['kept']:.0f} % kept"
    )
    print(f"of it waiting for input {1e3 * found['input_wait']:.1f} ms, on the devices {1e3 * found['device']:.1f} ms")
    if _JSON.value:
        Path(_JSON.value).write_text(json.dumps(found, indent=2))


if __name__ == "__main__":
    app.run(main)
