"""Fills the tables of a document with scores: `python -m emojax.reproduction docs/reproduction.md runs/*`."""

import argparse
import sys
from pathlib import Path

from emojax.errors import EmojaxError
from emojax.interruption import watch_signals


def main(argv: list[str] | None = None) -> int:
    """Fills the document in place and says which rows; returns the exit status (0, or 1 if nothing was filled)."""
    parser = argparse.ArgumentParser(
        prog="python -m emojax.reproduction", description="Fills marked tables of a Markdown file from workdirs."
    )
    parser.add_argument("document", type=Path, metavar="FILE", help="Markdown file with marked tables")
    parser.add_argument("workdirs", nargs="+", type=Path, metavar="WORKDIR", help="folder of an evaluated run")
    arguments = parser.parse_args(argv)
    from emojax.files import atomic_write
    from emojax.reporting.filled_tables import fill_tables
    from emojax.reporting.results import read_run

    try:
        document = arguments.document.read_text(encoding="utf-8")
        text, filled = fill_tables(document, [read_run(path) for path in arguments.workdirs])
        with atomic_write(arguments.document) as temporary:
            temporary.write_text(text, encoding="utf-8")
    except (EmojaxError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    print("\n".join(f"filled: {row}" for row in filled) or "no row of the document has one of these workdirs")
    return 0 if filled else 1


if __name__ == "__main__":
    watch_signals()
    sys.exit(main())
