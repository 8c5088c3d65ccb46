"""Gain of one system over another, with paired intervals."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from emojax.errors import CheckpointError, EmojaxError
from emojax.evaluation.predictions import Predictions
from emojax.evaluation.validation import undefined_scores
from emojax.metrics.bootstrap import Gain, bootstrap_gain, resampled_by
from emojax.reporting.evaluate import evaluation_directory
from emojax.reporting.plots import PALETTE, plain
from emojax.reporting.results import SCORES, Result, Score, shared_baselines
from emojax.schema import parse, settings
from emojax.types import ATTRIBUTES, CorpusInfo
from emojax.workdir import read_json

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


def measure_gain(
    after: Sequence[Path], before: Sequence[Path], split: str, num_resamples: int = 1000
) -> tuple[dict[str, Gain], str, dict[str, str]]:
    """Compares two systems on the utterances of a split that both have predicted.

    Args:
      after: evaluated workdirs of the one system, one per seed.
      before: of the other.
      split: whose predictions are read.
      num_resamples: of the bootstrap.

    Returns:
      The gain by attribute, in words what it is measured on, and the reason by attribute where it is undefined.

    Raises:
      EmojaxError: a workdir was not evaluated on the split, or not on the same utterances as the others, or predicts
        no attribute; `num_resamples` is below 1.
    """
    if num_resamples < 1:
        raise EmojaxError(f"--resamples: {num_resamples} is not allowed; allowed: an integer >= 1")
    found = {path: _read(path, split) for path in (*before, *after)}
    first = next(iter(found.values()))
    for path, predictions in found.items():
        same = predictions.ids == first.ids and np.array_equal(
            predictions.attribute_labels, first.attribute_labels, equal_nan=True
        )
        if not same or predictions.corpus.name != first.corpus.name:
            raise EmojaxError(f"{path}: was evaluated on other utterances than {before[0]}; allowed: the same split")
    for path, predictions in found.items():
        if np.isnan(predictions.attributes).all():
            raise EmojaxError(f"{path}: predicts no attribute; allowed: runs that were trained on attributes")
    undefined = {
        attribute: reasons[f"ccc.{attribute}"]
        for reasons in map(undefined_scores, found.values())
        for attribute in ATTRIBUTES
        if f"ccc.{attribute}" in reasons
    }
    gains = bootstrap_gain(
        [found[path].attributes for path in before],
        [found[path].attributes for path in after],
        np.where([attribute in undefined for attribute in ATTRIBUTES], np.nan, first.attribute_labels),
        first.speakers,
        num_resamples,
    )
    unit = resampled_by(first.speakers)
    number = len(set(first.speakers)) if unit == "speaker" else len(first.ids)
    speech = ", synthetic speech" if first.corpus.speech == "synthesised" else ""
    return (
        gains,
        f"{first.corpus.name} {split}{speech}, {len(first.ids)} utterances; 95 % over {number} {unit}s, paired",
        undefined,
    )


def _read(workdir: Path, split: str) -> Predictions:
    folder = evaluation_directory(workdir)
    path = folder / f"{split}.csv"
    if not path.is_file():
        raise EmojaxError(f"{workdir}: was not evaluated on {split!r}: {path} is not there")
    place = folder / f"{split}.json"
    found = parse(_Summary, read_json(place), str(place), error=CheckpointError, unknown="ignore")
    info = parse(
        CorpusInfo,
        {"name": found.corpus, **{key: getattr(found, key) for key in _SHARED}, "licence": "", "citation": ""},
        str(place),
        error=CheckpointError,
    )
    return Predictions.read_csv(path, info, split)


_SHARED = ("scale", "categories", "speech", "attribute_source")


@settings
class _Summary:
    """What `SPLIT.json` says of the corpus."""

    corpus: str
    scale: tuple[float, float]
    categories: tuple[str, ...]
    speech: str
    attribute_source: str
