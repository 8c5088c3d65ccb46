"""Table of several runs' scores, with means over seeds."""

import csv
import dataclasses
import json
import re
import statistics
from collections.abc import Iterable
from typing import Any, TextIO

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from emojax.evaluation.predictions import write_cell
from emojax.reporting.results import SCORES, Result, Run, Score, by_split, printable, shared_baselines


def group_seeds(runs: list[Run]) -> list[Result]:
    """Merges the results of runs whose configs differ only in `seed`: one result per corpus and split.

    Runs are not merged if a seed occurs twice (a copied workdir would reduce the deviation), or if their evaluations
    have different utterances or categories. Standard deviations are sample standard deviations (n - 1).
    """
    families: dict[str, list[Run]] = {}
    for run in runs:
        families.setdefault(run.configuration, []).append(run)
    results: list[Result] = []
    for family in families.values():
        apart = [result for run in family for result in run.results]
        if len({run.seed for run in family}) < len(family):
            results += apart
            continue
        name = family_name([run.name for run in family])
        for same_split in by_split(apart).values():
            measured = {(result.n, result.speakers, result.categories) for result in same_split}
            comparable = len(same_split) > 1 and len(measured) == 1
            results += [_merge(name, same_split)] if comparable else same_split
    return results


def _merge(name: str, results: list[Result]) -> Result:
    seconds = [result.seconds for result in results if result.seconds is not None]
    baselines = {
        key: _mean_scores([result.baselines[key] for result in results], with_deviation=False)
        for key in results[0].baselines
        if all(key in result.baselines for result in results)
    }
    return dataclasses.replace(
        results[0],
        system=name,
        seeds=tuple(seed for result in results for seed in result.seeds),
        interval=f"mean ± standard deviation over {len(results)} seeds",
        scores=_mean_scores([result.scores for result in results], with_deviation=True),
        baselines=baselines,
        seconds=statistics.fmean(seconds) if seconds else None,
        plots=(),
    )


def _mean_scores(scores: list[dict[str, Score]], with_deviation: bool) -> dict[str, Score]:
    merged = {}
    for name in scores[0]:
        if all(name in one for one in scores):
            values = [one[name].value for one in scores]
            deviation = statistics.stdev(values) if with_deviation else None
            merged[name] = Score(statistics.fmean(values), *_mean_interval([one[name] for one in scores]), deviation)
    return merged


def _mean_interval(scores: list[Score]) -> tuple[float | None, float | None]:
    """Means of the bounds: the typical interval of one run."""
    lows, highs = [score.low for score in scores], [score.high for score in scores]
    return tuple(  # type: ignore[return-value]
        None if None in bounds else statistics.fmean(bound for bound in bounds if bound is not None)
        for bounds in (lows, highs)
    )


def family_name(names: list[str]) -> str:
    """Name of runs that differ in their seeds: `student` for `student_seed0` and `student_seed1`."""
    stems = {re.sub(r"[-_.]?(seed|s)?[-_.]?\d+$", "", name) for name in names}
    stem = stems.pop()
    return stem if stem and not stems else f"{names[0]} and {len(names) - 1} more" if len(names) > 1 else names[0]


_WIDTH_OF_FILES = 140
"""Characters per line if the output is not a terminal."""


def print_tables(results: list[Result], file: TextIO) -> None:
    """Prints a table per corpus and split, with baselines below the systems, and the protocol of each row."""
    console = Console(file=file, highlight=False, width=None if file.isatty() else _WIDTH_OF_FILES)
    console.print()
    for same_split in by_split(results).values():
        console.print(Text(describe_split(same_split), style="bold"))
        console.print(_table(same_split))
    if results:
        console.print(Text("How each row was measured", style="bold"))
    for result in results:
        console.print(Text(f"  {describe_protocol(result)}"), soft_wrap=True)


def rows(results: list[Result]) -> list[dict[str, Any]]:
    """Systems and baselines as flat rows with the same keys; None for missing numbers."""
    flat = []
    for same_split in by_split(results).values():
        for result in same_split:
            flat.append(_row("system", result.system, result, result.scores))
        for title, scores in shared_baselines(same_split):
            flat.append(_row("baseline", title, same_split[0], scores))
    return flat


def write_json_rows(results: list[Result], file: TextIO) -> None:
    """Writes `rows` as one strict JSON list."""
    json.dump(rows(results), file, indent=2, allow_nan=False)
    file.write("\n")


def write_csv_rows(results: list[Result], file: TextIO) -> None:
    """Writes `rows` as CSV with a header; fields of missing numbers are empty.

    Text that a spreadsheet would evaluate has an apostrophe in front (see `emojax.evaluation.predictions`).
    """
    write_csv(rows(results), file)


def write_csv(flat: list[dict[str, Any]], file: TextIO) -> None:
    """Writes rows with the same keys as CSV with a header, texts as `write_cell` escapes them; nothing without rows."""
    if flat:
        writer = csv.DictWriter(file, list(flat[0]), lineterminator="\n")
        writer.writeheader()
        for row in flat:
            writer.writerow({key: write_cell(value) if isinstance(value, str) else value for key, value in row.items()})


