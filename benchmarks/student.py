"""Students beside PyTorch and ONNX Runtime running the same weights: training step, offline and streaming inference.

  python -m benchmarks.student --config=configs/student_s.py [--part=infer|train]

`infer` holds the process on one core and measures 32 clips of 10 s at once, one clip of 10 s, and a stream in chunks of
100 ms; `train` uses every core and measures forward and backward pass from 32 waveforms of 5 s, with the CCC loss.
Everything starts from waveforms. Random weights, fresh inputs in every call, sides in turn, medians. The twin in
PyTorch has the same outputs (the largest difference is printed); ONNX Runtime runs PyTorch's export of it. A student
with a speech encoder (configs/student_l.py, published weights) has no twin and no stream: `infer` measures emojax
alone, and the processor time of one clip, which other processes on the machine hardly change.
"""

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

from benchmarks.steps import batch_of, clips

_CONFIG = config_flags.DEFINE_config_file("config", "configs/student_s.py", "Student.")
_PART = flags.DEFINE_enum("part", "infer", ["infer", "train"], "What to measure.")
_ROUNDS = flags.DEFINE_integer("rounds", 15, "Measurements of each side, in turn.")
_JSON = flags.DEFINE_string("json", "", "Also write the numbers there.")


def main(argv):
    from emojax.parallel import keep_freed_memory

    if _PART.value == "train":
        keep_freed_memory()  # as launch.py does; both sides have it
    from emojax.config import parse_experiment
    from emojax.inference import Predictor
    from emojax.models import EmotionModel, count_parameters, example_batch
    from emojax.types import CorpusInfo
    from emojax.workdir import TrainedModel, unknown_labels

    config = parse_experiment(_CONFIG.value.to_dict())
    if config.model.encoder_modalities:
        write_results(measure_encoder_student(config.model))
        return
    info = CorpusInfo("none", (0.0, 1.0), (), "recorded", "rated", "", "")
    model = EmotionModel(config.model, 0)
    variables = model.init(jax.random.key(0), example_batch(model))
    twin = TorchStudent(config.model.log_mel, variables)
    results = {"parameters": count_parameters(variables["params"]), "cores": len(os.sched_getaffinity(0))}
    print(f"{results['parameters']:,} parameters, {results['cores']} core(s)")
    if _PART.value == "train":
        results |= measure_training(model, variables, twin)
    else:
        trained = TrainedModel(None, config, unknown_labels(info), model, variables, 0, ())
        results |= measure_inference(model, variables, twin, Predictor(trained))
    write_results(results)


def write_results(results):
    if _JSON.value:
        Path(_JSON.value).write_text(json.dumps(results, indent=2))


def measure_encoder_student(settings):
    from emojax.encoders import ComputeOptions, load_encoder
    from emojax.models import EmotionModel, EncoderPart, count_parameters, example_batch

    acoustic = settings.acoustic
    encoder = load_encoder(acoustic.checkpoint, ComputeOptions(), keep_layers=acoustic.keep_layers)
    model = EmotionModel(settings, 0, {"acoustic": EncoderPart.of(encoder)})
    variables = jax.jit(model.init)(jax.random.key(0), example_batch(model, ("acoustic",)))
    variables["params"]["acoustic"]["encoder"] = encoder.params
    predict = jax.jit(lambda variables, waveform: model.apply(variables, batch_of(waveform)).attributes)
    jitted = lambda waveform: jax.block_until_ready(predict(variables, jnp.asarray(waveform)))  # noqa: E731
    flops = predict.lower(variables, clips(0, 1, 10)).compile().cost_analysis()["flops"]
    results = {"parameters": count_parameters(variables["params"]), "mflops_per_second": flops / 1e7}
    print(f"{results['parameters']:,} parameters; {flops / 1e7:.1f} MFLOP per second of audio")
    times = []
    for number in range(_ROUNDS.value + 1):  # the first compiles
        clip, start = clips(number, 1, 10), time.process_time()
        jitted(clip)
        times.append(time.process_time() - start)
    processor = results["processor"] = statistics.median(times[1:])
    print(f"| one clip of 10 s, processor time | {1e3 * processor:.1f} ms | {10 / processor:.0f} |", flush=True)
    for title, rows in (("one clip of 10 s", 1), ("32 clips of 10 s", 32)):
        medians = timed({"emojax": jitted}, lambda number, rows=rows: clips(number, rows, 10))
        results[title] = medians | {"real_time": rows * 10 / medians["emojax"]}
        print(f"| {title} | {1e3 * medians['emojax']:.1f} ms | {results[title]['real_time']:.0f} |", flush=True)
    return results


