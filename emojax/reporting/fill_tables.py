"""Fills tables of a Markdown document with the scores of workdirs: `python -m emojax fill-tables`.

A table is filled if the line before it names corpus and split: `<!-- scores: CORPUS SPLIT -->`, the corpus without its
version. A row begins with the name of a system in backticks: the name of the workdir, or the common part of the names
of several seeds (`mfb` for `mfb_seed0`, `mfb_seed1`). Columns named like a score (`CCC activation`, `UAR`, ...),
`parameters` and `seeds` are filled. All other columns, and rows of other systems, stay unchanged.
"""

import re
from collections.abc import Sequence
from pathlib import Path

from emojax.errors import EmojaxError
from emojax.files import atomic_write
from emojax.reporting.results import SCORES, Result, Run, Score, read_run
from emojax.reporting.table import group_seeds

_MARK = re.compile(r"<!-- scores: (\S+) (\S+) -->")
_NAME = re.compile(r"`([^`]+)`")


def fill_document(path: Path, workdirs: Sequence[Path]) -> list[str]:
    """Fills every marked table of a document in place.

    Args:
      path: Markdown document.
      workdirs: evaluated runs.

    Returns:
      Names of the rows that were filled, as `CORPUS SPLIT NAME`.

    Raises:
      EmojaxError: a workdir cannot be read, or as `fill_tables`.
      OSError: the document cannot be read.
    """
    text, filled = fill_tables(path.read_text(encoding="utf-8"), [read_run(workdir) for workdir in workdirs])
    with atomic_write(path) as temporary:
        temporary.write_text(text, encoding="utf-8")
    return filled


def fill_tables(text: str, runs: list[Run]) -> tuple[str, list[str]]:
    """Fills every marked table.

    Args:
      text: Markdown.
      runs: runs whose scores are filled in; seeds of one configuration are merged.

    Returns:
      The filled text, and the names of the rows that were filled, as `CORPUS SPLIT NAME`.

    Raises:
      EmojaxError: no table follows a mark, or several configurations have the name of one row.
    """
    results = _by_row(group_seeds(runs), runs)
    lines, filled = text.split("\n"), []
    number = 0
    while number < len(lines):
        found = _MARK.fullmatch(lines[number].strip())
        number += 1
        if not found:
            continue
        while number < len(lines) and not lines[number].strip():
            number += 1
        if number + 1 >= len(lines) or not lines[number].startswith("|"):
            raise EmojaxError(f"line {number + 1}: no table after {found[0]}")
        header = _cells(lines[number])
        number += 2
        while number < len(lines) and lines[number].startswith("|"):
            cells = _cells(lines[number])
            name = _NAME.search(cells[0])
            result = results.get((found[1], found[2], name[1])) if name else None
            if name and result is not None:
                lines[number] = "| " + " | ".join(_filled(header, cells, result)) + " |"
                filled.append(f"{result.corpus} {result.split} {name[1]}")
            number += 1
    return "\n".join(lines), filled


def _by_row(results: list[Result], runs: list[Run]) -> dict[tuple[str, str, str], Result]:
    rows: dict[tuple[str, str, str], Result] = {}
    ungrouped = {id(result) for run in runs for result in run.results}
    for result in results:
        # One seed alone keeps the folder's name, which may end in it.
        name = re.sub(r"[-_.]seed[-_.]?\d+$", "", result.system) if id(result) in ungrouped else result.system
        key = (result.corpus.rsplit("/", 1)[0], result.split, name)
        if key in rows:
            raise EmojaxError(
                f"{' '.join(key)}: is the name of several configurations; it must be that of one, with its seeds"
            )
        rows[key] = result
    return rows


def _cells(line: str) -> list[str]:
    return [cell.strip() for cell in line.strip().strip("|").split("|")]


def _filled(header: Sequence[str], cells: Sequence[str], result: Result) -> list[str]:
    columns = {title: result.scores[name] for name, title in SCORES.items() if name in result.scores}
    filled = []
    for title, cell in zip(header, cells, strict=False):
        if title in columns:
            cell = _score(columns[title])
        elif title == "parameters" and result.parameters is not None:
            cell = f"{result.parameters:,}"
        elif title == "seeds":
            cell = str(len(result.seeds))
        filled.append(cell)
    return filled


def _score(score: Score) -> str:
    text = f"{score.value:.3f}"
    if score.deviation is not None:
        text += f" ± {score.deviation:.3f}"
    if score.low is not None and score.high is not None:
        text += f" [{score.low:.2f}, {score.high:.2f}]"
    return text