def describe_split(results: list[Result]) -> str:
    """Heading of results on one split: corpus, split, kind of speech, number of utterances."""
    sizes = sorted({result.n for result in results})
    size = f"n = {sizes[0]}" if len(sizes) == 1 else f"n = {sizes[0]} to {sizes[-1]}: NOT the same utterances"
    kinds = {result.speech for result in results}
    speech = f"{kinds.pop()} speech" if len(kinds) == 1 else "speech of different kinds"
    scored = {result.categories for result in results if "uar" in result.scores}
    categories = ", NOT the same categories" if len(scored) > 1 else ""
    derived = ", attributes derived, not rated" if any(r.attribute_source == "derived" for r in results) else ""
    return f"{results[0].corpus}, split {results[0].split}: {speech}{derived}, {size}{categories}"


def describe_protocol(result: Result) -> str:
    """Describes how the scores of a row were measured: data, seeds, aggregation, intervals, categories."""
    speakers = "speakers unknown" if result.speakers is None else f"{result.speakers} speakers"
    seeds = f"seed{'s' if len(result.seeds) > 1 else ''} {', '.join(result.seeds)}"
    match = f"; categories: {result.match}" if result.match else ""
    undefined = "; ".join(f"{SCORES[name]} undefined: {why}" for name, why in result.undefined.items())
    return (
        f"{result.system}: {result.corpus}, split {result.split}, {result.speech} speech, n = {result.n}, {speakers}, "
        f"{seeds}, each score over all utterances of the split at once, {result.interval}{match}"
        f"{'; ' if undefined else ''}{undefined}"
    )


def shown_scores(results: Iterable[Result]) -> list[str]:
    """Names of the scores of at least one result, in the order of `SCORES`."""
    present = {name for result in results for name in result.scores}
    return [name for name in SCORES if name in present]


def score_text(score: Score | None) -> tuple[str, str]:
    """A score, and its interval or deviation, e.g. `.512` and `[.470, .550]`."""
    if score is None:
        return "–", ""
    if score.deviation is not None:
        return _short(score.value), f"± {_short(score.deviation)}"
    if score.low is None or score.high is None:
        return _short(score.value), ""
    return _short(score.value), f"[{_short(score.low)}, {_short(score.high)}]"


def parameters_text(parameters: int | None) -> str:
    """A number of parameters with three digits, e.g. `94.4 M`."""
    if parameters is None:
        return "–"
    for unit, size in (("G", 10**9), ("M", 10**6), ("k", 10**3)):
        if parameters >= size:
            return f"{parameters / size:#.3g}".rstrip(".") + f" {unit}"
    return str(parameters)


def seconds_text(seconds: float | None) -> str:
    """A time, e.g. `1 h 05 min`."""
    if seconds is None:
        return "–"
    if seconds < 60:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 60 else f"{minutes // 60} h {minutes % 60:02d} min"


def _table(results: list[Result]) -> Table:
    table = Table(box=box.SIMPLE_HEAD, padding=(0, 1), pad_edge=False)
    names = shown_scores(results)
    table.add_column("system", overflow="fold", min_width=12)
    for name in names:
        table.add_column(SCORES[name], justify="right")
    for title in ("parameters", "training"):
        table.add_column(title, justify="right", no_wrap=True)
    for result in results:
        cells = [_cell(result.scores.get(name)) for name in names]
        numbers = [Text(parameters_text(result.parameters)), Text(seconds_text(result.seconds))]
        table.add_row(Text(result.system), *cells, *numbers)
    table.add_section()
    for title, scores in shared_baselines(results):
        cells = [_cell(scores.get(name)) for name in names]
        table.add_row(Text(printable(title), style="italic"), *cells, Text(""), Text(""))
    return table


def _cell(score: Score | None) -> Text:
    value, spread = score_text(score)
    return Text.assemble(value, (f"\n{spread}" if spread else "", "dim"))


def _row(kind: str, system: str, result: Result, scores: dict[str, Score]) -> dict[str, Any]:
    own = kind == "system"
    row: dict[str, Any] = {
        "kind": kind,
        "system": system,
        "corpus": result.corpus,
        "split": result.split,
        "speech": result.speech,
        "attribute_source": result.attribute_source,
        "n": result.n,
        "speakers": result.speakers,
        "seeds": " ".join(result.seeds) if own else None,
        "interval": result.interval if own else None,
        "aggregation": "all utterances of the split at once",
        "categories": ", ".join(result.categories),
        "category_match": result.match if own else None,
        "undefined": "; ".join(f"{SCORES[name]}: {why}" for name, why in result.undefined.items()),
    }
    for name in SCORES:
        score = scores.get(name)
        row[name] = None if score is None else score.value
        for part in ("low", "high", "deviation"):
            row[f"{name}_{part}"] = None if score is None else getattr(score, part)
    return row | {"parameters": result.parameters if own else None, "seconds": result.seconds if own else None}


def _short(value: float) -> str:
    """Three decimals without the leading zero, e.g. `.512`, `-.030`, `1.000`."""
    text = f"{value:.3f}"
    if text == "-0.000":
        text = "0.000"
    return text.replace("0.", ".", 1) if text.lstrip("-").startswith("0.") else text
