"""Exported ONNX files in ONNX Runtime beside the same model compiled by XLA, on one core.

    python -m benchmarks.export [--configs=student_s,student_m,student_conv,mfb] [--rounds=40] [--json=FILE]

Configs are modules of `configs/`. Random weights, waveforms in, sides in turn, the least processor time of each, which
other processes on the machine change little. Clips of 10 s: one, and 8 at once; a stream in chunks of 100 ms, where the
model can run on one. Shares are those of the ceiling (`benchmarks.machine`). The goal is a ratio of at most 1.3.
"""

import importlib
import json
import os
import sys
from pathlib import Path

if __name__ == "__main__":  # before any library counts the cores
    os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})

import jax
import numpy as np
from absl import app, flags

from benchmarks.machine import print_machine, share
from benchmarks.steps import batch_of, clips
from benchmarks.timing import take_turns
from benchmarks.work import Work, work_of

_CONFIGS = flags.DEFINE_list("configs", ["student_s", "student_m", "student_conv", "mfb"], "Modules of `configs/`.")
_ROUNDS = flags.DEFINE_integer("rounds", 40, "Measurements of each side, in turn.")
_JSON = flags.DEFINE_string("json", "", "Also write the numbers there.")


def main(argv):
    results = {name: measure(name) for name in _CONFIGS.value}
    if _JSON.value:
        Path(_JSON.value).write_text(json.dumps(results, indent=2))


def measure(name):
    """Prints the rows of a config; returns their times (s)."""
    from emojax.config import parse_experiment
    from emojax.export.check import initial_state
    from emojax.export.description import Description, stream_obstacle
    from emojax.export.onnx_files import onnx_run, onnx_session
    from emojax.export.onnx_model import clip_model, stream_model
    from emojax.inference import Predictor, Stream
    from emojax.models import build_model, example_batch
    from emojax.types import ATTRIBUTES, CorpusInfo
    from emojax.workdir import TrainedModel, unknown_labels

    config = parse_experiment(importlib.import_module(f"configs.{name}").get_config().to_dict())
    online, encoders = config.model.encoder_modalities, load_encoders(config.model)
    model = build_model(config.model, 0, encoders)
    variables = jax.jit(model.init)(jax.random.key(0), example_batch(model, online))
    info = CorpusInfo("none", (0.0, 1.0), (), "recorded", "rated", "", "")
    trained = TrainedModel(None, config, unknown_labels(info), model, variables, 0, online)
    fields = ("none", ATTRIBUTES, info.scale, (), (), "none", "", "", "recorded", 0)
    description = Description(*fields, model.min_samples, model.max_samples, 0.0)
    predictor = Predictor(trained)
    files = {side: clip_model(trained, description, quantised=side == "int8") for side in ("onnx", "int8")}
    runs = {side: onnx_run(file.SerializeToString()) for side, file in files.items()}

    def attributes(variables, waveform):
        return model.apply(variables, batch_of(waveform)).attributes

    work = {rows: work_of(attributes, variables, jax.ShapeDtypeStruct((rows, 160_000), np.float32)) for rows in (1, 8)}
    results = {"machine": print_machine(work[8].products, 1)}
    print("| one core | XLA, share | ONNX Runtime, share | ratio | 8-bit weights |\n|---|---|---|---|---|")
    for title, rows in (("one clip of 10 s", 1), ("8 clips of 10 s", 8)):
        lengths = np.full(rows, 160_000, np.int32)
        sides = {"xla": lambda audio, n=lengths, rows=rows: predictor.forward(audio, n, [""] * rows)}
        sides |= {side: lambda audio, n=lengths, run=run: run(audio, n) for side, run in runs.items()}
        least = least_times(sides, lambda number, rows=rows: clips(number, rows, 10))
        results[title] = row(f"`{name}`, {title}", least, work[rows], results["machine"])
    if stream_obstacle(trained) is None:
        session, stream = onnx_session(stream_model(trained, description).SerializeToString()), Stream(predictor)
        outputs, state = [output.name for output in session.get_outputs()], initial_state(session)

        def onnx_chunk(audio):
            values = dict(zip(outputs, session.run(outputs, {"waveform": audio[:, :1600], **state}), strict=True))
            state.update({part: values[part.replace("state_", "next_", 1)] for part in state})

        sides = {"xla": lambda audio: stream(audio[0, :1600]), "onnx": onnx_chunk}
        least = least_times(sides, lambda number: clips(number, 1, 1))
        results["stream"] = row(f"`{name}`, stream, 100 ms", least, None, results["machine"])
    return results


def load_encoders(settings):
    from emojax.encoders import ComputeOptions, load_encoder

    found = {name: getattr(settings, name) for name in settings.encoder_modalities}
    return {
        name: load_encoder(each.checkpoint, ComputeOptions(), keep_layers=each.keep_layers)
        for name, each in found.items()
    }


def least_times(sides, fresh):
    """Least processor time of a call of each side (s)."""
    times = take_turns(sides, fresh, _ROUNDS.value, warm_up=8)
    return {name: min(spent.processor for spent in taken) for name, taken in times.items()}


def row(title, least, work: Work | None, machine):
    """Prints a row, with shares of the ceiling where the operations are given."""
    ratio = least["onnx"] / least["xla"]
    shares = {} if work is None else {side: share(work.flops, seconds, machine) for side, seconds in least.items()}
    cells = {
        side: f"{1e3 * seconds:.2f} ms" + (f", {100 * shares[side]:.0f} %" if shares else "")
        for side, seconds in least.items()
    }
    print(f"| {title} | {cells['xla']} | {cells['onnx']} | {ratio:.2f} | {cells.get('int8', '')} |", flush=True)
    return least | {"ratio": ratio, "shares": shares}


if __name__ == "__main__":
    sys.argv[0] = "benchmarks.export"
    app.run(main)
