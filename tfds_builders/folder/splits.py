"""Splits of a user corpus: those of the table, or speaker-disjoint random ones."""

import collections
import random
import re
from collections.abc import Sequence

from emojax.errors import CorpusError
from emojax.types import SplitAssignment
from tfds_builders.folder.table import Row

_NAME = re.compile(r"[\w-]{1,50}")
"""Names that are valid in TFDS file names and split expressions."""

_RESERVED = "all"

_SHARES = {"train": 0.7, "dev": 0.15, "test": 0.15}


def split_names(rows: Sequence[Row]) -> tuple[str, ...]:
    """Returns the splits of the table in order of appearance; train, dev and test for a table without splits.

    Raises:
      CorpusError: a name is invalid, or two names differ in case only.
    """
    found: dict[str, Row] = {}
    for row in rows:
        name = row.values.get("split", "")
        if name:
            found.setdefault(name, row)
    spellings: dict[str, str] = {}
    for name, row in found.items():
        if not _NAME.fullmatch(name) or name.casefold() == _RESERVED:
            raise CorpusError(
                f"{row.context}: split must be at most 50 letters, digits, _ and -, and not 'all', got {name!r}"
            )
        other = spellings.setdefault(name.casefold(), name)
        if other != name:
            raise CorpusError(f"{row.context}: split {name!r} is also written {other!r}")
    return tuple(found) or tuple(_SHARES)


def splits_of(rows: Sequence[Row], seed: int, context: str) -> list[str]:
    """Returns the split of each row: that of the table, or, in a table without splits, one drawn for each speaker.

    Args:
      rows: rows of the table.
      seed: seed of the random assignment.
      context: path of the table, for error messages.

    Raises:
      CorpusError: only some rows have a split, or a table without splits has fewer than three speakers.
    """
    if any(row.values.get("split") for row in rows):
        for row in rows:
            if not row.values["split"]:
                raise CorpusError(f"{row.context}: split is missing")
        return [row.values["split"] for row in rows]
    speakers = collections.Counter(row.text("speaker") for row in rows)
    if len(speakers) < 3:
        raise CorpusError(f"{context}: must have splits, or at least 3 speakers, got {len(speakers)} speakers")
    assigned = _assign_speakers(speakers, seed)
    return [assigned[row.text("speaker")] for row in rows]


def split_assignment_of(splits: tuple[str, ...]) -> SplitAssignment | None:
    """Derives the split assignment from the names of the splits; None if they are not conventional."""
    named = {split.casefold(): split for split in splits}
    train = named.get("train")
    validation = next(
        (named[name] for name in ("dev", "development", "val", "valid", "validation") if name in named), None
    )
    tests = tuple(split for split in splits if split.casefold().startswith("test"))
    return SplitAssignment(train, validation, tests) if train and validation and tests else None


def _assign_speakers(speakers: collections.Counter[str], seed: int) -> dict[str, str]:
    """Assigns speakers to train, dev and test with about 70, 15 and 15 % of the clips."""
    order = sorted(speakers)
    random.Random(seed).shuffle(order)
    order.sort(key=lambda speaker: -speakers[speaker])  # largest first, for shares close to the target
    total, filled, splits = speakers.total(), collections.Counter[str](), {}
    for speaker in order:
        split = min(_SHARES, key=lambda name: filled[name] / (_SHARES[name] * total))
        splits[speaker] = split
        filled[split] += speakers[speaker]
    return splits
