"""Plots of a grid: scores and relative losses against signal-to-noise ratio, reverberation time and channel."""

from collections.abc import Callable, Sequence
from typing import Any, Literal

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from emojax.reporting.plots import PALETTE, plain
from emojax.robustness.conditions import CLEAN, Condition
from emojax.robustness.results import GridResults
from emojax.robustness.scores import Difference, GridScore

_MOST_MODELS = len(PALETTE)
"""Models that a plot shows."""

_MARKERS = "os^Dv*P"

Quantity = Literal["score", "relative_loss"]


def draw_levels(results: GridResults, quantity: Quantity) -> Figure | None:
    """Draws a quantity against the signal-to-noise ratio: a row per kind of noise, a column per output.

    Args:
      results: results of a split.
      quantity: scores, or losses relative to clean clips (%).

    Returns:
      None without a condition with noise.
    """
    groups = _groups(results, lambda condition: condition.snr_db is not None)
    if not groups or not results.outputs:
        return None
    figure, panels = _panels(len(groups), len(results.outputs))
    for row, (group, conditions) in enumerate(groups.items()):
        levels = [float(condition.snr_db or 0.0) for condition in conditions]
        step = max(levels) - min(levels) or 5.0
        highest = max(levels) + max(step / 5, 2.5)
        places = dict(zip((condition.name for condition in conditions), levels, strict=True))
        for column, output in enumerate(results.outputs):
            axes = panels[row, column]
            _draw_lines(axes, results, output, {CLEAN: highest, **places}, quantity)
            axes.invert_xaxis()
            axes.set_xticks([highest, *levels], ["clean", *(f"{level:g}" for level in levels)])
            _label(axes, results, output, quantity, row, column, plain(group))
            axes.set_xlabel("signal-to-noise ratio (dB)" if row == len(groups) - 1 else "")
    return _finished(figure, panels, results)


def draw_rooms_and_channels(results: GridResults, quantity: Quantity) -> Figure | None:
    """Draws a quantity against reverberation time, and for every channel; None without such conditions."""
    groups = _groups(results, lambda condition: condition.snr_db is None and condition.name != CLEAN)
    if not groups or not results.outputs:
        return None
    figure, panels = _panels(len(groups), len(results.outputs), height=3.0)
    for row, (group, conditions) in enumerate(groups.items()):
        rooms = all(condition.rt60 is not None for condition in conditions)
        values = [condition.rt60 or 0.0 if rooms else place for place, condition in enumerate(conditions, 1)]
        places = dict(zip((condition.name for condition in conditions), values, strict=True))
        for column, output in enumerate(results.outputs):
            axes = panels[row, column]
            _draw_lines(axes, results, output, {CLEAN: 0.0, **places}, quantity, joined=rooms)
            if rooms:
                axes.set_xlabel("reverberation time (s); clean at 0")
            else:
                names = ["clean", *(plain(condition.name) for condition in conditions)]
                axes.set_xticks(range(len(names)), names, rotation=25, ha="right", fontsize=8)
            _label(axes, results, output, quantity, row, column, plain(group))
    return _finished(figure, panels, results)


def _groups(results: GridResults, wanted: Callable[[Condition], bool]) -> dict[str, list[Condition]]:
    """Applied conditions by group."""
    groups: dict[str, list[Condition]] = {}
    for condition in results.conditions:
        if not condition.missing and wanted(condition):
            groups.setdefault(condition.group, []).append(condition)
    return groups


def _panels(rows: int, columns: int, height: float = 2.4) -> tuple[Figure, np.ndarray]:
    size = (1.0 + 3.3 * columns, 1.0 + height * rows)
    figure = Figure(figsize=size, dpi=120, layout="constrained")
    return figure, figure.subplots(rows, columns, squeeze=False, sharey="col")


def _draw_lines(
    axes: Axes, results: GridResults, output: str, places: dict[str, float], quantity: Quantity, joined: bool = True
) -> None:
    """Draws one line per model with its intervals, at the places of the conditions."""
    width = (max(places.values()) - min(places.values())) / 60
    for number, model in enumerate(results.models[:_MOST_MODELS]):
        found = [(x, results.score(model, name, output)) for name, x in sorted(places.items(), key=lambda p: p[1])]
        points = [(x, _quantity(score, quantity)) for x, score in found if score is not None]
        drawn = [(x, each.value, each.low, each.high) for x, each in points if each.value is not None]
        if not drawn:
            continue
        x, value, low, high = np.array(drawn, np.float64).T * np.array([1, *[_scale(quantity)] * 3])[:, None]
        style: dict[str, Any] = {"color": PALETTE[number], "marker": _MARKERS[number], "markersize": 4}
        if not joined:
            x = x + (number - (len(results.models) - 1) / 2) * 3 * width
            axes.errorbar(x, value, [value - low, high - value], linestyle="", capsize=2, **style)
        else:
            axes.plot(x, value, linewidth=1.5, **style)
            axes.fill_between(x, low, high, color=PALETTE[number], alpha=0.13, linewidth=0)
    if quantity == "relative_loss":
        axes.set_ylim(-60, 160)
    axes.axhline(0, color="0.6", linewidth=0.8)
    axes.grid(color="0.9", linewidth=0.6)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)


def _quantity(score: GridScore, quantity: Quantity) -> Difference:
    return score.score if quantity == "score" else score.relative_loss


def _scale(quantity: Quantity) -> float:
    return 1.0 if quantity == "score" else 100.0


def _label(
    axes: Axes, results: GridResults, output: str, quantity: Quantity, row: int, column: int, group: str
) -> None:
    metric = next(score.metric for score in results.scores if score.output == output)
    if row == 0:
        axes.set_title(f"{metric} {output}", fontsize=11)
    if column == 0:
        axes.set_ylabel(f"{group}\n{'score' if quantity == 'score' else 'relative loss (%)'}")


def _finished(figure: Figure, panels: np.ndarray, results: GridResults) -> Figure:
    shown: Sequence[str] = results.models[:_MOST_MODELS]
    handles = [
        panels[0, 0].plot([], [], color=PALETTE[number], marker=_MARKERS[number], markersize=4)[0]
        for number in range(len(shown))
    ]
    names = [plain(results.shown_name(model)) for model in shown]
    figure.legend(handles, names, loc="outside lower center", ncols=min(len(names), 4), fontsize=8, frameon=False)
    speech = ", synthetic speech" if results.speech == "synthesised" else ""
    title = f"{results.corpus}, split {results.split}{speech}; 95 % intervals over {results.units}"
    figure.suptitle(plain(title), fontsize=11, fontweight="bold")
    return figure
