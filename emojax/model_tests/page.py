"""Renders the results of model tests as one self-contained HTML file, several models side by side."""

from collections.abc import Mapping
from xml.etree.ElementTree import Element

from emojax.model_tests.plots import draw_differences, draw_shares, draw_unchanged
from emojax.model_tests.results import GROUPS, Result, SplitResults, share_of, shares_by_group, status_of_test
from emojax.model_tests.table import describe_data, share_text, skipped_tests
from emojax.reporting.page import element, embedded_figure, render_document
from emojax.reporting.plots import png_bytes

_STYLE = """
td.passed { color: #0a7a52; } td.failed { color: #c0392b; font-weight: 600; } td.skipped { color: var(--soft); }
@media (prefers-color-scheme: dark) { td.passed { color: #4cc38a; } td.failed { color: #ff8a7a; } }
td.name { text-align: left; }
"""

_EXPLANATION = (
    "Each value of a test has a threshold; the share of a group is the mean over its tests of each test's share of "
    "passed values. Skipped tests count neither as passed nor as failed. Attributes are on the scale 0 to 1."
)


def render_tests_page(splits: Mapping[tuple[str, str], list[SplitResults]], problems: list[str]) -> str:
    """Renders the whole page; everything that comes from a file is escaped.

    Args:
      splits: results of the models by corpus and split.
      problems: one line per folder or file without results.
    """
    body = element("body", element("h1", "Model tests"), element("p", _EXPLANATION, **{"class": "soft"}))
    for (corpus, split), models in splits.items():
        body.append(element("h2", f"{corpus}, split {split}"))
        body.append(element("p", describe_data(models), **{"class": "soft"}))
        body.append(_summary(models))
        body.extend(_figures(models, f"{corpus}, split {split}"))
        body.extend(_details(models))
        reasons = [element("li", line) for line in skipped_tests(models)]
        if reasons:
            body.append(element("details", element("summary", "Skipped"), element("ul", *reasons), open="open"))
    if problems:
        body.extend([element("h2", "Not tested"), element("ul", *[element("li", problem) for problem in problems])])
    return render_document("emojax model tests", body, _STYLE)


def _summary(models: list[SplitResults]) -> Element:
    """Outcome of every test by model, and shares by group."""
    table = _table(["test", *[tested.model for tested in models]])
    for group in (*GROUPS, "all"):
        shares = [shares_by_group(tested.results)[group] for tested in models]
        heading = "all tests" if group == "all" else group
        cells = [element("th", share_text(share.share), style="text-align: right") for share in shares]
        rows = [element("tr", element("th", heading), *cells)]
        tests = dict.fromkeys(r.test for tested in models for r in tested.results if r.group == group)
        for test in tests:
            row = element("tr", element("td", test))
            row.extend(_outcome([r for r in tested.results if r.test == test]) for tested in models)
            rows.append(row)
        table.append(element("tbody", *rows))
    return element("div", table, **{"class": "scroll"})


def _outcome(results: list[Result]) -> Element:
    status, share = status_of_test(results), share_of(results)
    counts = [] if status == "skipped" else [element("small", f"{share.passed} of {share.passed + share.failed}")]
    return element("td", status, *counts, **{"class": status})


def _details(models: list[SplitResults]) -> list[Element]:
    """Values and thresholds of every test."""
    found = []
    tests = dict.fromkeys(result.test for tested in models for result in tested.results)
    for test in tests:
        by_row: dict[tuple[str, str, str], dict[int, Result]] = {}
        for number, tested in enumerate(models):
            for result in tested.results:
                if result.test == test and result.status != "skipped":
                    by_row.setdefault((result.output, result.metric, result.condition), {})[number] = result
        if not by_row:
            continue
        table = _table(["output", "metric", "condition", "threshold", *[tested.model for tested in models]])
        rows = []
        for key, results in by_row.items():
            thresholds = sorted({f"{r.comparison} {r.threshold:.3g}" for r in results.values()})
            cells = [element("td", text, **{"class": "name"}) for text in key]
            cells.append(element("td", " or ".join(thresholds)))
            cells += [_value(results.get(number)) for number in range(len(models))]
            rows.append(element("tr", *cells))
        table.append(element("tbody", *rows))
        share = " / ".join(share_text(share_of(r for r in m.results if r.test == test).share) for m in models)
        heading = element("summary", f"{test}: {share}")
        found.append(element("details", heading, element("div", table, **{"class": "scroll"})))
    return found


def _value(result: Result | None) -> Element:
    if result is None:
        return element("td", "–", **{"class": "skipped"})
    value = "not defined" if result.value is None else f"{result.value:.3f}"
    return element("td", value, **{"class": result.status, "title": f"{result.status}, n = {result.n}; {result.note}"})


def _figures(models: list[SplitResults], where: str) -> list[Element]:
    drawn = (
        (draw_shares(models), f"Share of passed values on {where}"),
        (draw_differences(models), f"Fairness: differences between groups on {where}"),
        (draw_unchanged(models), f"Robustness: share of outputs unchanged by degradations on {where}"),
    )
    return [embedded_figure(png_bytes(figure), caption) for figure, caption in drawn if figure is not None]


def _table(titles: list[str]) -> Element:
    return element("table", element("thead", element("tr", *[element("th", title) for title in titles])))
