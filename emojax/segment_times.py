"""Parser of times: seconds, or the formats of a pandas `Timedelta`."""

import math
import re

from emojax.tables import parse_number

# 0 days · 1 days 02:03:04.5 · -1 days +23:59:59 · 1 day, 2:03:04 · 02:03:04 · 3:04
_CLOCK = re.compile(
    r"(?:(?P<days>[+-]?\d{1,9}) days?(?:$|,? \+?))?"
    r"(?:(?:(?P<hours>\d{1,9}):(?=[0-5]?\d:))?(?P<minutes>\d{1,9}):(?P<seconds>[0-5]?\d(?:\.\d+)?))?"
)

# P0DT0H0M1.5S · P-1DT23H59M59S
_ISO = re.compile(
    r"P(?:(?P<days>-?\d{1,9})D)?"
    r"(?:T(?:(?P<hours>\d{1,9})H)?(?:(?P<minutes>\d{1,9})M)?(?:(?P<seconds>\d{1,9}(?:\.\d+)?)S)?)?"
)

_UNITS = {"days": 86_400, "hours": 3_600, "minutes": 60, "seconds": 1}


def parse_seconds(text: str) -> float:
    """Parses a time in seconds: a number, a clock (`0 days 00:00:01.5`, `1:02:03`) or ISO 8601 (`P0DT1S`).

    Raises:
      ValueError: the format is invalid; the message does not contain the text.
    """
    match = _CLOCK.fullmatch(text) or _ISO.fullmatch(text)
    units = {name: value for name, value in match.groupdict().items() if value} if match else {}
    if units:
        return math.fsum(_UNITS[name] * float(value) for name, value in units.items())
    try:
        return parse_number(text)
    except ValueError:
        raise ValueError("must be a time in seconds, or of the form 0 days 00:00:01.5") from None


def parse_end(text: str) -> float | None:
    """Parses the end of a segment in seconds; None, the end of the file, if it is empty or -1.

    Raises:
      ValueError: the format is invalid; the message does not contain the text.
    """
    end = parse_seconds(text) if text else -1.0
    return None if end == -1 else end


def check_segment(start: float, end: float | None) -> None:
    """Checks that a segment starts at or after 0 and is not empty.

    Args:
      start: start of the segment (s).
      end: end of the segment (s); None for the end of the file.

    Raises:
      ValueError: the segment is invalid.
    """
    if start < 0:
        raise ValueError(f"start must be >= 0 s, got {start:g}")
    if end is not None and end < 0:
        raise ValueError(f"end must be > start, or empty or -1 for the end of the file, got {end:g}")
    if end is not None and end <= start:
        raise ValueError(f"end must be > start, got start {start:g} and end {end:g}")
