"""Draws systems side by side: every score with its interval, and the baselines as lines."""

from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from emojax.evaluation.plots import PALETTE, plain
from emojax.evaluation.results import SCORES, Result, Score, shared_baselines

_MAX_SYSTEMS = 40


def draw_comparison(results: list[Result]) -> Figure | None:
    """Draws results on one split, one panel per score, one row per system, in the order given.

    Args:
      results: on the same corpus and split.

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


def _ends(score: Score) -> tuple[float, float]:
    if score.deviation is not None:
        return score.value - score.deviation, score.value + score.deviation
    return (score.value if score.low is None else score.low), (score.value if score.high is None else score.high)
