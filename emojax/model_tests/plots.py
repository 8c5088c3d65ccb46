"""Pictures of model tests: shares passed, differences between groups, and outputs that change by degradation."""

import numpy as np
from matplotlib.figure import Figure

from emojax.model_tests.results import GROUPS, Result, SplitResults, shares_by_group
from emojax.reporting.plots import PALETTE, plain

_MOST_MODELS = 6
"""Models that one picture shows."""

_MOST_ROWS = 60


def draw_shares(models: list[SplitResults]) -> Figure:
    """Draws the share of passed values of each group of tests, one bar per model."""
    models = models[:_MOST_MODELS]
    groups = (*GROUPS, "all")
    figure = Figure(figsize=(8.2, 1.6 + 0.26 * len(groups) * (len(models) + 0.6)), dpi=120, layout="constrained")
    axes = figure.subplots()
    height = 0.8 / len(models)
    for number, tested in enumerate(models):
        shares = [shares_by_group(tested.results)[group].share for group in groups]
        rows = np.arange(len(groups)) + (number - (len(models) - 1) / 2) * height
        widths = [100 * (share or 0.0) for share in shares]
        axes.barh(rows, widths, 0.9 * height, color=PALETTE[number % len(PALETTE)], label=plain(tested.model))
        for row, width, share in zip(rows, widths, shares, strict=True):
            text = "not measured" if share is None else f"{width:.0f} %"
            axes.text(width + 1, row, text, va="center", fontsize=8)
    axes.set_yticks(range(len(groups)), groups)
    axes.set(xlim=(0, 118), xlabel="share of values passed, mean over tests (%)")
    axes.invert_yaxis()
    axes.spines[["top", "right"]].set_visible(False)
    figure.legend(loc="outside lower right", ncols=3, fontsize=8, frameon=False)
    return figure


def draw_differences(models: list[SplitResults]) -> Figure | None:
    """Draws every value of the fairness tests as a multiple of its threshold; None without any."""
    models = models[:_MOST_MODELS]
    values: dict[str, dict[int, float]] = {}
    for number, tested in enumerate(models):
        for result in tested.results:
            if result.group == "fairness" and result.value is not None and result.threshold:
                label = ", ".join(filter(None, (result.test, result.output, result.metric, result.condition)))
                values.setdefault(label, {})[number] = result.value / result.threshold
    if not values:
        return None
    worst = sorted(values, key=lambda label: -max(values[label].values()))[:_MOST_ROWS]
    rows = [label for label in values if label in set(worst)]
    figure = Figure(figsize=(9.5, 1.4 + 0.21 * len(rows)), dpi=120, layout="constrained")
    axes = figure.subplots()
    for number, tested in enumerate(models):
        found = [(values[label][number], row) for row, label in enumerate(rows) if number in values[label]]
        x, y = zip(*found, strict=True) if found else ((), ())
        axes.plot(x, y, "o", ms=5, alpha=0.8, color=PALETTE[number % len(PALETTE)], label=plain(tested.model))
    axes.axvline(1.0, color="black", linestyle="--", linewidth=1)
    axes.set_yticks(range(len(rows)), [plain(label) for label in rows], fontsize=8)
    axes.set(ylim=(len(rows) - 0.5, -0.5), xlabel="difference / threshold (beyond the line: failed)")
    axes.set_xlim(left=0)
    axes.grid(axis="x", color="0.9", linewidth=0.6)
    axes.spines[["top", "right"]].set_visible(False)
    figure.legend(loc="outside lower right", ncols=3, fontsize=8, frameon=False)
    return figure


def draw_unchanged(models: list[SplitResults]) -> Figure | None:
    """Draws the share of unchanged outputs in every condition, a column per model and output; None without any."""
    models = models[:_MOST_MODELS]
    columns: list[tuple[int, str]] = []
    shares: dict[str, dict[tuple[int, str], Result]] = {}
    for number, tested in enumerate(models):
        for result in tested.results:
            if result.metric == "share unchanged" and result.value is not None:
                if (number, result.output) not in columns:
                    columns.append((number, result.output))
                shares.setdefault(result.condition or result.test, {})[number, result.output] = result
    if not shares:
        return None
    rows = list(shares.values())
    grid = np.array([[found[c].value if c in found else np.nan for c in columns] for found in rows], np.float64)
    figure = Figure(figsize=(4.4 + 0.62 * len(columns), 2.2 + 0.2 * len(shares)), dpi=120, layout="constrained")
    axes = figure.subplots()
    image = axes.imshow(grid, cmap="RdYlBu", vmin=0, vmax=1, aspect="auto")
    for row, found in enumerate(rows):
        for column, key in enumerate(columns):
            if key in found:
                value, failed = grid[row, column], found[key].status == "failed"
                colour = "white" if abs(value - 0.5) > 0.35 else "black"
                text = f"{100 * value:.0f}{' ✗' if failed else ''}"
                axes.text(column, row, text, ha="center", va="center", fontsize=7, color=colour)
    axes.set_yticks(range(len(shares)), [plain(name) for name in shares], fontsize=8)
    names = [output if len(models) == 1 else f"{models[number].model}: {output}" for number, output in columns]
    axes.set_xticks(range(len(columns)), [plain(name) for name in names], rotation=40, ha="right", fontsize=8)
    axes.spines[:].set_visible(False)
    axes.tick_params(length=0)
    figure.colorbar(image, ax=axes, shrink=0.5, label="share of unchanged outputs (numbers in %, ✗ failed)")
    return figure
