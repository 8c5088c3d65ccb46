"""Draws predictions against labels, confusion matrices and comparisons; the palette suits colour-blind readers."""

import io
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import LogNorm
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator

from emojax.evaluation.predictions import Predictions
from emojax.files import atomic_write
from emojax.reporting.results import SCORES, Result, Score, shared_baselines
from emojax.types import ATTRIBUTES

# Figures are created without pyplot, whose global state would keep all of them in memory.

PALETTE = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
"""Colours that are distinct with every kind of colour vision (Okabe & Ito 2008)."""

_MAX_SYSTEMS = 40
"""Systems that one comparison shows."""

_MAX_POINTS = 2000
"""Above this number of utterances the density is drawn instead of points."""


def save_figure(figure: Figure, path: Path) -> Path:
    """Writes a PNG file and returns its path.

    Raises:
      EmojaxError: it cannot be written.
    """
    with atomic_write(path) as temporary:
        figure.savefig(temporary, format="png")
    return path


def png_bytes(figure: Figure) -> bytes:
    """The figure as a PNG file in memory."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png")
    return buffer.getvalue()


def plain(text: str) -> str:
    """Text for matplotlib without mathematics (`$`) and control characters."""
    return "".join(character for character in text if character.isprintable()).replace("$", r"\$")


def describe_evaluation(summary: dict[str, Any]) -> str:
    """Describes the data of a plot: corpus, split, and whether the speech is synthetic."""
    speech = ", synthetic speech" if summary["speech"] == "synthesised" else ""
    return plain(f"{summary['corpus']}, split {summary['split']}{speech}")


def draw_attributes(predictions: Predictions, summary: dict[str, Any]) -> Figure | None:
    """Draws prediction against label per attribute: points, or their density if there are many.

    Args:
      predictions: predictions of a split.
      summary: their `summarise`.

    Returns:
      None if no attribute is both predicted and labelled.
    """
    values = [summary.get("ccc", {}).get(attribute, {}).get("value") for attribute in ATTRIBUTES]
    shown = [column for column, value in enumerate(values) if value is not None]
    if not shown:
        return None
    dense = len(predictions.ids) > _MAX_POINTS
    figure = Figure(figsize=(0.6 + 4.1 * len(shown), 5.7 if dense else 4.9), dpi=120, layout="constrained")
    for axes, column in zip(figure.subplots(1, len(shown), squeeze=False)[0], shown, strict=True):
        attribute = ATTRIBUTES[column]
        labels, predicted = predictions.attribute_labels[:, column], predictions.attributes[:, column]
        labelled = ~np.isnan(labels)
        _draw_agreement(axes, labels[labelled], predicted[labelled], dense)
        ccc = summary["ccc"][attribute]
        axes.set_title(f"{attribute.capitalize()}\nCCC {_interval(ccc)}, n = {labelled.sum()}", fontsize=11)
        low, high = summary["scale"]
        source = "derived" if summary["attribute_source"] == "derived" else "rated"
        axes.set_xlabel(f"{source} {attribute} (corpus scale {low:g} to {high:g})")
        axes.set_ylabel(f"predicted {attribute} (same scale)")
    figure.suptitle(describe_evaluation(summary), fontsize=12, fontweight="bold")
    return figure


def draw_confusion(summary: dict[str, Any]) -> Figure | None:
    """Draws the confusion matrix: shade is the share of the row, numbers are counts of utterances.

    Args:
      summary: `summarise` of the predictions of a split.

    Returns:
      None if categories are not both predicted and labelled.
    """
    if "confusion" not in summary:
        return None
    counts = np.array(summary["confusion"])
    totals = counts.sum(axis=1)
    shares = counts / np.maximum(totals, 1)[:, None]
    size = len(counts)
    side = 2.9 + 0.62 * size
    figure = Figure(figsize=(max(side + 1.0, 5.6), max(side, 4.4)), dpi=120, layout="constrained")
    axes = figure.subplots()
    image = axes.imshow(shares, cmap="Blues", vmin=0, vmax=1)
    for row in range(size):
        for column in range(size):
            colour = "white" if shares[row, column] > 0.55 else "black"
            axes.text(column, row, str(counts[row, column]), ha="center", va="center", color=colour, fontsize=10)
    names = [plain(name) for name in summary["categories"]]
    if max(map(len, names)) > 4:
        axes.set_xticks(range(size), names, rotation=40, ha="right", rotation_mode="anchor")
    else:
        axes.set_xticks(range(size), names)
    axes.set_yticks(range(size), [f"{name} ({total})" for name, total in zip(names, totals, strict=True)])
    axes.set_xlabel("predicted category")
    axes.set_ylabel("labelled category (utterances)")
    axes.tick_params(length=0)
    axes.spines[:].set_visible(False)
    figure.colorbar(image, ax=axes, shrink=0.8, label="share of the labelled category")
    axes.set_title(f"UAR {_interval(summary['uar'])}\nmacro F1 {_interval(summary['macro_f1'])}", fontsize=11)
    figure.suptitle(describe_evaluation(summary), fontsize=12, fontweight="bold")
    return figure


def draw_comparison(results: list[Result]) -> Figure | None:
    """Draws results on one split, one panel per score, one row per system, in the order given.

    Args:
      results: results on the same corpus and split.

    Returns:
      None if no result has a score.
    """
    results = results[:_MAX_SYSTEMS]
    shown = [name for name in SCORES if any(name in result.scores for result in results)]
    if not shown:
        return None
    height = 1.9 + 0.34 * len(results)
    figure = Figure(figsize=(2.6 + 2.5 * len(shown), height), dpi=120, layout="constrained")
    panels = figure.subplots(1, len(shown), squeeze=False, sharey=True)[0]
    for axes, name in zip(panels, shown, strict=True):
        for row, result in enumerate(results):
            if name in result.scores:
                score = result.scores[name]
                low, high = _ends(score)
                axes.plot([low, high], [row, row], color=PALETTE[0], linewidth=2.2, solid_capstyle="round")
                axes.plot(score.value, row, "o", color=PALETTE[0], ms=6)
        for _, scores in shared_baselines(results):
            if name in scores:
                axes.axvline(scores[name].value, color=PALETTE[1], linestyle="--", linewidth=1.2, zorder=0)
        axes.set_title(SCORES[name], fontsize=11)
        axes.grid(axis="x", color="0.9", linewidth=0.6)
        axes.set_axisbelow(True)
        axes.spines[["top", "right", "left"]].set_visible(False)
        axes.tick_params(axis="y", length=0)
    panels[0].set_yticks(range(len(results)), [plain(result.system) for result in results])
    panels[0].set_ylim(len(results) - 0.5, -0.5)
    legend = [
        Line2D([], [], color=PALETTE[0], marker="o", linewidth=2.2, label="score and its interval"),
        Line2D([], [], color=PALETTE[1], linestyle="--", linewidth=1.2, label="baselines (mean or majority, random)"),
    ]
    figure.legend(handles=legend, loc="outside lower right", ncols=2, fontsize=8, frameon=False)
    first = results[0]
    speech = ", synthetic speech" if first.speech == "synthesised" else ""
    figure.suptitle(plain(f"{first.corpus}, split {first.split}{speech}"), fontsize=12, fontweight="bold")
    return figure


def _draw_agreement(axes: Axes, labels: np.ndarray, predicted: np.ndarray, dense: bool) -> None:
    low, high = min(labels.min(), predicted.min()), max(labels.max(), predicted.max())
    margin = 0.05 * (high - low) or 0.5
    limits = (low - margin, high + margin)
    if dense:
        grid: Any = {"gridsize": 45, "extent": (*limits, *limits), "norm": LogNorm(), "mincnt": 1, "linewidths": 0.2}
        density = axes.hexbin(labels, predicted, cmap="viridis_r", **grid)
        axes.figure.colorbar(density, ax=axes, orientation="horizontal", aspect=30, label="utterances per cell")
    else:
        opacity = float(np.clip(60 / len(labels) ** 0.75, 0.2, 0.8))
        axes.scatter(labels, predicted, s=14, alpha=opacity, color=PALETTE[0], linewidths=0, rasterized=True)
    axes.plot(limits, limits, color="black", linestyle="--", linewidth=1, label="prediction = label")
    axes.legend(loc="upper left", fontsize=8, frameon=True, framealpha=0.8)
    ticks = MaxNLocator(6).tick_values(*limits)
    axes.set(xticks=ticks, yticks=ticks, xlim=limits, ylim=limits, aspect="equal")
    axes.grid(color="0.9", linewidth=0.6)
    axes.set_axisbelow(True)


def _interval(score: dict[str, float | None]) -> str:
    value, low, high = (score.get(name) for name in ("value", "low", "high"))
    if value is None:
        return "undefined"
    return f"{value:.2f}" if low is None or high is None else f"{value:.2f} [{low:.2f}, {high:.2f}]"


def _ends(score: Score) -> tuple[float, float]:
    if score.deviation is not None:
        return score.value - score.deviation, score.value + score.deviation
    return (score.value if score.low is None else score.low), (score.value if score.high is None else score.high)
