"""Training step of a student without teacher, with a teacher's outputs from a cache, and with the teacher in the step.

    python -m benchmarks.distillation --config=configs/student_emobank.py --teacher=WORKDIR --cache=STORE [--json=FILE]

The teacher in the step computes in float32 or bfloat16. The batch is the first of the corpus, on the device; each side
is compiled once, then all are timed in turn on it, medians. The ceiling (`benchmarks.machine`) is that of the step with
the teacher in it.
"""

import dataclasses
import json
from pathlib import Path

import jax
from absl import app, flags
from ml_collections import config_flags

from benchmarks.machine import print_machine, share
from benchmarks.steps import prepare
from benchmarks.timing import medians, take_turns
from benchmarks.work import work_of

_CONFIG = config_flags.DEFINE_config_file("config", "configs/student_emobank.py", "Student.")
_TEACHER = flags.DEFINE_string("teacher", "", "Workdir of the teacher.")
_CACHE = flags.DEFINE_string("cache", "", "Store of its outputs.")
_STEPS = flags.DEFINE_integer("steps", 10, "Timed steps of each side, after two to warm up.")
_JSON = flags.DEFINE_string("json", "", "Also write the results there.")


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
    work = {title: work_of(side["step"], side["state"], side["batch"]) for title, side in prepared.items()}
    machine = print_machine(work["in the step"].products)

    def step(side):
        side["state"], _ = side["step"](side["state"], side["batch"])
        jax.block_until_ready(side["state"])

    runs = {title: lambda _, side=side: step(side) for title, side in prepared.items()}
    seconds = medians(take_turns(runs, lambda number: None, _STEPS.value))
    print(f"{config.corpus.name}, batch {config.data.batch_size}, {jax.devices()}")
    print("| teacher | step | over no teacher | share of ceiling |\n|---|---|---|---|")
    for title, median in seconds.items():
        of_ceiling = share(work[title].flops, median, machine)
        print(f"| {title} | {1e3 * median:.0f} ms | {median / seconds['no teacher']:.2f} | {100 * of_ceiling:.0f} % |")
    if _JSON.value:
        flops = {title: each.flops for title, each in work.items()}
        Path(_JSON.value).write_text(json.dumps({"machine": machine, "seconds": seconds, "flops": flops}, indent=2))


if __name__ == "__main__":
    app.run(main)
