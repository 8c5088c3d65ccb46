"""Cost of a mesh of one device: the training step with shardings beside the same step without a mesh.

    python -m benchmarks.sharding --config=configs/student_emobank.py [--json=FILE]

The first batch of the corpus; each side is compiled once, then both are timed in turn on the same arrays; medians and
their ratio, and the ceiling (`benchmarks.machine`) at the shapes of the step.
"""

import json
from pathlib import Path

import jax
from absl import app, flags
from ml_collections import config_flags

from benchmarks.machine import print_machine
from benchmarks.steps import prepare
from benchmarks.timing import medians, take_turns
from benchmarks.work import work_of

_CONFIG = config_flags.DEFINE_config_file("config", "configs/student_emobank.py", "Config of the step.")
_STEPS = flags.DEFINE_integer("steps", 30, "Timed steps of each side, after five to warm up.")
_JSON = flags.DEFINE_string("json", "", "Also write the results there.")

_WARM_UP = 5


def main(argv):
    from emojax.config import parse_experiment

    config = parse_experiment(_CONFIG.value.to_dict())
    sharded = prepare(config)
    state, batch = jax.device_put(jax.device_get((sharded["state"], sharded["batch"])), jax.devices()[0])
    plain = {"state": state, "batch": batch, "step": jax.jit(sharded["step"].__wrapped__, donate_argnums=0)}
    machine = print_machine(work_of(plain["step"], plain["state"], plain["batch"]).products)

    def step(side):
        side["state"], _ = side["step"](side["state"], side["batch"])
        jax.block_until_ready(side["state"])

    sides = {"mesh of one device": lambda _: step(sharded), "no mesh": lambda _: step(plain)}
    seconds = medians(take_turns(sides, lambda number: None, _STEPS.value, _WARM_UP))
    ratio = seconds["mesh of one device"] / seconds["no mesh"]
    print(f"{config.corpus.name}, batch {config.data.batch_size}, {jax.devices()}")
    for title, median in seconds.items():
        print(f"{title:<20} {1e3 * median:8.2f} ms per step")
    print(f"ratio {ratio:.3f}")
    if _JSON.value:
        Path(_JSON.value).write_text(json.dumps({"machine": machine, "seconds": seconds, "ratio": ratio}, indent=2))


if __name__ == "__main__":
    app.run(main)