def measure_inference(model, variables, twin, predictor):
    import torch

    import emojax

    torch.set_num_threads(1)
    predict = jax.jit(lambda variables, waveform: model.apply(variables, batch_of(waveform)).attributes)
    jitted = lambda waveform: jax.block_until_ready(predict(variables, jnp.asarray(waveform)))  # noqa: E731
    eager = torch.inference_mode()(lambda waveform: twin(torch.from_numpy(waveform)).numpy())
    difference = np.abs(np.asarray(jitted(clips(0, 2, 3))) - eager(clips(0, 2, 3))).max()
    flops = predict.lower(variables, clips(0, 1, 10)).compile().cost_analysis()["flops"]
    print(f"largest difference from PyTorch {difference:.1e}; {flops / 10 / 1e6:.1f} MFLOP per second of audio")
    results = {"difference": float(difference), "mflops_per_second": flops / 1e7}
    print("| one core | emojax | PyTorch | ONNX Runtime | emojax times real time |\n|---|---|---|---|---|")
    for title, rows in (("32 clips of 10 s", 32), ("one clip of 10 s", 1)):
        onnx = onnx_session(twin, rows, 10)
        sides = {"emojax": jitted, "torch": eager, "onnx": onnx}
        medians = timed(sides, lambda number, rows=rows: clips(number, rows, 10))
        real_time = rows * 10 / medians["emojax"]
        print(
            f"| {title} | {1e3 * medians['emojax']:.1f} ms | {1e3 * medians['torch']:.1f} ms | "
            f"{1e3 * medians['onnx']:.1f} ms | {real_time:.0f} |",
            flush=True,
        )
        results[title] = medians | {"real_time": real_time}
    stream, chunk = emojax.Stream(predictor), clips(1, 1, 60)[0]
    for warm in range(20):
        stream(chunk[warm * 1600 : (warm + 1) * 1600])
    times = []
    for number in range(500):
        start = time.perf_counter()
        stream(chunk[number * 1600 : (number + 1) * 1600])
        times.append(time.perf_counter() - start)
    median = statistics.median(times)
    print(f"| stream, 100 ms at a time | {1e3 * median:.2f} ms | | | {0.1 / median:.0f} |")
    results["stream"] = {"emojax": median, "real_time": 0.1 / median}
    return results


def measure_training(model, variables, twin):
    import torch

    from emojax.losses import ccc_loss

    def loss(params, waveform, labels):
        output = model.apply({**variables, "params": params}, batch_of(waveform), train=True)
        return ccc_loss(output.attributes, labels, jnp.ones(len(labels))).mean()

    gradient = jax.jit(jax.grad(loss))

    def ours(inputs):
        jax.block_until_ready(gradient(variables["params"], *map(jnp.asarray, inputs)))

    def theirs(inputs):
        twin.zero_grad()
        waveform, labels = map(torch.from_numpy, inputs)
        predicted = twin(waveform)
        mean, centre = predicted.mean(0), labels.mean(0)
        covariance = ((predicted - mean) * (labels - centre)).mean(0)
        variance = predicted.var(0, unbiased=False) + labels.var(0, unbiased=False)
        (1 - 2 * covariance / (variance + (mean - centre) ** 2)).mean().backward()

    def fresh(number):
        return clips(number, 32, 5), np.random.default_rng(number).uniform(size=(32, 3)).astype(np.float32)

    medians = timed({"emojax": ours, "torch": theirs}, fresh)
    ratio = medians["torch"] / medians["emojax"]
    print("| training step, 32 x 5 s | emojax | PyTorch | PyTorch over emojax |\n|---|---|---|---|")
    print(f"| | {1e3 * medians['emojax']:.0f} ms | {1e3 * medians['torch']:.0f} ms | {ratio:.2f} |")
    return {"step": medians | {"ratio": ratio}}


def timed(sides, fresh):
    """Median seconds of each side over the rounds, after two calls to warm up."""
    times = {name: [] for name in sides}
    for number in range(_ROUNDS.value + 2):
        inputs = fresh(number)
        for name, side in sides.items():
            start = time.perf_counter()
            side(inputs)
            times[name].append(time.perf_counter() - start)
    return {name: statistics.median(found[2:]) for name, found in times.items()}


def onnx_session(twin, rows, seconds):
    import onnxruntime
    import torch

    folder = tempfile.mkdtemp()
    path = str(Path(folder) / "student.onnx")
    inputs = torch.zeros(rows, round(16_000 * seconds))
    logging.disable(logging.WARNING)
    torch.onnx.export(twin, (inputs,), path, input_names=["waveform"], dynamo=True, verbose=False)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = len(os.sched_getaffinity(0))
    session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    return lambda waveform: session.run(None, {"waveform": waveform})


