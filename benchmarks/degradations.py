"""Time of the robustness grid's degradations beside audiomentations, on the same clips, and beside a student.

  python -m benchmarks.degradations [--clips=64] [--seconds=4] [--rounds=5] [--threads=2]

Both sides take NumPy clips and return NumPy clips: white noise, environment noise (files of the package), music (the
same synthesised pieces), rooms, and the band of a telephone. audiomentations (`pip install audiomentations`) takes one
clip at a time; emojax takes batches, as in the grid. Babble of 4 to 7 talkers and noise in a room have no counterpart
there and are measured alone. Methods are measured in turns, in rounds of new clips; the median is printed. Compilation
is not part of the times. CPU time is that of all threads; on a machine with other work it is more reliable than the
time on the clock. The student is TC-GRU on 40 log-mel bands with its default sizes, without training.
"""

import argparse
import importlib.util
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

Degrade = Callable[[Any], Any]
"""Degraded clips (B, S) from clips."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--clips", type=int, default=64)
    parser.add_argument("--seconds", type=float, default=4.0)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=2, help="threads of emojax, set by the cores of the process")
    arguments = parser.parse_args()
    if hasattr(os, "sched_setaffinity"):  # before JAX starts its threads
        os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[: arguments.threads])
    ours = _emojax(arguments)
    with tempfile.TemporaryDirectory() as folder:
        theirs = _audiomentations(Path(folder)) if importlib.util.find_spec("audiomentations") else {}
        if not theirs:
            print("audiomentations is not installed; emojax is measured alone", file=sys.stderr)
        methods = {("emojax", name): degrade for name, degrade in ours.items()}
        methods |= {("audiomentations", name): degrade for name, degrade in theirs.items()}
        _print(_measure(methods, arguments), arguments)


def _measure(methods: Mapping[tuple[str, str], Degrade], arguments: argparse.Namespace) -> dict:
    """Median time on the clock and of the CPU of each method, per clip (ms)."""
    import numpy as np

    random = np.random.default_rng(0)
    times: dict[tuple[str, str], list[tuple[float, float]]] = {method: [] for method in methods}
    shape = (arguments.clips, round(arguments.seconds * 16_000))
    for number in range(-1, arguments.rounds):  # round -1 compiles and reads files; it is not counted
        clips = (0.1 * random.standard_normal(shape)).astype(np.float32)
        for method, degrade in methods.items():
            start = time.perf_counter(), time.process_time()
            np.asarray(degrade(clips))
            if number >= 0:
                taken = time.perf_counter() - start[0], time.process_time() - start[1]
                times[method].append(taken)
    scale = 1000 / arguments.clips
    return {
        method: [scale * statistics.median(column) for column in zip(*taken, strict=True)]
        for method, taken in times.items()
    }


def _print(medians: dict, arguments: argparse.Namespace) -> None:
    print(f"{arguments.clips} clips of {arguments.seconds:g} s, {arguments.threads} threads, {arguments.rounds} rounds")
    print("| condition | emojax, ms per clip (CPU) | audiomentations, ms per clip (CPU) | faster by | less CPU by |")
    print("|---|---|---|---|---|")
    for (side, name), (wall, cpu) in medians.items():
        if side == "emojax":
            peer = medians.get(("audiomentations", name))
            texts = ["–"] * 3
            if peer is not None:
                texts = [f"{peer[0]:.2f} ({peer[1]:.2f})", f"{peer[0] / wall:.1f}", f"{peer[1] / cpu:.1f}"]
            print(f"| {name} | {wall:.2f} ({cpu:.2f}) | {' | '.join(texts)} |")


def _emojax(arguments: argparse.Namespace) -> dict[str, Degrade]:
    import jax
    import numpy as np

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
    ids = tuple(f"c{row}" for row in range(arguments.clips))

    def degrade_by(condition: Any) -> Degrade:
        def degrade(clips: Any) -> Any:
            lengths = np.full(len(clips), clips.shape[1], np.int32)
            return degrader(condition, ClipBatch(clips, lengths, ids, ids)).batch.waveform

        return degrade

    shown = ("white", "environment", "music", "rooms", "babble", "noise and room")
    student = jax.jit(_student(arguments))
    methods = {name: degrade_by(groups[name]) for name in shown}
    return {**methods, "telephone": degrade_by(telephone), "(a student's prediction)": student}


def _student(arguments: argparse.Namespace) -> Degrade:
    """The student's forward pass, with random parameters."""
    import jax
    import jax.numpy as jnp

    from emojax.config import parse_experiment
    from emojax.launcher.config_files import load_config
    from emojax.models import build_model, example_batch

    config = parse_experiment(load_config("mfb").to_dict())
    model = build_model(config.model, 0, {})
    batch = example_batch(model, (), config.data.max_tokens)
    variables = model.init(jax.random.key(0), batch, train=False)
    rows, samples = arguments.clips, round(arguments.seconds * 16_000)
    batch = jax.tree.map(lambda leaf: jnp.broadcast_to(leaf[:1], (rows, *leaf.shape[1:])), batch)

    def predict(clips: Any) -> Any:
        filled = batch.replace(waveform=clips, num_samples=jnp.full(rows, samples, jnp.int32))
        output: Any = model.apply(variables, filled, train=False)
        return output.attributes

    return predict


def _audiomentations(folder: Path) -> dict[str, Degrade]:
    import audiomentations
    import numpy as np
    import soundfile

    import emojax.sounds
    from emojax.robustness.sounds import synthetic_music

    bundled = Path(emojax.sounds.__file__).parent
    for kind, files in (("noise", (bundled / "noise").rglob("*.opus")), ("rooms", (bundled / "rooms").glob("*.flac"))):
        (folder / kind).mkdir()
        for path in files:  # as WAV, which it decodes fastest
            soundfile.write(folder / kind / f"{path.stem}.wav", soundfile.read(path)[0], 16_000)
    (folder / "music").mkdir()
    for number, piece in enumerate(synthetic_music(16, 10.0, 0).sounds):
        soundfile.write(folder / "music" / f"{number}.wav", piece, 16_000)
    noise = {"min_snr_db": 10.0, "max_snr_db": 10.0, "p": 1.0}
    transforms = {
        "white": audiomentations.AddGaussianSNR(**noise),
        "environment": audiomentations.AddBackgroundNoise(folder / "noise", **noise),
        "music": audiomentations.AddBackgroundNoise(folder / "music", **noise),
        "rooms": audiomentations.ApplyImpulseResponse(folder / "rooms", p=1.0),
        "telephone": audiomentations.BandPassFilter(1000, 1000, 1.9, 1.9, p=1.0),
    }
    return {
        name: lambda clips, transform=transform: np.stack([transform(clip, sample_rate=16_000) for clip in clips])
        for name, transform in transforms.items()
    }


if __name__ == "__main__":
    main()
