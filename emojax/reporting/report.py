"""Compares workdirs in tables and an HTML page: `python -m emojax report`."""

import os
from pathlib import Path
from typing import Literal, TextIO

from emojax.errors import CheckpointError, EmojaxError
from emojax.files import atomic_write
from emojax.reporting.page import render_page
from emojax.reporting.results import Run, printable, read_run
from emojax.reporting.table import group_seeds, print_tables, write_csv_rows, write_json_rows

REPORT = "report.html"


def write_report(
    paths: list[Path],
    output: Path | None,
    grouped: bool,
    style: Literal["table", "json", "csv"],
    out: TextIO,
    err: TextIO,
) -> Path:
    """Writes the comparison of workdirs to `out` and to an HTML file.

    Args:
      paths: workdirs; other paths are reported in `err` and skipped.
      output: HTML file; None: `report.html` in the workdir, or in the common folder of several.
      grouped: merge runs that differ only in their seed into one row.
      style: format of the rows.
      out: receives the rows.
      err: receives one line per run or file that is not in the report, and the path of the page.

    Returns:
      Path of the page.

    Raises:
      EmojaxError: no path is a workdir, or the page cannot be written.
    """
    runs, problems = _read_runs(paths)
    problems += [f"{run.name}: {problem}" for run in runs for problem in run.problems]
    problems = [printable(problem) for problem in problems]
    if not runs:
        raise EmojaxError("; ".join(problems) or "no workdir was given")
    results = group_seeds(runs) if grouped else [result for run in runs for result in run.results]
    page = output or common_folder([run.path for run in runs]) / REPORT
    text = render_page(runs, results, problems)
    with atomic_write(page) as temporary:
        temporary.write_text(text, encoding="utf-8")
    {"table": print_tables, "json": write_json_rows, "csv": write_csv_rows}[style](results, out)
    out.flush()
    for problem in problems:
        print(problem, file=err)
    print(f"report: {page}", file=err)
    return page


def _read_runs(paths: list[Path]) -> tuple[list[Run], list[str]]:
    runs, problems = [], []
    for path, name in zip(paths, unique_names(paths), strict=True):
        if path.name == REPORT and path.is_file():
            continue  # an earlier report, caught by runs/*
        try:
            runs.append(read_run(path, name))
        except CheckpointError as error:
            problems.append(str(error))
    return runs, problems


def unique_names(paths: list[Path]) -> list[str]:
    """Names of the folders, with their path where a name is not unique."""
    whole = [path.resolve() for path in paths]
    names = [path.name for path in whole]
    if len(set(names)) == len(set(whole)):
        return names
    common = Path(os.path.commonpath(whole))
    return [
        str(path.relative_to(common)) if names.count(name) > 1 else name
        for path, name in zip(whole, names, strict=True)
    ]


def common_folder(workdirs: list[Path]) -> Path:
    """The folder of one workdir, or the common folder of several."""
    if len(workdirs) == 1:
        return workdirs[0]
    return Path(os.path.commonpath([path.resolve() for path in workdirs]))
