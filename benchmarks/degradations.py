"""Time of the robustness grid's degradations beside audiomentations and torch-audiomentations, and beside a student.

    python -m benchmarks.degradations [--clips=64] [--seconds=4] [--rounds=5] [--threads=2] [--json=FILE]

All sides take NumPy clips and return NumPy clips: white noise, environment noise (files of the package), music (the
same synthesised pieces), rooms, and the band of a telephone. audiomentations (requirements-benchmarks.txt) takes one
clip at a time; emojax and torch-audiomentations take batches. Babble of 4 to 7 talkers and noise in a room have no
counterpart there and are measured alone. Sides take turns, in rounds of new clips; medians. Compilation is not part of
the times. CPU time is that of all threads; on a machine with other work it is more reliable than the time on the clock.
The student is TC-GRU on 40 log-mel bands with its default sizes, without training. The ceiling (`benchmarks.machine`)
is that at its shapes; degradations are mostly random numbers, FFTs and files.

A peer that is not installed is skipped. torch-audiomentations 0.12 does not work with the PyTorch of
requirements-dev.txt: torchaudio 2.11, the newest, is built for CUDA, and its import fails with a CPU build of PyTorch
(`libc10_cuda.so: cannot open shared object file`); rooms and noises from files need `torchaudio.info`, which torchaudio
2.9 removed. It is measured with an older PyTorch in a folder of its own (6.5 GB):

    pip install --target=FOLDER torch==2.8.0 torchaudio==2.8.0 torch-audiomentations==0.12.0
    PYTHONPATH=FOLDER python -m benchmarks.degradations
"""

import argparse
import json
import statistics
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from benchmarks.machine import print_machine
from benchmarks.timing import take_turns, use_cores
from benchmarks.work import Product, work_of

Degrade = Callable[[Any], Any]
"""Degraded clips (B, S) from clips."""

RATE = 16_000
SNR_DB = 10.0
BAND = (300.0, 3400.0)
"""Of a telephone (Hz)."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--clips", type=int, default=64)
    parser.add_argument("--seconds", type=float, default=4.0)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    use_cores(options.threads)
    student, products = _student(options)
    machine = print_machine(products, options.threads)
    methods = {("emojax", name): degrade for name, degrade in _emojax(options).items()}
    methods["emojax", "(a student's prediction)"] = student
    with tempfile.TemporaryDirectory() as folder:
        _write_sounds(Path(folder))
        for side, peer in PEERS.items():
            try:
                methods |= {(side, name): degrade for name, degrade in peer(Path(folder), options.threads).items()}
            except (ImportError, OSError) as error:
                print(f"{side} is skipped: {str(error).splitlines()[0]}")
        found = _measure(methods, options)
    _print(found, options)
    if options.json:
        tree = {f"{side}: {name}": values for (side, name), values in found.items()}
        options.json.write_text(json.dumps({"machine": machine, "milliseconds_per_clip": tree}, indent=2))


def _measure(methods: Mapping[tuple[str, str], Degrade], options: argparse.Namespace) -> dict:
    """Median time on the clock and of the CPU of each method, per clip (ms)."""
    shape = (options.clips, round(options.seconds * RATE))
    sides = {key: lambda clips, degrade=degrade: np.asarray(degrade(clips)) for key, degrade in methods.items()}

    def fresh(number: int) -> np.ndarray:
        return (0.1 * np.random.default_rng(number).standard_normal(shape)).astype(np.float32)

    times = take_turns(sides, fresh, options.rounds, warm_up=1)
    scale = 1000 / options.clips
    return {
        key: [scale * statistics.median(column) for column in zip(*taken, strict=True)] for key, taken in times.items()
    }


def _print(found: dict, options: argparse.Namespace) -> None:
    peers = [side for side in PEERS if any(side == each for each, _ in found)]
    print(
        f"{options.clips} clips of {options.seconds:g} s, {options.rounds} rounds; ms per clip, in brackets of the CPU"
    )
    print("| condition | emojax |" + "".join(f" {peer} | over emojax | CPU over emojax |" for peer in peers))
    print("|---" * (2 + 3 * len(peers)) + "|")
    for side, name in found:
        if side != "emojax":
            continue
        wall, cpu = found[side, name]
        cells = [name, f"{wall:.2f} ({cpu:.2f})"]
        for peer in peers:
            times = found.get((peer, name))
            cells += (
                ["–"] * 3
                if times is None
                else [f"{times[0]:.2f} ({times[1]:.2f})", f"{times[0] / wall:.1f}", f"{times[1] / cpu:.1f}"]
            )
        print(f"| {' | '.join(cells)} |")


def _emojax(options: argparse.Namespace) -> dict[str, Degrade]:
    from emojax.robustness import RobustnessGridConfig
    from emojax.robustness.conditions import grid_conditions
    from emojax.robustness.degrade import ClipBatch, Degrader
    from emojax.robustness.run import grid_mesh
    from emojax.robustness.sounds import load_sounds, talkers_of

    random = np.random.default_rng(1)
    speech = [random.standard_normal(16_000 * 4).astype(np.float32) for _ in range(32)]
    names = [f"t{row}" for row in range(32)]
    config = RobustnessGridConfig()
    sounds = load_sounds(config, talkers_of(speech, names, names))
    degrader = Degrader(sounds, grid_mesh())
    groups = {condition.group: condition for condition in grid_conditions(config, sounds) if not condition.missing}
    telephone = next(c for c in grid_conditions(config, sounds) if c.channel == "telephone")
    ids = tuple(f"c{row}" for row in range(options.clips))

    def degrade_by(condition: Any) -> Degrade:
        def degrade(clips: Any) -> Any:
            lengths = np.full(len(clips), clips.shape[1], np.int32)
            return degrader(condition, ClipBatch(clips, lengths, ids, ids)).batch.waveform

        return degrade

    shown = ("white", "environment", "music", "rooms", "babble", "noise and room")
    return {**{name: degrade_by(groups[name]) for name in shown}, "telephone": degrade_by(telephone)}


def _student(options: argparse.Namespace) -> tuple[Degrade, tuple[Product, ...]]:
    """The student's forward pass with random parameters, and its largest products."""
    from emojax.config import parse_experiment
    from emojax.launcher.config_files import load_config
    from emojax.models import build_model, example_batch

    config = parse_experiment(load_config("mfb").to_dict())
    model = build_model(config.model, 0, {})
    batch = example_batch(model, (), config.data.max_tokens)
    variables = model.init(jax.random.key(0), batch, train=False)
    rows, samples = options.clips, round(options.seconds * RATE)
    batch = jax.tree.map(lambda leaf: jnp.broadcast_to(leaf[:1], (rows, *leaf.shape[1:])), batch)

    def predict(clips: Any) -> Any:
        filled = batch.replace(waveform=clips, num_samples=jnp.full(rows, samples, jnp.int32))
        output: Any = model.apply(variables, filled, train=False)
        return output.attributes

    return jax.jit(predict), work_of(predict, jax.ShapeDtypeStruct((rows, samples), jnp.float32)).products


