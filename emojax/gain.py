"""Measures what a system gained: `python -m emojax.gain runs/taught_seed* --over runs/alone_seed*`."""

import argparse
import json
import math
import sys
from pathlib import Path

from emojax.errors import EmojaxError
from emojax.interruption import watch_signals


def main(argv: list[str] | None = None) -> int:
    """Prints the gain in CCC by attribute with its interval; returns the exit status (0, or 1 for an error)."""
    arguments = _parser().parse_args(argv)
    from emojax.reporting.gain import measure_gain

    try:
        gains, what, undefined = measure_gain(arguments.workdirs, arguments.over, arguments.split, arguments.resamples)
    except EmojaxError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    if arguments.json:
        known = {
            attribute: {name: value if math.isfinite(value) else None for name, value in gain.items()}  # type: ignore[arg-type]
            for attribute, gain in gains.items()
        }
        print(json.dumps({"on": what, "ccc": known, "undefined": undefined}, indent=2, allow_nan=False))
        return 0
    print(f"{what}\n{'CCC':<11} before   after    gain   [95 %]             relative")
    for attribute, gain in gains.items():
        if attribute in undefined:
            print(f"{attribute:<11} undefined: {undefined[attribute]}")
            continue
        values = f"{gain['before']:6.3f}  {gain['after']:6.3f}  {gain['gain']:+6.3f}"
        interval = f"[{_text(gain['low'], '+.3f')}, {_text(gain['high'], '+.3f')}]"
        ends = f"[{_text(gain['relative_low'], '+.0%')}, {_text(gain['relative_high'], '+.0%')}]"
        print(f"{attribute:<11} {values}  {interval}   {_text(gain['relative'], '+.0%')} {ends}")
    return 0


def _text(value: float, form: str) -> str:
    return format(value, form) if math.isfinite(value) else "–"


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m emojax.gain",
        description="Difference in CCC of two systems on the same utterances; several workdirs of one are its seeds.",
    )
    parser.add_argument("workdirs", nargs="+", type=Path, metavar="WORKDIR", help="evaluated runs of the system")
    parser.add_argument("--over", nargs="+", type=Path, required=True, metavar="WORKDIR", help="of the one before it")
    parser.add_argument("--split", default="test", help="split whose predictions are compared (default: test)")
    parser.add_argument("--resamples", type=int, default=1000, help="of the bootstrap (default: 1000)")
    parser.add_argument("--json", action="store_true", help="print JSON")
    return parser


if __name__ == "__main__":
    watch_signals()
    sys.exit(main())
