"""Renders the report as one self-contained HTML file: no network, no scripts, plots embedded."""

import base64
from pathlib import Path
from xml.etree import ElementTree

from emojax.errors import EmojaxError
from emojax.reporting.learning_curves import draw_learning_curves, read_curves
from emojax.reporting.plots import draw_comparison, png_bytes
from emojax.reporting.results import RATING_SCORES, SCORES, Result, Run, Score, by_split, printable, shared_baselines
from emojax.reporting.table import (
    describe_protocol,
    describe_split,
    parameters_text,
    score_text,
    seconds_text,
    shown_scores,
)
from emojax.workdir import METRICS

Element = ElementTree.Element

_PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"
_MAX_PLOT_BYTES = 4_000_000

# A page of a workdir from elsewhere must not fetch or run anything, even if an escape were missing.
_POLICY = "default-src 'none'; img-src data:; style-src 'unsafe-inline'"

_STYLE = """
:root { color-scheme: light dark; --ink: #1b1f24; --soft: #57606a; --line: #d0d7de; --band: #f3f5f7; --page: #ffffff; }
@media (prefers-color-scheme: dark) {
  :root { --ink: #e6edf3; --soft: #9aa5b1; --line: #3a424c; --band: #1c232b; --page: #0f141a; }
}
body { margin: 2rem auto; max-width: 76rem; padding: 0 1.2rem; background: var(--page); color: var(--ink);
  font: 15px/1.5 system-ui, sans-serif; }
h1 { font-size: 1.5rem; } h2 { font-size: 1.15rem; margin-top: 2.2rem; }
.scroll { overflow-x: auto; }
table { border-collapse: collapse; width: 100%; font-variant-numeric: tabular-nums; }
th, td { padding: .35rem .7rem; text-align: right; border-bottom: 1px solid var(--line); vertical-align: top; }
th:first-child, td:first-child { text-align: left; }
tbody th { background: var(--band); text-align: left; }
tr.baseline td { color: var(--soft); font-style: italic; }
small, .soft { color: var(--soft); } td small { white-space: nowrap; display: block; }
figure { margin: 1rem 0; } figcaption { color: var(--soft); font-size: .9rem; }
img { max-width: 100%; background: #fff; border-radius: 6px; }
summary { cursor: pointer; font-weight: 600; margin: .6rem 0; } li { overflow-wrap: anywhere; }
"""


def render_page(runs: list[Run], results: list[Result], problems: list[str]) -> str:
    """Renders the whole page; everything that comes from a file is escaped.

    Args:
      runs: runs whose plots are shown.
      results: rows of the table.
      problems: one line per run or file that is not in the table.
    """
    sections = list(by_split(results).values())
    body = element("body", element("h1", "Evaluation report"))
    if results:
        body.extend([element("p", _explanation(), **{"class": "soft"}), _table(sections), *_comparisons(sections)])
        lines = [element("li", describe_protocol(result)) for result in results]
        body.extend([element("h2", "How each row was measured"), element("ul", *lines)])
    body.extend(_ratings(runs))
    if problems:
        lines = [element("li", problem) for problem in problems]
        body.extend([element("h2", "Not in the table"), element("ul", *lines)])
    body.extend([element("h2", "Plots"), *[_plots_of(run) for run in runs]])
    return render_document("emojax report", body)


def render_document(title: str, body: Element, style: str = "") -> str:
    """Renders a page that needs no network and runs no scripts.

    Args:
      title: title of the window.
      body: `body` element; everything in it is escaped.
      style: further CSS.
    """
    head = element(
        "head",
        element("meta", charset="utf-8"),
        element("meta", **{"http-equiv": "Content-Security-Policy", "content": _POLICY}),
        element("meta", name="viewport", content="width=device-width, initial-scale=1"),
        element("title", title),
        element("style", _STYLE + style),
    )
    page = ElementTree.tostring(element("html", head, body, lang="en"), encoding="unicode", method="html")
    return f"<!doctype html>\n{page}\n"


def _explanation() -> str:
    return (
        "Every row is one split of one corpus; nothing is averaged over splits. Below a score is its 95 % bootstrap "
        "interval, or its standard deviation over seeds. CCC is the concordance correlation coefficient, UAR the "
        "unweighted average recall."
    )


