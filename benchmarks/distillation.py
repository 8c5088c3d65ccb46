"""What a teacher costs the student's step: none, from a cache, inside the step, inside the step in bfloat16.

  python -m benchmarks.distillation --config=configs/student_emobank.py --teacher=WORKDIR --cache=STORE

Real batches of the corpus's first bucket that fills, already on the device; each side compiled once, then timed in turn
on the same batches, medians.
"""

import dataclasses
import json
import statistics
import time
from pathlib import Path

import jax
from absl import app, flags
from ml_collections import config_flags

from benchmarks.steps import prepare

_CONFIG = config_flags.DEFINE_config_file("config", "configs/student_emobank.py", "Student.")
_TEACHER = flags.DEFINE_string("teacher", "", "Workdir of the teacher.")
_CACHE = flags.DEFINE_string("cache", "", "Store of its outputs.")
_STEPS = flags.DEFINE_integer("steps", 10, "Timed steps of each side, after two to warm up.")
_JSON = flags.DEFINE_string("json", "", "Also write the numbers there.")


def main(argv):
    from emojax.config import TeacherConfig, parse_experiment

    config = parse_experiment(_CONFIG.value.to_dict())
    distilled = dataclasses.replace(config.distillation, attribute_weight=1.0, embedding_weight=0.3)
    sides = {"no teacher": config}
    for title, teacher in {
        "cache": TeacherConfig("", (), _CACHE.value, "float32"),
        "in the step": TeacherConfig(_TEACHER.value, (), "", "float32"),
        "in the step, bfloat16": TeacherConfig(_TEACHER.value, (), "", "bfloat16"),
    }.items():
        sides[title] = dataclasses.replace(config, teacher=teacher, distillation=distilled)
    prepared = {title: prepare(side) for title, side in sides.items()}
    times = {title: [] for title in prepared}
    for _ in range(_STEPS.value + 2):
        for title, side in prepared.items():
            start = time.perf_counter()
            side["state"], metrics = side["step"](side["state"], side["batch"])
            jax.block_until_ready(metrics)
            times[title].append(time.perf_counter() - start)
    medians = {title: statistics.median(found[2:]) for title, found in times.items()}
    print(f"{config.corpus.name}, batch {config.data.batch_size}, {jax.devices()}")
    print("| teacher | step | over no teacher |\n|---|---|---|")
    for title, median in medians.items():
        print(f"| {title} | {1e3 * median:.0f} ms | {median / medians['no teacher']:.2f} |")
    if _JSON.value:
        Path(_JSON.value).write_text(json.dumps(medians, indent=2))


if __name__ == "__main__":
    app.run(main)
