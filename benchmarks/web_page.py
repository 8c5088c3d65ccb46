"""Speed and memory of an exported page: a file of two minutes, and the microphone for fifteen seconds by default.

    python launch.py --mode=export --workdir=runs/student --format=web --output=exports/page
    python -m benchmarks.web_page exports/page [--seconds=120] [--microphone=15] [--rate=48000] [--hours=0]

Runs headless Chromium (packages chromium, chromium-driver and selenium). Shown are the real-time factor that the page
reports (time of computation divided by the duration of the audio), and the CPU time of its computing thread per second
of audio, which other programs on the machine change less; likewise of its whole process, with drawing and compilation.
With --hours, a WAV file of silence is computed to its end. Linux only.
"""

import argparse
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import soundfile

from benchmarks.machine import print_processor
from tests.annotation_page_browser import start_browser
from tests.web_page_browser import WebPage, served, write_silence

FLAGS = ("--use-fake-device-for-media-stream", "--use-fake-ui-for-media-stream")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    for name, default in (("seconds", 120.0), ("microphone", 15.0), ("rate", 48_000), ("hours", 0.0)):
        parser.add_argument(f"--{name}", type=type(default), default=default)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name, served(options.folder) as address:
        browser = start_browser(Path(name) / "profile", flags=FLAGS)
        try:
            print_processor()
            print(f"browser {browser.capabilities['browserVersion']}")
            page = WebPage(browser).open(address)
            measure(page, Path(name), options)
        finally:
            browser.quit()


def measure(page: WebPage, folder: Path, options: argparse.Namespace) -> None:
    """Prints speed and memory for a file and for the microphone."""
    files = [folder / "warm.wav", folder / "noise.wav"]
    for path, seconds in zip(files, (20.0, options.seconds), strict=True):
        noise = np.random.default_rng(0).normal(0, 0.05, round(seconds * options.rate)).astype(np.float32)
        soundfile.write(path, noise, options.rate, subtype="PCM_16")
    for path in files:  # the first one compiles
        measured(page, path.name, lambda path=path: page.choose(path, seconds=3600))
    if options.microphone:
        measured(page, "microphone", lambda: record(page, options.microphone))
    if options.hours:
        write_silence(folder / "silence.wav", options.hours)
        measured(page, "silence", lambda: page.choose(folder / "silence.wav", seconds=20 * 3600))


def record(page: WebPage, seconds: float) -> None:
    """Runs the microphone for a time."""
    page.run("globalThis.recording = undefined")
    page.click("#microphone")
    time.sleep(seconds)
    page.click("#microphone")
    page.finished("Microphone")


def measured(page: WebPage, name: str, run) -> None:
    before, start = cpu_seconds(page), time.perf_counter()
    run()
    wall, after = time.perf_counter() - start, cpu_seconds(page)
    worker, process = (end - begin for begin, end in zip(before, after, strict=True))
    count = page.run("return recording.track.count")
    audio = page.run(f"return recording.track.times[{count - 1}]")
    rate, factor = page.run("return [recording.rate, recording.factor]")
    print(
        f"{name}: {audio:.1f} s of audio in {wall:.1f} s; reported: real-time factor {factor:.4f}, {rate:.1f} "
        f"updates/s; CPU per second of audio: computing thread {worker / audio:.4f} s, whole process "
        f"{process / audio:.4f} s; largest memory {peak_memory(page) / 2**20:.0f} MiB"
    )


def renderers(page: WebPage) -> Iterator[Path]:
    """Folders of /proc of the browser's processes that have a computing thread."""
    parents = {}
    for status in Path("/proc").glob("[0-9]*/stat"):
        try:
            parents[int(status.parent.name)] = int(status.read_text().rpartition(")")[2].split()[1])
        except OSError:  # ended meanwhile
            continue
    for pid in parents:
        ancestor = pid
        while ancestor in parents and ancestor != page.browser.service.process.pid:
            ancestor = parents[ancestor]
        if ancestor == page.browser.service.process.pid and any(worker_threads(Path(f"/proc/{pid}"))):
            yield Path(f"/proc/{pid}")


def worker_threads(process: Path) -> Iterator[Path]:
    for thread in process.glob("task/*"):
        if (thread / "comm").read_text().startswith("DedicatedWorker"):
            yield thread


def cpu_seconds(page: WebPage) -> tuple[float, float]:
    """CPU time of the computing thread and of its process."""
    (process,) = renderers(page)
    workers = list(worker_threads(process))
    return spent(workers), spent(process.glob("task/*"))


def spent(threads) -> float:
    return sum(int((thread / "schedstat").read_text().split()[0]) for thread in threads) / 1e9


def peak_memory(page: WebPage) -> int:
    """Largest resident memory of the page's process (bytes)."""
    (process,) = renderers(page)
    (line,) = (line for line in (process / "status").read_text().splitlines() if line.startswith("VmHWM"))
    return 1024 * int(line.split()[1])


if __name__ == "__main__":
    main()
