"""Renders grids as one self-contained HTML file: plots, scores of every condition, differences between models."""

from collections.abc import Sequence
from xml.etree.ElementTree import Element

from emojax.reporting.page import element, embedded_figure, render_document
from emojax.reporting.plots import png_bytes
from emojax.robustness.plots import draw_levels, draw_rooms_and_channels
from emojax.robustness.results import GridResults, summary_lines
from emojax.robustness.scores import Difference

_STYLE = """
td.name { text-align: left; } pre { overflow-x: auto; } td.lost { color: #c0392b; } td.won { color: #0a7a52; }
@media (prefers-color-scheme: dark) { td.won { color: #4cc38a; } td.lost { color: #ff8a7a; } }
"""

_EXPLANATION = (
    "Every clip is degraded in the same way for every model, so that differences are paired. Below a value is its 95 % "
    "bootstrap interval. The relative loss is the part of the score on clean clips that is lost. Differences whose "
    "interval excludes 0 are coloured."
)


def render_grid_page(grids: Sequence[GridResults]) -> str:
    """Renders the whole page; everything that comes from a file is escaped.

    Args:
      grids: results of each split.
    """
    body = element("body", element("h1", "Robustness"), element("p", _EXPLANATION, **{"class": "soft"}))
    for results in grids:
        where = f"{results.corpus}, split {results.split}"
        body.append(element("h2", where))
        body.append(element("p", _describe(results), **{"class": "soft"}))
        body.append(element("pre", "\n".join(summary_lines(results))))
        body.extend(_figures(results, where))
        for output in results.outputs:
            body.append(_table(results, output))
        notes = _notes(results)
        if notes:
            body.append(element("h3", "Notes"))
            body.append(element("ul", *[element("li", note) for note in notes]))
    return render_document("emojax robustness", body, _STYLE)


def _describe(results: GridResults) -> str:
    parts = [f"{results.speech} speech, {results.n} utterances, intervals over {results.units}"]
    parts += [f"{model}: mean of {len(runs)} runs" for model, runs in results.runs.items() if len(runs) > 1]
    parts += [f"transcripts of {model}: {source}" for model, source in results.transcripts.items()]
    if results.too_short:
        parts.append(f"{results.too_short} utterances are too short for a model and skipped")
    return "; ".join(parts)


def _figures(results: GridResults, where: str) -> list[Element]:
    drawn = (
        (draw_levels(results, "score"), f"Scores against signal-to-noise ratio on {where}"),
        (draw_levels(results, "relative_loss"), f"Relative losses against signal-to-noise ratio on {where}"),
        (draw_rooms_and_channels(results, "score"), f"Scores in rooms and through channels on {where}"),
    )
    return [embedded_figure(png_bytes(figure), caption) for figure, caption in drawn if figure is not None]


def _table(results: GridResults, output: str) -> Element:
    """Scores of an output: a row per condition, columns of each model."""
    metric = next(score.metric for score in results.scores if score.output == output)
    titles = ["condition"]
    for model in results.models:
        name = results.shown_name(model)
        titles += [name, f"{name}: change", "relative loss"]
        titles += [f"{name} − {results.reference}"] if model != results.reference else []
    table = element("table", element("thead", element("tr", *[element("th", title) for title in titles])))
    rows = []
    for condition in results.conditions:
        if condition.missing:
            continue
        row = element("tr", element("td", condition.name, **{"class": "name"}))
        for model in results.models:
            score = results.score(model, condition.name, output)
            nothing = Difference()
            row.append(_cell(score.score if score else nothing, ".3f"))
            row.append(_cell(score.change if score else nothing, "+.3f"))
            row.append(_cell(score.relative_loss if score else nothing, ".0%"))
            if model != results.reference:
                row.append(_cell(score.gain if score else nothing, "+.3f"))
        rows.append(row)
    table.append(element("tbody", *rows))
    heading = element("summary", f"{metric} {output}")
    return element("details", heading, element("div", table, **{"class": "scroll"}), open="open")


def _cell(value: Difference, form: str) -> Element:
    if value.value is None:
        return element("td", "–")
    attributes = {}
    if form.startswith("+") and value.low is not None and value.high is not None:
        attributes = {"class": "won"} if value.low > 0 else {"class": "lost"} if value.high < 0 else {}
    interval = []
    if value.low is not None and value.high is not None:
        interval = [element("small", f"{value.low:{form}} to {value.high:{form}}")]
    return element("td", f"{value.value:{form}}", *interval, **attributes)


def _notes(results: GridResults) -> list[str]:
    notes = []
    for condition in results.conditions:
        if condition.missing:
            notes.append(f"{condition.name}: not measured, {condition.missing}")
        if condition.name not in results.counts:
            continue
        counts = results.counts[condition.name]
        parts = [condition.note] if condition.note else []
        if counts.no_snr:
            parts.append(f"{_clips(counts.no_snr)} without noise, since speech or noise is silent")
        if counts.beyond:
            what = "clipped" if results.settings.get("full_scale") == "clip" else "scaled to a peak of 1"
            parts.append(f"{_clips(counts.beyond)} beyond full scale, {what}")
        if counts.word_error_rate is not None:
            parts.append(f"word error rate {100 * counts.word_error_rate:.1f} %")
        notes += [f"{condition.name}: {'; '.join(parts)}"] if parts else []
    return notes


def _clips(count: int) -> str:
    return "1 clip" if count == 1 else f"{count} clips"
