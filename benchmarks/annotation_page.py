"""Loading, drawing and scrolling of the page of an annotation: three hours, 2,000 segments, 30,000 words by default.

    python -m benchmarks.annotation_page [--segments=2000] [--words=15] [--seconds=10800] [--loads=5] [--frames=120]

Runs headless Chromium without a GPU (packages chromium, chromium-driver and selenium). Loading is from disk to the
load event, all scripts included. Before each repaint, the range of time changes or the transcript scrolls. Shown are
the time between repaints (16.7 ms at best), and the CPU time of the page's main thread, which other programs on the
machine change less: in all, and without painting, which a GPU would do.
"""

import argparse
import statistics
import tempfile
import time
from pathlib import Path

from benchmarks.machine import print_processor
from emojax.annotation.page import render_annotation_page
from tests.annotation_page_browser import PageDriver, start_browser
from tests.annotation_page_examples import long_annotation, write_silence

_WITHOUT_PAINTING = ("ScriptDuration", "LayoutDuration", "RecalcStyleDuration")

_FRAMES = """
const [kind, frames, done] = arguments;
const [plot, rows] = [document.getElementById('plot'), document.getElementById('rows')];
const box = plot.getBoundingClientRect();
const wheel = (deltaY, shiftKey) => plot.dispatchEvent(new WheelEvent('wheel',
  {deltaY, shiftKey, clientX: box.left + box.width * 0.4, bubbles: true, cancelable: true}));
document.getElementById('zoom-all').click();
rows.scrollTop = 0;
const steps = {
  zoom: (i) => wheel(i % frames < frames / 2 ? -120 : 120, false),
  'pan, whole range': (i) => { if (!i) wheel(-50, false); wheel(i % 2 ? 20 : -20, true); },
  'scroll transcript': (i) => { rows.scrollTop += 400; },
  'jump in transcript': (i) => { rows.scrollTop = (i * 7919 % 97) / 97 * rows.scrollHeight; },
};
const between = [];
let [last, count] = [null, 0];
function frame(now) {
  if (last !== null) between.push(now - last);
  last = now;
  if (count === frames) return done(between);
  steps[kind](count++);
  requestAnimationFrame(frame);
}
requestAnimationFrame(frame);
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name, default in (("segments", 2000), ("words", 15), ("seconds", 10800), ("loads", 5), ("frames", 120)):
        parser.add_argument(f"--{name}", type=int, default=default)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        annotation = long_annotation(options.segments, options.words, float(options.seconds))
        start = time.perf_counter()
        document = render_annotation_page(annotation, "audio.wav")
        rendered = time.perf_counter() - start
        print_processor()
        print(f"rendered in {rendered:.2f} s, {len(document) / 1e6:.2f} MB")
        (folder / "page.html").write_text(document, encoding="utf-8")
        write_silence(folder / "audio.wav", options.seconds)
        browser = start_browser(folder / "profile")
        try:
            measure(PageDriver(browser), folder / "page.html", options)
        finally:
            browser.quit()


def measure(page: PageDriver, path: Path, options: argparse.Namespace) -> None:
    """Prints the times of loads, and of frames of each kind."""
    page.browser.execute_cdp_cmd("Performance.enable", {"timeDomain": "threadTicks"})
    loads, cpu = [], []
    for _ in range(options.loads):
        page.browser.get("about:blank")
        before = cpu_seconds(page)
        page.open(path)
        cpu.append(cpu_seconds(page) - before)
        loads.append(page.run("return performance.getEntriesByType('navigation')[0].loadEventEnd") / 1000)
    print(f"loading: median {statistics.median(loads):.2f} s, CPU {statistics.median(cpu):.2f} s")
    page.browser.set_script_timeout(300)
    for kind in ("zoom", "pan, whole range", "scroll transcript", "jump in transcript"):
        before = cpu_seconds(page), cpu_seconds(page, *_WITHOUT_PAINTING)
        between = sorted(page.browser.execute_async_script(_FRAMES, kind, options.frames))
        after = cpu_seconds(page), cpu_seconds(page, *_WITHOUT_PAINTING)
        whole, part = (1000 * (end - start) / options.frames for start, end in zip(before, after, strict=True))
        print(
            f"{kind}: between repaints median {statistics.median(between):.1f} ms, "
            f"95 % {between[int(0.95 * len(between))]:.1f} ms; CPU {whole:.1f} ms a frame, {part:.1f} without painting"
        )


def cpu_seconds(page: PageDriver, *names: str) -> float:
    """CPU time of the page's main thread since its start, of all tasks by default."""
    metrics = page.browser.execute_cdp_cmd("Performance.getMetrics", {})["metrics"]
    return sum(metric["value"] for metric in metrics if metric["name"] in (names or ("TaskDuration",)))


if __name__ == "__main__":
    main()
