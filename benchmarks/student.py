"""Students beside PyTorch and ONNX Runtime with the same weights: training step, offline and streaming inference.

    python -m benchmarks.student --config=configs/student_s.py [--part=infer|train] [--rounds=15] [--json=FILE]

`infer` holds the process on one core and measures 32 clips of 10 s at once, one clip of 10 s, what `predict` adds to
the program that it calls, and a stream in chunks of 100 ms; `train` uses every core and measures forward and backward
pass from 32 waveforms of 5 s, with the CCC loss. Everything starts from waveforms. Random weights, new inputs in every
call, sides in turn, medians. The peer in PyTorch (`benchmarks.torch_tcgru`) has the same outputs (the largest
difference is printed); ONNX Runtime runs PyTorch's export of it. A student with a speech encoder
(configs/student_l.py, published weights) has no peer and no stream: `infer` measures emojax alone, and the processor
time of one clip, which other processes on the machine hardly change. Shares are those of the ceiling
(`benchmarks.machine`).
"""

import dataclasses
import json
import logging
import os
import statistics
import sys
import tempfile
import time
from pathlib import Path

if __name__ == "__main__" and "--part=train" not in sys.argv:  # before any library counts the cores
    os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})

import jax
import jax.numpy as jnp
import numpy as np
from absl import app, flags
from ml_collections import config_flags

from benchmarks.machine import print_machine, share
from benchmarks.steps import batch_of, clips
from benchmarks.timing import cores, medians, take_turns
from benchmarks.work import work_of

_CONFIG = config_flags.DEFINE_config_file("config", "configs/student_s.py", "Student.")
_PART = flags.DEFINE_enum("part", "infer", ["infer", "train"], "What to measure.")
_ROUNDS = flags.DEFINE_integer("rounds", 15, "Measurements of each side, in turn.")
_JSON = flags.DEFINE_string("json", "", "Also write the numbers there.")


def main(argv):
    from emojax.parallel import keep_freed_memory

    if _PART.value == "train":
        keep_freed_memory()  # as launch.py does; both sides have it
    import torch

    from benchmarks.torch_tcgru import TorchTCGRU
    from emojax.config import parse_experiment
    from emojax.inference import Predictor
    from emojax.models import EmotionModel, count_parameters, example_batch
    from emojax.types import CorpusInfo
    from emojax.workdir import TrainedModel, unknown_labels

    config = parse_experiment(_CONFIG.value.to_dict())
    torch.set_num_threads(cores())
    if config.model.encoder_modalities:
        write_results(measure_encoder_student(config.model))
        return
    info = CorpusInfo("none", (0.0, 1.0), (), "recorded", "rated", "", "")
    # Outputs of random weights can be beyond the scale; clipped ones could not be compared.
    model = EmotionModel(dataclasses.replace(config.model, clip_attributes=False), 0)
    variables = model.init(jax.random.key(0), example_batch(model))
    peer = TorchTCGRU(config.model.log_mel, variables)
    results = {"parameters": count_parameters(variables["params"])}
    print(f"{results['parameters']:,} parameters")
    if _PART.value == "train":
        results |= measure_training(model, variables, peer)
    else:
        trained = TrainedModel(None, config, unknown_labels(info), model, variables, 0, ())
        results |= measure_inference(model, variables, peer, Predictor(trained))
    write_results(results)


def write_results(results):
    if _JSON.value:
        Path(_JSON.value).write_text(json.dumps(results, indent=2))


def forward_of(model):
    """Attributes from variables and waveforms (B, S)."""
    return lambda variables, waveform: model.apply(variables, batch_of(waveform)).attributes


def work_of_clips(model, variables, rows, seconds):
    shape = jax.ShapeDtypeStruct((rows, round(16_000 * seconds)), jnp.float32)
    return work_of(forward_of(model), variables, shape)


def measure_encoder_student(settings):
    from emojax.encoders import ComputeOptions, load_encoder
    from emojax.models import EmotionModel, EncoderPart, count_parameters, example_batch

    acoustic = settings.acoustic
    encoder = load_encoder(acoustic.checkpoint, ComputeOptions(), keep_layers=acoustic.keep_layers)
    model = EmotionModel(settings, 0, {"acoustic": EncoderPart.of(encoder)})
    variables = jax.jit(model.init)(jax.random.key(0), example_batch(model, ("acoustic",)))
    variables["params"]["acoustic"]["encoder"] = encoder.params
    predict = jax.jit(forward_of(model))
    jitted = lambda waveform: jax.block_until_ready(predict(variables, jnp.asarray(waveform)))  # noqa: E731
    work = work_of_clips(model, variables, 1, 10)
    machine = print_machine(work.products)
    results = {"parameters": count_parameters(variables["params"]), "flops_per_second": work.flops / 10}
    results["machine"] = machine
    print(f"{results['parameters']:,} parameters; {work.flops / 1e7:.1f} MFLOP per second of audio")
    print("| one core | emojax | share of ceiling | times real time |\n|---|---|---|---|")
    for title, rows in (("one clip of 10 s", 1), ("32 clips of 10 s", 32)):
        times = take_turns({"emojax": jitted}, lambda number, rows=rows: clips(number, rows, 10), _ROUNDS.value)
        spent = times["emojax"]
        found = {"wall": medians(times)["emojax"], "processor": statistics.median(each.processor for each in spent)}
        for clock, seconds in found.items():
            of_ceiling = share(rows * work.flops, seconds, machine)
            real_time = rows * 10 / seconds
            print(f"| {title}, {clock} time | {1e3 * seconds:.1f} ms | {100 * of_ceiling:.0f} % | {real_time:.0f} |")
        results[title] = found
    return results


