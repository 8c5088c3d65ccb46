"""Tables of the outcomes of model tests, several models side by side."""

from collections.abc import Iterable
from typing import TextIO

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from emojax.model_tests.results import (
    GROUPS,
    TOO_SMALL,
    Result,
    SplitResults,
    share_of,
    shares_by_group,
    status_of_test,
)
from emojax.reporting.results import printable

_STYLES = {"passed": "green", "failed": "red", "skipped": "dim"}

_WIDTH_OF_FILES = 140
"""Characters per line if the output is not a terminal."""


def by_split(found: Iterable[SplitResults]) -> dict[tuple[str, str], list[SplitResults]]:
    """Groups results by corpus and split: results of one group can be compared."""
    groups: dict[tuple[str, str], list[SplitResults]] = {}
    for tested in found:
        groups.setdefault((tested.corpus, tested.split), []).append(tested)
    return groups


def print_tests(found: list[SplitResults], file: TextIO) -> None:
    """Prints a table per corpus and split: outcome of each test by model, shares of each group, reasons of skips."""
    console = Console(file=file, highlight=False, width=None if file.isatty() else _WIDTH_OF_FILES)
    for (corpus, split), models in by_split(found).items():
        console.print()
        console.print(Text(f"{corpus}, split {split}: {describe_data(models)}", style="bold"))
        console.print(_table(models))
        for line in skipped_tests(models):
            console.print(Text(f"  {line}", style="dim"), soft_wrap=True)


def describe_data(models: list[SplitResults]) -> str:
    """Describes the utterances of results on one split."""
    first = models[0]
    sizes = sorted({tested.n for tested in models})
    size = f"n = {sizes[0]}" if len(sizes) == 1 else f"n = {sizes[0]} to {sizes[-1]}: NOT the same utterances"
    speech = "synthetic speech" if first.speech == "synthesised" else "recorded speech"
    derived = ", attributes derived, not rated" if first.attribute_source == "derived" else ""
    return f"{speech}{derived}, {size}, {first.degraded} of them degraded"


def skipped_tests(models: list[SplitResults]) -> list[str]:
    """One line per reason why values were skipped: tests, reason, and the models if it is not that of all.

    Bins and categories that are too small are counted instead of listed.
    """
    reasons: dict[str, dict[str, set[str]]] = {}
    small: dict[tuple[str, str], int] = {}
    for tested in models:
        for result in tested.results:
            if result.status != "skipped":
                continue
            of_test = f"{result.test} ({result.output})" if result.output else result.test
            if result.note.startswith(TOO_SMALL):
                small[of_test, tested.model] = small.get((of_test, tested.model), 0) + 1
            else:
                reasons.setdefault(result.note, {}).setdefault(of_test, set()).add(tested.model)
    for (of_test, model), count in small.items():
        note = f"{TOO_SMALL}: {count} bins or categories with few labels or predictions in a group"
        reasons.setdefault(note, {}).setdefault(of_test, set()).add(model)
    lines = []
    for reason, tests in reasons.items():
        owners = set().union(*tests.values())
        whose = "" if len(owners) == len(models) else f" [{', '.join(sorted(owners))}]"
        lines.append(f"skipped: {', '.join(tests)}: {reason}{whose}")
    return lines


def _table(models: list[SplitResults]) -> Table:
    table = Table(box=box.SIMPLE_HEAD, padding=(0, 1), pad_edge=False)
    table.add_column("test", min_width=22)
    for tested in models:
        table.add_column(printable(tested.model), justify="right")
    for group in GROUPS:
        tests = {result.test: None for tested in models for result in tested.results if result.group == group}
        for test in tests:
            table.add_row(Text(test), *[_cell([r for r in m.results if r.test == test]) for m in models])
        shares = [shares_by_group(tested.results)[group].share for tested in models]
        table.add_row(Text(group, style="bold"), *[Text(share_text(share), style="bold") for share in shares])
        table.add_section()
    shares = [shares_by_group(tested.results)["all"].share for tested in models]
    table.add_row(Text("all tests", style="bold"), *[Text(share_text(share), style="bold") for share in shares])
    return table


def share_text(share: float | None) -> str:
    """A share of passed values in percent."""
    return "–" if share is None else f"{100 * share:.0f} %"


def _cell(results: list[Result]) -> Text:
    status = status_of_test(results)
    share = share_of(results)
    counts = "" if status == "skipped" else f" {share.passed}/{share.passed + share.failed}"
    return Text(f"{status}{counts}", style=_STYLES[status])
