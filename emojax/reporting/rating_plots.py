"""Draws predicted distributions of ratings against those of the raters: coverage, spread, scores by agreement."""

from collections.abc import Callable, Mapping
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from emojax.reporting.plots import PALETTE, describe_evaluation
from emojax.types import ATTRIBUTES


def draw_ratings(summary: dict[str, Any]) -> Figure | None:
    """Draws the coverage of central intervals against their probability, and the CCC by the raters' agreement.

    Args:
      summary: `summarise` of the predictions of a split.

    Returns:
      None if the model predicts no distributions, or the corpus has neither histograms nor deviations of raters.
    """
    if "ratings" not in summary:
        return None
    covered = {
        name: scores["coverage"]
        for name, scores in summary["ratings"]["attributes"].items()
        if scores.get("coverage", {}).get("0.5") is not None
    }
    strata = summary.get("agreement", {})
    panels: list[tuple[Callable[..., None], Any]] = [(_draw_coverage, covered)] if covered else []
    panels += [(_draw_agreement, strata)] if strata else []
    if not panels:
        return None
    figure = Figure(figsize=(0.4 + 5.2 * len(panels), 5.0), dpi=120, layout="constrained")
    for axes, (draw, values) in zip(figure.subplots(1, len(panels), squeeze=False)[0], panels, strict=True):
        draw(axes, values)
    figure.suptitle(describe_evaluation(summary), fontsize=12, fontweight="bold")
    return figure


def _draw_coverage(axes: Axes, covered: Mapping[str, Mapping[str, float]]) -> None:
    axes.plot([0, 1], [0, 1], color="black", linestyle="--", linewidth=1, label="calibrated")
    for number, attribute in enumerate(ATTRIBUTES):
        if attribute in covered:
            levels = [float(level) for level in covered[attribute]]
            shares = list(covered[attribute].values())
            axes.plot(levels, shares, "o-", color=PALETTE[number], ms=3.5, linewidth=1.6, label=attribute)
    axes.set(xlim=(0, 1), ylim=(0, 1), aspect="equal")
    axes.set_xlabel("probability of the central interval")
    axes.set_ylabel("share of the ratings in it")
    axes.set_title("Coverage of predicted intervals\n(below the line: too narrow)", fontsize=11)
    axes.grid(color="0.9", linewidth=0.6)
    axes.legend(fontsize=8, frameon=False)


def _draw_agreement(axes: Axes, strata: Mapping[str, list[dict[str, Any]]]) -> None:
    for number, attribute in enumerate(ATTRIBUTES):
        parts = [part for part in strata.get(attribute, ()) if part["ccc"] is not None]
        middles = [(part["std_from"] + part["std_to"]) / 2 for part in parts]
        label = f"{attribute}, n = {', '.join(str(part['n']) for part in parts)}"
        axes.plot(middles, [part["ccc"] for part in parts], "o-", color=PALETTE[number], linewidth=1.6, label=label)
    axes.set_ylim(min(0.0, axes.get_ylim()[0]), 1.0)  # with room for the legend
    axes.set_xlabel("standard deviation of the raters (corpus scale), middle of the stratum")
    axes.set_ylabel("CCC within the stratum")
    axes.set_title("Strata of the raters' agreement\n(labels vary less within a stratum)", fontsize=11)
    axes.grid(color="0.9", linewidth=0.6)
    axes.legend(fontsize=8, frameon=False, loc="upper left")
