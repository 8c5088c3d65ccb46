"""Draws the learning curves of a run from its metrics.jsonl."""

import math
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from emojax.errors import EmojaxError
from emojax.reporting.plots import PALETTE, plain, save_figure
from emojax.reporting.results import read_run
from emojax.workdir import METRICS, read_metric_records

LEARNING_CURVES = "learning_curves.png"

_NOT_LEARNING = ("train/labels", "seconds")
"""Groups of metrics that are counts and times."""

_MAX_CURVES = 10
_MAX_PANELS = 6

Curve = tuple[list[float], list[float]]
"""Steps and values."""


def write_learning_curves(workdir: Path) -> Path | None:
    """Writes `learning_curves.png` of a workdir and returns its path; None if nothing was logged.

    Args:
      workdir: folder of a run. Its summary, if present, has the step of the best checkpoint.

    Raises:
      EmojaxError: the metrics cannot be read or the plot cannot be written.
    """
    run = read_run(workdir)
    figure = draw_learning_curves(read_curves(workdir / METRICS), f"{run.name} ({run.trained_on})", run.best_step)
    return None if figure is None else save_figure(figure, workdir / LEARNING_CURVES)


def read_curves(path: Path) -> dict[str, Curve]:
    """Reads every number of a metrics.jsonl by name, e.g. `train/loss`; lines that are no records are skipped.

    Raises:
      EmojaxError: the file cannot be read.
    """
    curves: dict[str, Curve] = {}
    try:
        records = read_metric_records(path)
    except OSError as error:
        raise EmojaxError(f"{path}: cannot be read ({error.strerror})") from error
    for _, record in records:
        for name, value in record.items():
            if name not in ("step", "epoch") and _is_number(value):
                steps, values = curves.setdefault(name, ([], []))
                steps.append(record["step"])
                values.append(value)
    return curves


def draw_learning_curves(curves: dict[str, Curve], title: str, best_step: int | None = None) -> Figure | None:
    """Draws losses, validation metrics and other logged values, one panel per group of names.

    Args:
      curves: from `read_curves`.
      title: title of the figure.
      best_step: marked by a vertical line.

    Returns:
      None without curves.
    """
    panels = _group(curves)
    if not panels:
        return None
    columns = min(len(panels), 3)
    rows = math.ceil(len(panels) / columns)
    figure = Figure(figsize=(0.4 + 4.8 * columns, 0.5 + 3.5 * rows), dpi=120, layout="constrained")
    grid = figure.subplots(rows, columns, squeeze=False).ravel()
    last = max(max(steps) for members in panels.values() for steps, _ in members.values())
    for axes, (name, members) in zip(grid, panels.items(), strict=False):
        _draw_panel(axes, members, best_step)
        axes.set_title(plain(name), fontsize=11)
        axes.set_xlim(-0.02 * last, 1.02 * last)
    for axes in grid[len(panels) :]:
        axes.set_axis_off()
    figure.suptitle(plain(title), fontsize=12, fontweight="bold")
    return figure


def _is_number(value: object) -> bool:
    if not isinstance(value, int | float) or isinstance(value, bool):
        return False
    return abs(value) < 1e300


def _group(curves: dict[str, Curve]) -> dict[str, dict[str, Curve]]:
    """Losses first, then validation, then the rest by the part of their name before the last slash."""
    panels: dict[str, dict[str, Curve]] = {"training loss": {}, "validation": {}}
    for name, curve in curves.items():
        prefix, _, short = name.rpartition("/")
        if prefix in _NOT_LEARNING:
            continue
        if name == "train/loss" or prefix == "train/loss" or (prefix != "validation" and short == "loss"):
            panels["training loss"]["total" if short == "loss" else short] = curve
        elif name == "validation/loss":  # of another size than the scores
            panels["validation loss"] = {short: curve}
        elif prefix == "train":
            panels[f"training {short.replace('_', ' ')}"] = {short: curve}
        else:
            panels.setdefault(prefix or "other", {})[short] = curve
    filled = {name: members for name, members in panels.items() if members}
    return dict(list(filled.items())[:_MAX_PANELS])


def _draw_panel(axes: Axes, members: dict[str, Curve], best_step: int | None) -> None:
    shown = list(_merge_equal(members).items())[:_MAX_CURVES]
    for number, (name, (steps, values)) in enumerate(shown):
        colour = PALETTE[number % len(PALETTE)]
        style = "-" if number < len(PALETTE) else "--"
        label = plain(name.replace("_", " ").replace("ccc", "CCC").replace("uar", "UAR"))
        if len(steps) > 60:  # single batches are noisy: the trend is drawn over them
            axes.plot(steps, values, color=colour, linewidth=0.6, alpha=0.25)
            axes.plot(steps, _smooth(values), color=colour, linestyle=style, linewidth=1.8, label=label)
        else:
            marker = "o" if len(steps) <= 30 else None
            axes.plot(steps, values, color=colour, linestyle=style, linewidth=1.6, marker=marker, ms=3.5, label=label)
    if best_step is not None:
        axes.axvline(best_step, color="0.4", linestyle=":", linewidth=1.2, label=f"best checkpoint (step {best_step})")
    if shown:
        axes.legend(fontsize=8, framealpha=0.8)
    axes.set_xlabel("training step")
    axes.xaxis.set_major_locator(MaxNLocator(nbins=6, integer=True))
    axes.grid(color="0.9", linewidth=0.6)
    axes.spines[["top", "right"]].set_visible(False)


def _merge_equal(members: dict[str, Curve]) -> dict[str, Curve]:
    """Gives equal curves one label, e.g. a score that is the UAR; skips terms without labels (0 throughout)."""
    names: dict[tuple[tuple[float, ...], ...], list[str]] = {}
    for name, (steps, values) in members.items():
        if any(values) or len(members) == 1:
            names.setdefault((tuple(steps), tuple(values)), []).append(name)
    return {" = ".join(equal): (list(curve[0]), list(curve[1])) for curve, equal in names.items()}


def _smooth(values: list[float]) -> np.ndarray:
    """Centred moving average over about a twentieth of the curve, shorter at its ends."""
    half = max(1, len(values) // 40)
    sums = np.concatenate([[0.0], np.cumsum(values)])
    ends = np.arange(len(values))
    first, last = np.maximum(ends - half, 0), np.minimum(ends + half + 1, len(values))
    return (sums[last] - sums[first]) / (last - first)
