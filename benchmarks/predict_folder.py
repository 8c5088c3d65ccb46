"""A folder of mixed clips: the command `predict` beside audinterface with audonnx and a loop with transformers.

    python -m benchmarks.predict_folder --clips=500 [--few=50] [--hidden=128] [--layers=4] [--plain] [--json=FILE]
    python -m benchmarks.predict_folder --clips=500 --workdir=runs/student

Every side computes the same model on the same cores: a random wav2vec 2.0 with mean pooling and three outputs, imported
by `--mode=import`, or with --workdir a trained model, exported to ONNX as `--mode=export` does. The sides: PyTorch in a
plain loop over files (soundfile, soxr, one clip at a time, `inference_mode`; wav2vec 2.0 only), ONNX Runtime inside
audonnx and audinterface's `process_files` (with as many threads as there are cores), emojax with an empty cache and
with the cache of that run, and a loop that decodes and resamples by soundfile and soxr and computes nothing, which no
side can be faster than. Clips have lengths from 0.5 to 20 s, most of them short, rates of 8 to 48 kHz, one or two
channels, as WAV, FLAC and Ogg; with --plain all are WAV of 16 kHz.

Every side is a process of its own that writes a CSV file, run once with a few clips and once with all. Printed are
times of the second run from its start to its end, and its division into the time per clip (the difference of both runs)
and the start (imports, loading, programs). Ratios are those of processor time; above 1: emojax with a cache is faster.
The largest difference of outputs from the first side's is printed, and the processor time that the network alone takes
per clip at the ceiling (`benchmarks.machine`), a lower bound without decoding. Needs
`pip install -r requirements-benchmarks.txt`; a side whose packages are absent is skipped.
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
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.machine import print_machine

RATE = 16_000
NAMES = ("activation", "dominance", "valence")
LABELS = {"0": "arousal", "1": "dominance", "2": "valence"}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--clips", type=int, default=500)
    parser.add_argument("--few", type=int, default=50, help="clips of the first run of each side")
    parser.add_argument("--workdir", type=Path, help="trained model in place of a random wav2vec 2.0")
    parser.add_argument("--plain", action="store_true", help="clips are WAV of 16 kHz")
    parser.add_argument("--hidden", type=int, default=128, help="hidden size of the encoder")
    parser.add_argument("--layers", type=int, default=4)
    parser.add_argument("--sides", nargs="+", choices=sorted(SIDES), help="default: all whose packages are installed")
    parser.add_argument("--workers", type=int, default=None, help="decoding processes of emojax (default: its own)")
    parser.add_argument("--json", type=Path)
    parser.add_argument("--side", choices=sorted(SIDES), help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--input", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.side:
        SIDES[options.side](options.folder, options)
        return
    with tempfile.TemporaryDirectory() as folder:
        results = measure(Path(folder), options)
    if options.json:
        options.json.write_text(json.dumps(results, indent=2))


def measure(folder: Path, options: argparse.Namespace) -> dict[str, Any]:
    seconds = write_clips(folder / "clips", options.clips, options.plain)
    (folder / "few").mkdir()
    for path in sorted((folder / "clips").iterdir())[: options.few]:
        (folder / "few" / path.name).symlink_to(path)
    if options.workdir is None:
        write_model(folder, options.hidden, options.layers)
    else:
        export_model(folder, options.workdir)
    machine, per_second = network_bound(folder)
    print(f"{options.clips} clips, {seconds / 60:.1f} minutes", flush=True)
    bound = per_second * seconds / options.clips
    print(f"network at the ceiling: {1e3 * bound:.2f} CPU ms per clip", flush=True)
    results: dict[str, Any] = {"machine": machine, "network_cpu_per_clip": bound}
    results |= {"clips": options.clips, "few": options.few, "audio_seconds": seconds}
    for name in options.sides or sides(options):
        all_clips = run_side(name, folder, "clips", options)
        few = run_side(name, folder, "few", options)  # of emojax_empty: the programs of the few
        results[name] = divided(all_clips, few if name != "emojax_empty" else None, options)
    computing = [name for name in SIDES if name in results and (folder / f"{name}.csv").exists()]
    expected = read_rows(folder / f"{computing[0]}.csv")
    print(
        "| side | s | CPU s | start, CPU s | ms per clip | CPU ms per clip | over emojax | per clip | difference |\n"
        "|---|---|---|---|---|---|---|---|---|"
    )
    ours = results.get("emojax", {})
    for name in [name for name in SIDES if name in results]:
        one, difference = results[name], ""
        if name in computing:
            found = read_rows(folder / f"{name}.csv")
            assert found.keys() == expected.keys(), f"{name}: other files"
            one["largest_difference"] = max(float(np.abs(found[key] - expected[key]).max()) for key in expected)
            difference = f"{one['largest_difference']:.0e}"
        cells = [f"{one['seconds']:.1f}", f"{one['cpu_seconds']:.1f}"]
        if "cpu_per_clip" in one:
            cells += [f"{one['cpu_start']:.1f}", f"{1e3 * one['per_clip']:.2f}", f"{1e3 * one['cpu_per_clip']:.2f}"]
        cells += [""] * (5 - len(cells))
        for key in ("cpu_seconds", "cpu_per_clip"):
            one[f"{key}_over_emojax"] = one[key] / ours[key] if key in one and key in ours else None
            cells.append(f"{one[f'{key}_over_emojax']:.2f}" if one[f"{key}_over_emojax"] else "")
        print(f"| {' | '.join([name, *cells, difference])} |", flush=True)
    return results


def network_bound(folder: Path) -> tuple[dict[str, Any], float]:
    """The ceiling, and processor seconds of the network per second of audio at this speed."""
    import jax

    from benchmarks.steps import batch_of
    from benchmarks.work import work_of
    from emojax.inference import load

    trained = load(folder / "workdir").trained
    clip = jax.ShapeDtypeStruct((1, 10 * RATE), np.float32)
    work = work_of(lambda *inputs: trained.model.apply(inputs[0], batch_of(inputs[1])), trained.variables, clip)
    machine = print_machine(work.products)
    return machine, machine["cores"] * work.flops / 10 / (1e9 * machine["ceiling"])


def sides(options: argparse.Namespace) -> list[str]:
    """Sides whose packages are installed, in the order of their runs."""
    found = ["audonnx", "emojax_empty", "emojax", "decoding"]
    if importlib.util.find_spec("audonnx") is None or importlib.util.find_spec("audinterface") is None:
        print("audonnx or audinterface is not installed: skipped")
        found.remove("audonnx")
    return found if options.workdir else ["transformers", *found]


def divided(all_clips: dict[str, float], few: dict[str, float] | None, options: argparse.Namespace) -> dict[str, float]:
    """Times of a side, with the time per clip and the rest."""
    found = {"seconds": all_clips["seconds"], "cpu_seconds": all_clips["cpu_seconds"]}
    if few is None or options.clips <= options.few:
        return found
    for key, name in (("seconds", ""), ("cpu_seconds", "cpu_")):
        found[f"{name}per_clip"] = (all_clips[key] - few[key]) / (options.clips - options.few)
        found[f"{name}start"] = all_clips[key] - options.clips * found[f"{name}per_clip"]
    return found


def run_side(name: str, folder: Path, clips: str, options: argparse.Namespace) -> dict[str, float]:
    command = [sys.executable, "-m", "benchmarks.predict_folder", f"--side={name}", f"--folder={folder}"]
    command += [f"--input={folder / clips}"]
    command += [] if options.workers is None else [f"--workers={options.workers}"]
    environment = os.environ | {"JAX_COMPILATION_CACHE_DIR": str(folder / "cache")}
    start, before = time.perf_counter(), os.times()
    subprocess.run(command, check=True, env=environment)
    after = os.times()
    cpu = after.children_user + after.children_system - before.children_user - before.children_system
    return {"seconds": time.perf_counter() - start, "cpu_seconds": cpu}


def write_clips(folder: Path, count: int, plain: bool = False) -> float:
    """Writes clips of noise bursts; returns their total duration (s)."""
    import soundfile

    folder.mkdir()
    random, total = np.random.default_rng(0), 0.0
    for number in range(count):
        seconds = float(np.clip(random.lognormal(1.0, 0.7), 0.5, 20))
        rate = int(random.choice([8_000, 16_000, 16_000, 22_050, 44_100, 48_000]))
        channels = int(random.choice([1, 1, 2]))
        suffix = str(random.choice(["wav", "flac", "ogg"]))
        if plain:
            rate, channels, suffix = RATE, 1, "wav"
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


def export_model(folder: Path, workdir: Path) -> None:
    """Writes the file of audonnx of a trained model."""
    from emojax.export.description import describe
    from emojax.export.onnx_model import clip_model
    from emojax.inference import load

    trained = load(workdir).trained
    description = describe(trained)
    content = clip_model(trained, description, single=True).SerializeToString()
    (folder / "model.onnx").write_bytes(content)
    (folder / "names.json").write_text(json.dumps(description.attributes))
    (folder / "workdir").symlink_to(workdir.resolve())


def with_transformers(folder: Path, options: argparse.Namespace) -> None:
    import safetensors.torch
    import soundfile
    import soxr
    import torch
    import transformers

    model = torch_model(**torch.load(folder / "sizes.pt"))
    model.load_state_dict(safetensors.torch.load_file(folder / "checkpoint" / "model.safetensors"))
    extractor = transformers.Wav2Vec2FeatureExtractor.from_pretrained(folder / "checkpoint")
    rows = {}
    with torch.inference_mode():
        for path in sorted(options.input.iterdir()):
            mono = decoded(path, soundfile, soxr)
            inputs = extractor(mono, sampling_rate=RATE, return_tensors="pt")
            rows[path.name] = model(inputs.input_values)[0].tolist()
    write_rows(folder, "transformers", options, NAMES, rows)


def decoded(path: Path, soundfile: Any, soxr: Any) -> np.ndarray:
    samples, rate = soundfile.read(path, dtype="float32", always_2d=True)
    mono = samples[:, 0] if samples.shape[1] == 1 else samples.mean(axis=1)
    return mono if rate == RATE else soxr.resample(mono, rate, RATE, quality="HQ")


def with_decoding(folder: Path, options: argparse.Namespace) -> None:
    import soundfile
    import soxr

    for path in sorted(options.input.iterdir()):
        decoded(path, soundfile, soxr)


def with_audonnx(folder: Path, options: argparse.Namespace) -> None:
    import audinterface
    import audonnx

    model = audonnx.Model(str(folder / "model.onnx"), num_workers=len(os.sched_getaffinity(0)))
    process = audinterface.Process(
        process_func=lambda signal, rate: model(signal, rate, outputs="attributes").reshape(-1),
        sampling_rate=RATE,
        resample=True,
        mixdown=True,
    )
    files = sorted(map(str, options.input.iterdir()))
    found = process.process_files(files)
    rows = {Path(file).name: values.tolist() for (file, *_), values in found.items()}
    write_rows(folder, "audonnx", options, model_names(folder), rows)


def with_emojax(name: str, folder: Path, options: argparse.Namespace) -> None:
    from emojax.__main__ import main as command

    arguments = ["predict", str(folder / "workdir"), str(options.input), f"--output={folder / 'rows.csv'}"]
    arguments += [] if options.workers is None else [f"--workers={options.workers}"]
    assert command(arguments, own_process=True) == 0
    names = model_names(folder)
    with (folder / "rows.csv").open() as file:
        rows = {Path(row["file"]).name: [float(row[each]) for each in names] for row in csv.DictReader(file)}
    write_rows(folder, name, options, names, rows)


SIDES = {
    "transformers": with_transformers,
    "audonnx": with_audonnx,
    "emojax_empty": lambda *arguments: with_emojax("emojax_empty", *arguments),
    "emojax": lambda *arguments: with_emojax("emojax", *arguments),
    "decoding": with_decoding,
}


def model_names(folder: Path) -> list[str]:
    """Names of the outputs."""
    path = folder / "names.json"
    return json.loads(path.read_text()) if path.exists() else list(NAMES)


def write_rows(
    folder: Path, name: str, options: argparse.Namespace, names: Sequence[str], rows: dict[str, list[float]]
) -> None:
    path = folder / (f"{name}.csv" if options.input.name == "clips" else f"{name}_few.csv")
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["file", *names])
        writer.writerows([clip, *values] for clip, values in rows.items())


def read_rows(path: Path) -> dict[str, np.ndarray]:
    with path.open(newline="") as file:
        _, *rows = csv.reader(file)
    return {row[0]: np.array([float(value) for value in row[1:]]) for row in rows}


if __name__ == "__main__":
    main()