def _table(sections: list[list[Result]]) -> Element:
    names = shown_scores(result for section in sections for result in section)
    titles = ["system", *[SCORES[name] for name in names], "parameters", "training"]
    table = element("table", element("thead", element("tr", *[element("th", title) for title in titles])))
    for results in sections:
        heading = element("th", describe_split(results), colspan=str(len(titles)))
        rows = [element("tr", heading)]
        for result in results:
            numbers = [parameters_text(result.parameters), seconds_text(result.seconds)]
            rows.append(_row(result.system, [result.scores.get(name) for name in names], numbers))
        for title, scores in shared_baselines(results):
            rows.append(_row(title, [scores.get(name) for name in names], ["", ""], **{"class": "baseline"}))
        table.append(element("tbody", *rows))
    return element("div", table, **{"class": "scroll"})


def _ratings(runs: list[Run]) -> list[Element]:
    """Scores of predicted distributions of ratings, one row per run, split and attribute; [] without any."""
    titles = ["system", "split", "attribute", *RATING_SCORES.values()]
    table = element("table", element("thead", element("tr", *[element("th", title) for title in titles])))
    rows = element("tbody")
    for run in runs:
        for result in run.results:
            for attribute, scores in result.ratings.items():
                texts = [result.system, f"{result.corpus}, {result.split}", attribute]
                texts += [f"{scores[name]:.3f}" if name in scores else "–" for name in RATING_SCORES]
                rows.append(element("tr", *[element("td", text) for text in texts]))
    if not len(rows):
        return []
    table.append(rows)
    explanation = (
        "Every single rating counts. NLL (negative log-likelihood, nats) and CRPS (corpus scale) are lower for better "
        "distributions; marginal: the distribution of all ratings of the split for every utterance; least "
        "possible: the histogram of each utterance itself. Calibration error: mean difference between the probability "
        "of central intervals and the share of ratings in them."
    )
    heading = element("h2", "Distributions of ratings")
    return [heading, element("p", explanation, **{"class": "soft"}), element("div", table, **{"class": "scroll"})]


def _row(system: str, scores: list[Score | None], numbers: list[str], **attributes: str) -> Element:
    cells = [element("td", value, element("small", spread)) for value, spread in map(score_text, scores)]
    return element("tr", element("td", system), *cells, *[element("td", n) for n in numbers], **attributes)


def _comparisons(sections: list[list[Result]]) -> list[Element]:
    figures = []
    for results in sections:
        figure = draw_comparison(results) if len(results) > 1 else None
        if figure is not None:
            figures.append(embedded_figure(png_bytes(figure), f"Systems compared on {describe_split(results)}"))
    return figures


def _plots_of(run: Run) -> Element:
    figures = []
    for result in run.results:
        for path in result.plots:
            content = _read_png(path)
            if content is not None:
                where = f"{result.corpus}, split {result.split}, {result.speech} speech"
                figures.append(embedded_figure(content, f"{run.name} on {where}: {path.stem}"))
    try:
        title = f"{run.name} ({run.trained_on})"
        curves = draw_learning_curves(read_curves(run.path / METRICS), title, run.best_step)
    except EmojaxError:
        curves = None  # not trained yet
    if curves is not None:
        figures.append(
            embedded_figure(png_bytes(curves), f"Learning curves of {run.name}, trained on {run.trained_on}")
        )
    if not figures:
        figures.append(element("p", "No plots.", **{"class": "soft"}))
    return element("details", element("summary", run.name), *figures, open="open")


def _read_png(path: Path) -> bytes | None:
    """Content of a PNG file of reasonable size; None for any other file."""
    try:
        if not path.is_file() or path.stat().st_size > _MAX_PLOT_BYTES:
            return None
        content = path.read_bytes()
    except OSError:
        return None
    return content if content.startswith(_PNG_SIGNATURE) else None


def embedded_figure(png: bytes, caption: str) -> Element:
    """A figure whose picture is part of the page.

    Args:
      png: PNG file.
      caption: text below it.
    """
    source = "data:image/png;base64," + base64.b64encode(png).decode()
    return element("figure", element("img", src=source, alt=printable(caption)), element("figcaption", caption))


def element(tag: str, *children: str | Element, **attributes: str) -> Element:
    """Creates an element; the serialiser escapes text and attributes."""
    created = Element(tag, attributes)
    for child in children:
        if isinstance(child, str):
            created.text = (created.text or "") + child
        else:
            created.append(child)
    return created
