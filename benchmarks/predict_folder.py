"""A folder of mixed clips: the command `predict` beside a loop with transformers and audinterface with audonnx.

    python -m benchmarks.predict_folder --clips=500 [--hidden=128] [--layers=4] [--json=FILE]

One random wav2vec 2.0 with mean pooling and three outputs, imported by `--mode=import`, is computed by every side: by
PyTorch in a plain loop over files (soundfile, soxr, one clip at a time, `inference_mode`), by ONNX Runtime inside
audonnx and audinterface's `process_files` (with as many threads as there are cores), and by emojax. Clips have lengths
from 0.5 to 20 s, most of them short, rates of 8 to 48 kHz, one or two channels, as WAV, FLAC and Ogg. Every side is a
process of its own that writes a CSV file; times are from its start to its end, imports, loading and compilation
included, and, in the second column, without its imports. emojax runs twice: with an empty compilation cache, and with
the one of the first run. The largest difference of outputs from PyTorch's is printed; ratios above 1: emojax is faster.
Needs `pip install -r requirements-benchmarks.txt`; a side whose packages are absent is skipped.
"""

import argparse
import csv
import importlib.util
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

RATE = 16_000
NAMES = ("activation", "dominance", "valence")
LABELS = {"0": "arousal", "1": "dominance", "2": "valence"}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--clips", type=int, default=500)
    parser.add_argument("--hidden", type=int, default=128, help="hidden size of the encoder")
    parser.add_argument("--layers", type=int, default=4)
    parser.add_argument("--workers", type=int, default=None, help="decoding processes of emojax (default: its own)")
    parser.add_argument("--json", type=Path)
    parser.add_argument("--side", choices=sorted(SIDES), help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.side:
        SIDES[options.side](options.folder, options)
        return
    with tempfile.TemporaryDirectory() as folder:
        results = measure(Path(folder), options)
    if options.json:
        options.json.write_text(json.dumps(results, indent=2))


def measure(folder: Path, options: argparse.Namespace) -> dict[str, Any]:
    seconds = write_clips(folder / "clips", options.clips)
    write_model(folder, options.hidden, options.layers)
    print(f"{options.clips} clips, {seconds / 60:.1f} minutes, {len(os.sched_getaffinity(0))} cores", flush=True)
    results: dict[str, Any] = {"clips": options.clips, "audio_seconds": seconds}
    order = ["transformers", "audonnx", "emojax", "emojax_cached"]
    if importlib.util.find_spec("audonnx") is None or importlib.util.find_spec("audinterface") is None:
        print("audonnx or audinterface is not installed: skipped")
        order.remove("audonnx")
    for name in order:
        results[name] = run_side(name, folder, options)
    expected = read_rows(folder / "transformers.csv")
    for name in order:
        found = read_rows(folder / f"{name}.csv")
        assert found.keys() == expected.keys(), f"{name}: other files"
        results[name]["largest_difference"] = max(float(np.abs(found[key] - expected[key]).max()) for key in expected)
    for name in order:
        one = results[name]
        ratios = [one["seconds"] / results[ours]["seconds"] for ours in ("emojax", "emojax_cached")]
        print(
            f"{name:14} {one['seconds']:7.1f} s  {one['computing_seconds']:7.1f} s  {one['cpu_seconds']:7.1f} CPU s  "
            f"over emojax {ratios[0]:.2f}, cached {ratios[1]:.2f}  difference {one['largest_difference']:.0e}"
        )
        one["over_emojax"], one["over_emojax_cached"] = ratios
    return results


def run_side(name: str, folder: Path, options: argparse.Namespace) -> dict[str, float]:
    command = [sys.executable, "-m", "benchmarks.predict_folder", f"--side={name}", f"--folder={folder}"]
    command += [] if options.workers is None else [f"--workers={options.workers}"]
    environment = os.environ | {"JAX_COMPILATION_CACHE_DIR": str(folder / "cache")}
    start, before = time.perf_counter(), os.times()
    subprocess.run(command, check=True, env=environment)
    after = os.times()
    cpu = after.children_user + after.children_system - before.children_user - before.children_system
    computing = json.loads((folder / f"{name}.json").read_text())
    return {"seconds": time.perf_counter() - start, "computing_seconds": computing, "cpu_seconds": cpu}


def write_clips(folder: Path, count: int) -> float:
    """Writes clips of noise bursts; returns their total duration (s)."""
    import soundfile

    folder.mkdir()
    random, total = np.random.default_rng(0), 0.0
    for number in range(count):
        seconds = float(np.clip(random.lognormal(1.0, 0.7), 0.5, 20))
        rate = int(random.choice([8_000, 16_000, 16_000, 22_050, 44_100, 48_000]))
        channels = int(random.choice([1, 1, 2]))
        suffix = str(random.choice(["wav", "flac", "ogg"]))
        envelope = 0.05 + 0.05 * np.sin(np.arange(round(seconds * rate)) / rate * 12)
        samples = envelope[:, None] * random.normal(size=(len(envelope), channels))
        soundfile.write(folder / f"{number:04d}.{suffix}", samples, rate)
        total += seconds
    return total


def write_model(folder: Path, hidden: int, layers: int) -> None:
    """Writes a checkpoint, the workdir imported from it, and the ONNX model."""
    import safetensors.torch
    import torch

    from configs import published
    from emojax.config import parse_experiment
    from emojax.importers import import_published

    model = torch_model(hidden, layers)
    checkpoint = folder / "checkpoint"
    checkpoint.mkdir()
    tensors = {name: values.contiguous() for name, values in model.state_dict().items()}
    safetensors.torch.save_file(tensors, checkpoint / "model.safetensors")
    tree = model.wav2vec2.config.to_dict() | {"id2label": LABELS, "pooling_mode": "mean"}
    (checkpoint / "config.json").write_text(json.dumps(tree))
    settings = {"feature_size": 1, "sampling_rate": RATE, "do_normalize": True}
    (checkpoint / "preprocessor_config.json").write_text(json.dumps(settings))
    config = published.get_config()
    config.model.acoustic.checkpoint = str(checkpoint)
    import_published(parse_experiment(config.to_dict()), folder / "workdir")
    torch.save({"hidden": hidden, "layers": layers}, folder / "sizes.pt")
    if importlib.util.find_spec("audonnx") is not None:
        torch.onnx.export(
            normalised(model),
            (torch.zeros(1, 3 * RATE),),
            folder / "model.onnx",
            input_names=["signal"],
            output_names=["attributes"],
            dynamic_shapes={"signal": {1: torch.export.Dim("samples", min=RATE // 4, max=64 * RATE)}},
            dynamo=True,
            verbose=False,
        )


def torch_model(hidden: int, layers: int) -> Any:
    """The model of Wagner et al. (2023) with random weights: mean of the last hidden states, dense, tanh, dense."""
    import torch
    import transformers

    config = transformers.Wav2Vec2Config(
        hidden_size=hidden,
        num_hidden_layers=layers,
        num_attention_heads=max(hidden // 64, 1),
        intermediate_size=4 * hidden,
        conv_dim=(hidden,) * 7,
        feat_extract_norm="layer",
        do_stable_layer_norm=True,
        conv_bias=True,
    )

    class Model(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.wav2vec2 = transformers.Wav2Vec2Model(config)
            self.classifier = torch.nn.ModuleDict(
                {"dense": torch.nn.Linear(hidden, hidden), "out_proj": torch.nn.Linear(hidden, 3)}
            )

        def forward(self, waveform: Any) -> Any:
            pooled = self.wav2vec2(waveform).last_hidden_state.mean(dim=1)
            return self.classifier["out_proj"](torch.tanh(self.classifier["dense"](pooled)))

    torch.manual_seed(0)
    return Model().eval()


def normalised(model: Any) -> Any:
    """The model with the normalisation of its feature extractor, as one graph."""
    import torch

    class Graph(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.model = model

        def forward(self, signal: Any) -> Any:
            deviation = signal - signal.mean(dim=1, keepdim=True)
            return self.model(deviation / torch.sqrt(deviation.square().mean(dim=1, keepdim=True) + 1e-7))

    return Graph().eval()


def with_transformers(folder: Path, options: argparse.Namespace) -> None:
    import safetensors.torch
    import soundfile
    import soxr
    import torch
    import transformers

    start = time.perf_counter()
    model = torch_model(**torch.load(folder / "sizes.pt"))
    model.load_state_dict(safetensors.torch.load_file(folder / "checkpoint" / "model.safetensors"))
    extractor = transformers.Wav2Vec2FeatureExtractor.from_pretrained(folder / "checkpoint")
    rows = {}
    with torch.inference_mode():
        for path in sorted((folder / "clips").iterdir()):
            samples, rate = soundfile.read(path, dtype="float32", always_2d=True)
            mono = samples.mean(axis=1)
            mono = mono if rate == RATE else soxr.resample(mono, rate, RATE, quality="HQ")
            inputs = extractor(mono, sampling_rate=RATE, return_tensors="pt")
            rows[path.name] = model(inputs.input_values)[0].tolist()
    write_rows(folder / "transformers.csv", rows)
    finish(folder, "transformers", start)


def with_audonnx(folder: Path, options: argparse.Namespace) -> None:
    import audinterface
    import audonnx

    start = time.perf_counter()
    model = audonnx.Model(str(folder / "model.onnx"), num_workers=len(os.sched_getaffinity(0)))
    process = audinterface.Process(
        process_func=lambda signal, rate: model(signal, rate).reshape(3),
        sampling_rate=RATE,
        resample=True,
        mixdown=True,
    )
    files = sorted(map(str, (folder / "clips").iterdir()))
    found = process.process_files(files)
    rows = {Path(file).name: values.tolist() for (file, *_), values in found.items()}
    write_rows(folder / "audonnx.csv", rows)
    finish(folder, "audonnx", start)


def with_emojax(name: str, folder: Path, options: argparse.Namespace) -> None:
    from emojax.__main__ import main as command

    start = time.perf_counter()
    arguments = ["predict", str(folder / "workdir"), str(folder / "clips"), f"--output={folder / 'rows.csv'}"]
    arguments += [] if options.workers is None else [f"--workers={options.workers}"]
    assert command(arguments, own_process=True) == 0
    with (folder / "rows.csv").open() as file:
        rows = {Path(row["file"]).name: [float(row[each]) for each in NAMES] for row in csv.DictReader(file)}
    write_rows(folder / f"{name}.csv", rows)
    finish(folder, name, start)


SIDES = {
    "transformers": with_transformers,
    "audonnx": with_audonnx,
    "emojax": lambda *arguments: with_emojax("emojax", *arguments),
    "emojax_cached": lambda *arguments: with_emojax("emojax_cached", *arguments),
}


def write_rows(path: Path, rows: dict[str, list[float]]) -> None:
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["file", *NAMES])
        writer.writerows([name, *values] for name, values in rows.items())


def read_rows(path: Path) -> dict[str, np.ndarray]:
    with path.open() as file:
        return {row["file"]: np.array([float(row[each]) for each in NAMES]) for row in csv.DictReader(file)}


def finish(folder: Path, name: str, start: float) -> None:
    (folder / f"{name}.json").write_text(json.dumps(time.perf_counter() - start))


if __name__ == "__main__":
    main()
