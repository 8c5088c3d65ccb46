"""Compares the model tests of workdirs: tables, rows as JSON or CSV, and an HTML page (`python -m emojax tests`)."""

import json
from pathlib import Path
from typing import Literal, TextIO

from emojax.errors import CheckpointError, EmojaxError
from emojax.files import atomic_write
from emojax.model_tests.page import render_tests_page
from emojax.model_tests.results import SplitResults, result_rows
from emojax.model_tests.table import by_split, print_tests
from emojax.reporting.report import common_folder, unique_names
from emojax.reporting.results import printable
from emojax.reporting.table import write_csv
from emojax.schema import parse
from emojax.workdir import TESTS, read_json

PAGE = "tests.html"


def write_tests_page(
    workdirs: list[Path],
    output: Path | None,
    style: Literal["table", "json", "csv"],
    out: TextIO,
    err: TextIO,
) -> Path:
    """Writes the results of workdirs to `out`, and side by side to an HTML file.

    Args:
      workdirs: folders with results of `--mode=test`; others are reported in `err` and skipped.
      output: HTML file; None: `tests.html` in the workdir, or in the common folder of several.
      style: format of the results in `out`.
      out: receives the results.
      err: receives one line per folder or file without results, and the path of the page.

    Returns:
      Path of the page.

    Raises:
      EmojaxError: no folder has results, or the page cannot be written.
    """
    found, problems = read_tests(workdirs)
    if not found:
        raise EmojaxError("; ".join(problems) or "no workdir was given")
    page = output or common_folder(workdirs) / PAGE
    text = render_tests_page(by_split(found), problems)
    with atomic_write(page) as temporary:
        temporary.write_text(text, encoding="utf-8")
    rows = [row for tested in found for row in result_rows(tested)]
    if style == "table":
        print_tests(found, out)
    elif style == "csv":
        write_csv(rows, out)
    else:
        json.dump(rows, out, indent=2, allow_nan=False)
        out.write("\n")
    out.flush()
    for problem in problems:
        print(problem, file=err)
    print(f"page: {page}", file=err)
    return page


def read_tests(workdirs: list[Path]) -> tuple[list[SplitResults], list[str]]:
    """Reads the results of workdirs, and one line per folder or file that has none."""
    found, problems = [], []
    for workdir, name in zip(workdirs, unique_names(workdirs), strict=True):
        if workdir.name == PAGE and workdir.is_file():
            continue  # an earlier page, caught by runs/*
        files = sorted((workdir / TESTS).glob("*.json")) + sorted((workdir / TESTS).glob("*/*.json"))
        if not files:
            problems.append(f"{workdir}: not tested; python launch.py --mode=test --workdir={workdir} tests it")
        for file in files:
            try:
                found.append(_read(file, name if len(workdirs) > 1 else ""))
            except CheckpointError as error:
                problems.append(str(error))
    return found, [printable(problem) for problem in problems]


def _read(path: Path, name: str) -> SplitResults:
    tree = read_json(path)
    if name:
        tree["model"] = name
    return parse(SplitResults, tree, str(path), error=CheckpointError, unknown="ignore", missing="default")
