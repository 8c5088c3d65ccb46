"""Compares workdirs on the command line: `python -m emojax.report runs/*`."""

import argparse
import sys
from pathlib import Path

from emojax.errors import EmojaxError
from emojax.interruption import watch_signals


def main(argv: list[str] | None = None) -> int:
    """Prints the comparison and writes the page; returns the exit status (0, or 1 if nothing could be compared)."""
    arguments = _parser().parse_args(argv)
    from emojax.reporting.report import write_report  # after parsing: --help and mistakes answer at once

    try:
        write_report(
            arguments.workdirs, arguments.output, arguments.group_seeds, arguments.style, sys.stdout, sys.stderr
        )
    except EmojaxError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m emojax.report",
        description="Compares evaluated workdirs: prints one table per corpus and split, and writes an HTML page.",
    )
    parser.add_argument("workdirs", nargs="+", type=Path, metavar="WORKDIR", help="folder of a run")
    parser.add_argument(
        "--output", type=Path, metavar="FILE", help="HTML file (default: report.html in the folder of the workdirs)"
    )
    style = parser.add_mutually_exclusive_group()
    for name in ("json", "csv"):
        style.add_argument(
            f"--{name}", dest="style", action="store_const", const=name, help=f"print the rows as {name.upper()}"
        )
    parser.set_defaults(style="table")
    parser.add_argument(
        "--group-seeds",
        action="store_true",
        help="one row, mean ± standard deviation, for workdirs whose configs differ only in the seed",
    )
    return parser


if __name__ == "__main__":
    watch_signals()
    sys.exit(main())