def TorchStudent(settings, variables):
    """The same model in PyTorch: its own STFT, convolution and GRU."""
    import torch
    from torch import nn

    from emojax.audio.mel_scale import mel_filterbank

    bank = settings.filterbank
    mel = mel_filterbank(bank.bands)
    params = jax.tree.map(lambda leaf: torch.from_numpy(np.array(leaf)), variables["params"])
    network, sizes = params["log_mel_network"], settings.network
    statistics_of = jax.tree.map(lambda leaf: torch.from_numpy(np.array(leaf)), variables["statistics"]["log_mel"])

    class Twin(nn.Module):
        def __init__(self):
            super().__init__()
            self.register_buffer("mel", torch.from_numpy(mel.astype(np.float32)))
            self.register_buffer("window", torch.hann_window(bank.window_samples))
            self.register_buffer("mean", statistics_of["mean"])
            self.register_buffer("std", statistics_of["std"])
            features = bank.num_bands * settings.stack
            if sizes.conv_channels:
                self.convolution = nn.Conv1d(features, sizes.conv_channels, sizes.conv_kernel)
                own = network["convolution"]["Conv_0"]
                self.convolution.weight.data = own["kernel"].permute(2, 1, 0).contiguous()
                self.convolution.bias.data = own["bias"]
                features += sizes.conv_channels
            if sizes.block_dilations:
                self.to_blocks = dense(network["to_blocks"])
                self.blocks = nn.ModuleList(
                    Block(network[f"blocks_{number}"], dilation)
                    for number, dilation in enumerate(sizes.block_dilations)
                )
            self.gru = nn.ModuleList()
            for number in range(sizes.gru_layers):
                layer = nn.GRU(features, sizes.gru_size, batch_first=True)
                own = network[f"gru_{number}"]
                layer.weight_ih_l0.data, layer.weight_hh_l0.data = (
                    own["kernel_ih"].T.contiguous(),
                    own["kernel_hh"].T.contiguous(),
                )
                layer.bias_ih_l0.data, layer.bias_hh_l0.data = own["bias_ih"], own["bias_hh"]
                self.gru.append(layer)
                features = sizes.gru_size
            self.embedding = dense(network["embedding"])
            self.heads = dense(params["heads"]["attributes"])

        def forward(self, waveform):
            # One frame covers the window alone; torch centres it in the transform, whose power does not see that.
            padding = bank.fft_size - bank.window_samples
            waveform = nn.functional.pad(waveform, (padding // 2, padding - padding // 2))
            sizes_of = bank.fft_size, bank.hop_samples, bank.window_samples
            spectrum = torch.stft(waveform, *sizes_of, self.window, center=False, return_complex=True)
            power = spectrum.real.square() + spectrum.imag.square()
            energies = torch.log(torch.clamp(power.transpose(1, 2) @ self.mel, min=bank.floor))
            frames = (energies - self.mean) / self.std
            stacks = frames.shape[1] // settings.stack
            frames = frames[:, : stacks * settings.stack].reshape(frames.shape[0], stacks, -1)
            if sizes.conv_channels:
                padded = nn.functional.pad(frames.transpose(1, 2), (sizes.conv_kernel - 1, 0))
                frames = torch.cat([torch.relu(self.convolution(padded)).transpose(1, 2), frames], dim=-1)
            if sizes.block_dilations:
                frames = self.to_blocks(frames)
                for block in self.blocks:
                    frames = block(frames)
            for layer in self.gru:
                frames, _ = layer(frames)
            mean = frames.mean(1)
            deviation = torch.sqrt((frames - mean[:, None]).square().mean(1) + 1e-10)
            return self.heads(self.embedding(torch.cat([mean, deviation], dim=-1)))

    class Block(nn.Module):
        def __init__(self, own, dilation):
            super().__init__()
            channels, kernel = own["depthwise"].shape[1], own["depthwise"].shape[0]
            self.reach = (kernel - 1) * dilation
            self.norm = nn.LayerNorm(channels, eps=1e-5)
            self.norm.weight.data, self.norm.bias.data = own["LayerNorm_0"]["scale"], own["LayerNorm_0"]["bias"]
            self.depthwise = nn.Conv1d(channels, channels, kernel, dilation=dilation, groups=channels)
            self.depthwise.weight.data = own["depthwise"].T[:, None].contiguous()
            self.depthwise.bias.data = own["bias"]
            self.dense = dense(own["dense"])

        def forward(self, frames):
            padded = nn.functional.pad(self.norm(frames).transpose(1, 2), (self.reach, 0))
            hidden = nn.functional.gelu(self.depthwise(padded).transpose(1, 2), approximate="tanh")
            return frames + self.dense(hidden)

    def dense(own):
        layer = nn.Linear(*own["kernel"].shape)
        layer.weight.data, layer.bias.data = own["kernel"].T.contiguous(), own["bias"]
        return layer

    return Twin()


if __name__ == "__main__":
    app.run(main)
