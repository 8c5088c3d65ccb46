"""Reads the records of metrics.jsonl, whatever a killed run, a full disk or an editor left between them."""

import json
import math
from pathlib import Path
from typing import Any


def read_metric_records(path: Path) -> list[tuple[bytes, dict[str, Any]]]:
    """Reads every line that is a record; others (cut short, not UTF-8, not an object, without a step) are skipped.

    Args:
      path: `metrics.jsonl`.

    Returns:
      Each record's line, without its line break, and its fields; `step` is a finite number.

    Raises:
      OSError: the file cannot be read.
    """
    records = []
    for line in path.read_bytes().split(b"\n"):
        try:
            record = json.loads(line.decode("utf-8"))
        except (ValueError, RecursionError):
            continue
        if isinstance(record, dict) and _is_number(record.get("step")):
            records.append((line, record))
    return records


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) < math.inf
