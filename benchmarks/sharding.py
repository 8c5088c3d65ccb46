"""What a mesh costs where there is one device: the step with shardings beside the same step without any.

  python -m benchmarks.sharding --config=configs/student_emobank.py

A real batch; each side compiled once, then timed in turn on the same arrays, medians and their ratio.
"""

import json
import statistics
import time
from pathlib import Path

import jax
from absl import app, flags
from ml_collections import config_flags

from benchmarks.steps import prepare

_CONFIG = config_flags.DEFINE_config_file("config", "configs/student_emobank.py", "Whose step.")
_STEPS = flags.DEFINE_integer("steps", 30, "Timed steps of each side, after five to warm up.")
_JSON = flags.DEFINE_string("json", "", "Also write the numbers there.")

_WARM_UP = 5


def main(argv):
    from emojax.config import parse_experiment

    config = parse_experiment(_CONFIG.value.to_dict())
    sharded = prepare(config)
    state, batch = jax.device_put(jax.device_get((sharded["state"], sharded["batch"])), jax.devices()[0])
    plain = {"state": state, "batch": batch, "step": jax.jit(sharded["step"].__wrapped__, donate_argnums=0)}
    times = {"mesh of one device": [], "no mesh": []}
    for _ in range(_STEPS.value + _WARM_UP):
        for title, side in zip(times, (sharded, plain), strict=True):
            start = time.perf_counter()
            side["state"], metrics = side["step"](side["state"], side["batch"])
            jax.block_until_ready((side["state"], metrics))
            times[title].append(time.perf_counter() - start)
    medians = {title: statistics.median(found[_WARM_UP:]) for title, found in times.items()}
    ratio = medians["mesh of one device"] / medians["no mesh"]
    print(f"{config.corpus.name}, batch {config.data.batch_size}, {jax.devices()}")
    for title, median in medians.items():
        print(f"{title:<20} {1e3 * median:8.2f} ms per step")
    print(f"ratio {ratio:.3f}")
    if _JSON.value:
        Path(_JSON.value).write_text(json.dumps({**medians, "ratio": ratio}, indent=2))


if __name__ == "__main__":
    app.run(main)
