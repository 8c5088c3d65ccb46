"""Time, bytes and memory of building a corpus, for sizes that differ by a factor.

    python -m benchmarks.build [--recordings=FOLDER] [--minutes=30,120] [--processes=2] [--json=FILE]

A folder corpus of 48 kHz FLAC files, made of the repository's recordings of emodb, repeated with different gains until
the minutes are full, is built by the build command in a process of its own; resampling to 16 kHz is part of it. Peak
memory is the largest sum over the command and its workers, sampled ten times a second.
"""

import csv
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from absl import app, flags

from benchmarks.machine import print_processor
from benchmarks.memory import private_mb

_RECORDINGS = flags.DEFINE_string("recordings", "tfds_builders/emodb", "Folder searched for .opus files.")
_MINUTES = flags.DEFINE_list("minutes", ["30", "120"], "Sizes to build.")
_PROCESSES = flags.DEFINE_integer("processes", 2, "Worker processes.")
_JSON = flags.DEFINE_string("json", "", "Also write the numbers there.")

_RATE = 48_000


def main(argv):
    processor, results = print_processor(), []
    print("| audio | utterances | seconds | utterances/s | audio-hours/h | MB per audio-hour | peak memory |")
    print("|---|---|---|---|---|---|---|")
    for minutes in map(float, _MINUTES.value):
        with tempfile.TemporaryDirectory() as folder:
            source, target = Path(folder, "source"), Path(folder, "built")
            count, seconds = write_corpus(source, 60 * minutes)
            elapsed, peak = build(source, target)
            stored = sum(path.stat().st_size for path in target.rglob("*") if path.is_file())
        row = {
            "audio_seconds": seconds,
            "utterances": count,
            "seconds": elapsed,
            "mb_per_hour": stored / 1e6 / (seconds / 3600),
            "peak_mb": peak,
        }
        results.append(row)
        print(
            f"| {seconds / 60:.0f} min | {count} | {elapsed:.1f} | {count / elapsed:.0f} | {seconds / elapsed:.0f} | "
            f"{row['mb_per_hour']:.0f} | {peak:.0f} MB |",
            flush=True,
        )
    if _JSON.value:
        Path(_JSON.value).write_text(json.dumps({"machine": processor, "sizes": results}, indent=2))


def write_corpus(folder, wanted_seconds):
    """Writes files, table and corpus.json; returns the number of utterances and their seconds."""
    import soundfile
    import soxr

    paths = sorted(Path(_RECORDINGS.value).rglob("*.opus"))
    if not paths:
        raise SystemExit(f"--recordings={_RECORDINGS.value}: no .opus file there")
    (folder / "clips").mkdir(parents=True)
    random, rows, seconds = np.random.default_rng(0), [], 0.0
    while seconds < wanted_seconds:
        number = len(rows)
        waveform, rate = soundfile.read(paths[number % len(paths)], dtype="float32", always_2d=True)
        waveform = soxr.resample(waveform[:, 0], rate, _RATE) * random.uniform(0.3, 1.0)
        soundfile.write(folder / "clips" / f"{number}.flac", waveform, _RATE)
        rows.append((f"clips/{number}.flac", random.uniform(), random.uniform(), random.uniform(), f"s{number % 50}"))
        seconds += len(waveform) / _RATE
    with open(folder / "table.csv", "w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(("path", "activation", "valence", "dominance", "speaker"))
        writer.writerows(rows)
    (folder / "corpus.json").write_text(json.dumps({"name": "timed", "attribute_source": "derived"}))
    return len(rows), seconds


def build(source, target):
    """Seconds of the build command, start of Python included, and its peak memory in MB."""
    command = [sys.executable, "-m", "tfds_builders", "folder", f"--manual_dir={source}", f"--data_dir={target}"]
    start, peak = time.perf_counter(), 0.0
    process = subprocess.Popen(
        [*command, f"--processes={_PROCESSES.value}"], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE
    )
    while process.poll() is None:
        peak = max(peak, private_mb(process.pid))
        time.sleep(0.1)
    if process.returncode:
        raise SystemExit(process.stderr.read().decode())
    return time.perf_counter() - start, peak


if __name__ == "__main__":
    app.run(main)