def _write_sounds(folder: Path) -> None:
    """Writes the noises, rooms and music of emojax as WAV, which the peers decode fastest."""
    import soundfile

    import emojax.sounds
    from emojax.robustness.sounds import synthetic_music

    bundled = Path(emojax.sounds.__file__).parent
    for kind, files in (("noise", (bundled / "noise").rglob("*.opus")), ("rooms", (bundled / "rooms").glob("*.flac"))):
        (folder / kind).mkdir()
        for path in files:
            soundfile.write(folder / kind / f"{path.stem}.wav", soundfile.read(path)[0], RATE)
    (folder / "music").mkdir()
    for number, piece in enumerate(synthetic_music(16, 10.0, 0).sounds):
        soundfile.write(folder / "music" / f"{number}.wav", piece, RATE)


def _audiomentations(folder: Path, threads: int) -> dict[str, Degrade]:
    import audiomentations

    del threads  # it has one
    noise = {"min_snr_db": SNR_DB, "max_snr_db": SNR_DB, "p": 1.0}
    centre = sum(BAND) / 2
    width = (BAND[1] - BAND[0]) / centre
    transforms = {
        "white": audiomentations.AddGaussianSNR(**noise),
        "environment": audiomentations.AddBackgroundNoise(folder / "noise", **noise),
        "music": audiomentations.AddBackgroundNoise(folder / "music", **noise),
        "rooms": audiomentations.ApplyImpulseResponse(folder / "rooms", p=1.0),
        "telephone": audiomentations.BandPassFilter(centre, centre, width, width, p=1.0),
    }
    return {
        name: lambda clips, transform=transform: np.stack([transform(clip, sample_rate=RATE) for clip in clips])
        for name, transform in transforms.items()
    }


def _torch_audiomentations(folder: Path, threads: int) -> dict[str, Degrade]:
    import torch
    import torch_audiomentations

    torch.set_num_threads(threads)
    always = {"p": 1.0, "output_type": "dict"}
    noise = {"min_snr_in_db": SNR_DB, "max_snr_in_db": SNR_DB, **always}
    centre = sum(BAND) / 2
    width = (BAND[1] - BAND[0]) / centre
    # Limits that are equal are refused for the band.
    band = (centre, centre + 1, width, width + 1e-3)
    transforms = {
        "white": torch_audiomentations.AddColoredNoise(min_f_decay=0.0, max_f_decay=0.0, **noise),
        "environment": torch_audiomentations.AddBackgroundNoise(folder / "noise", **noise),
        "music": torch_audiomentations.AddBackgroundNoise(folder / "music", **noise),
        "rooms": torch_audiomentations.ApplyImpulseResponse(folder / "rooms", **always),
        "telephone": torch_audiomentations.BandPassFilter(*band, **always),
    }

    def degrade_by(transform: Any) -> Degrade:
        return lambda clips: transform(torch.from_numpy(clips)[:, None], sample_rate=RATE).samples[:, 0].numpy()

    return {name: degrade_by(transform) for name, transform in transforms.items()}


PEERS = {"audiomentations": _audiomentations, "torch-audiomentations": _torch_audiomentations}


if __name__ == "__main__":
    main()