def measure_inference(model, variables, peer, predictor):
    import torch

    import emojax

    predict = jax.jit(forward_of(model))
    jitted = lambda waveform: jax.block_until_ready(predict(variables, jnp.asarray(waveform)))  # noqa: E731
    eager = torch.inference_mode()(lambda waveform: peer(torch.from_numpy(waveform)).numpy())
    difference = np.abs(np.asarray(jitted(clips(0, 2, 3))) - eager(clips(0, 2, 3))).max()
    work = work_of_clips(model, variables, 32, 10)
    machine = print_machine(work.products)
    flops = work.flops / 320
    print(f"largest difference from PyTorch {difference:.1e}; {flops / 1e6:.1f} MFLOP per second of audio")
    results = {"machine": machine, "difference": float(difference), "flops_per_second": flops}
    print("| one core | emojax | share of ceiling | PyTorch | ONNX Runtime | best peer over emojax | times real time |")
    print("|---|---|---|---|---|---|---|")
    for title, rows in (("32 clips of 10 s", 32), ("one clip of 10 s", 1)):
        sides = {"emojax": jitted, "torch": eager, "onnx": onnx_session(peer, rows, 10)}
        found = medians(take_turns(sides, lambda number, rows=rows: clips(number, rows, 10), _ROUNDS.value))
        shown = {side: f"{1e3 * seconds:.1f} ms" for side, seconds in found.items()}
        more = {
            "share": share(10 * rows * flops, found["emojax"], machine),
            "ratio": min(found["torch"], found["onnx"]) / found["emojax"],
            "real_time": rows * 10 / found["emojax"],
        }
        print(
            f"| {title} | {shown['emojax']} | {100 * more['share']:.0f} % | {shown['torch']} | {shown['onnx']} | "
            f"{more['ratio']:.2f} | {more['real_time']:.0f} |",
            flush=True,
        )
        results[title] = found | more
    results["predict"] = measure_overhead(jitted, predictor)
    stream, chunk = emojax.Stream(predictor), clips(1, 1, 60)[0]
    for warm in range(20):
        stream(chunk[warm * 1600 : (warm + 1) * 1600])
    times = []
    for number in range(500):
        start = time.perf_counter()
        stream(chunk[number * 1600 : (number + 1) * 1600])
        times.append(time.perf_counter() - start)
    median = statistics.median(times)
    print(f"| stream, 100 ms at a time | {1e3 * median:.2f} ms | | | | | {0.1 / median:.0f} |")
    results["stream"] = {"emojax": median, "real_time": 0.1 / median}
    return results


def measure_overhead(jitted, predictor):
    """`predict` of one clip beside the program it calls, on the clip with the zeros that it adds."""
    found = {}
    for seconds in (1, 5, 10):
        padded = predictor.shapes.up_to(16_000 * seconds, 1)[-1][1]

        def program(waveform, padded=padded):
            jitted(np.pad(waveform, ((0, 0), (0, padded - waveform.shape[1]))))

        sides = {"predict": lambda waveform: predictor.predict(waveform[0], 16_000), "program": program}
        times = medians(take_turns(sides, lambda number, seconds=seconds: clips(number, 1, seconds), 4 * _ROUNDS.value))
        found[seconds] = times
        print(
            f"| `predict`, one clip of {seconds} s | {1e3 * times['predict']:.2f} ms, of which "
            f"{1e3 * (times['predict'] - times['program']):.2f} are not its program's | | | | | |",
            flush=True,
        )
    return found


def measure_training(model, variables, peer):
    import torch

    from benchmarks import torch_tcgru
    from emojax.losses import ccc_loss

    def loss(params, waveform, labels):
        output = model.apply({**variables, "params": params}, batch_of(waveform), train=True)
        return ccc_loss(output.attributes, labels, jnp.ones(len(labels))).mean()

    gradient = jax.jit(jax.grad(loss))

    def fresh(number):
        return clips(number, 32, 5), np.random.default_rng(number).uniform(size=(32, 3)).astype(np.float32)

    def ours(inputs):
        jax.block_until_ready(gradient(variables["params"], *map(jnp.asarray, inputs)))

    def theirs(inputs):
        peer.zero_grad()
        waveform, labels = map(torch.from_numpy, inputs)
        torch_tcgru.ccc_loss(peer(waveform), labels).backward()

    work = work_of(jax.grad(loss), variables["params"], *fresh(0))
    machine = print_machine(work.products)
    found = medians(take_turns({"emojax": ours, "torch": theirs}, fresh, _ROUNDS.value))
    more = {
        "ratio": found["torch"] / found["emojax"],
        "share": share(work.flops, found["emojax"], machine),
        "flops": work.flops,
        "machine": machine,
    }
    print("| gradient, 32 x 5 s | emojax | share of ceiling | PyTorch | PyTorch over emojax |\n|---|---|---|---|---|")
    print(
        f"| | {1e3 * found['emojax']:.0f} ms | {100 * more['share']:.0f} % | {1e3 * found['torch']:.0f} ms | "
        f"{more['ratio']:.2f} |"
    )
    return {"step": found | more}


def onnx_session(peer, rows, seconds):
    import onnxruntime
    import torch

    folder = tempfile.mkdtemp()
    path = str(Path(folder) / "student.onnx")
    inputs = torch.zeros(rows, round(16_000 * seconds))
    logging.disable(logging.WARNING)
    torch.onnx.export(peer, (inputs,), path, input_names=["waveform"], dynamo=True, verbose=False)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = cores()
    session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    return lambda waveform: session.run(None, {"waveform": waveform})


if __name__ == "__main__":
    app.run(main)
