"""Splits of a user's corpus: as the table has them, or drawn by speaker."""

import collections
import random
import re
from collections.abc import Sequence

from emojax.errors import CorpusError
from emojax.types import SplitAssignment
from tfds_builders.folder.table import Row

_NAME = re.compile(r"[\w-]{1,50}")
"""What TFDS can write as part of a file name and read as a split."""

_RESERVED = "all"

_SHARES = {"train": 0.7, "dev": 0.15, "test": 0.15}


def split_names(rows: Sequence[Row]) -> tuple[str, ...]:
    """Splits that the table names, in order of appearance; train, dev and test where it names none.

    Raises:
      CorpusError: a name is not allowed, or two differ in upper and lower case alone.
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
                f"{row.place}: split must be at most 50 letters, digits, _ and -, and not 'all', got {name!r}"
            )
        other = spellings.setdefault(name.casefold(), name)
        if other != name:
            raise CorpusError(f"{row.place}: split {name!r} is also written {other!r}")
    return tuple(found) or tuple(_SHARES)


def splits_of(rows: Sequence[Row], seed: int, place: str) -> list[str]:
    """The split of each row: the table's, or where it names none, one drawn for each speaker.

    Args:
      rows: of the table.
      seed: of the draw.
      place: of the table, for messages.

    Raises:
      CorpusError: a row alone has no split, or there are fewer than three speakers to draw for.
    """
    if any(row.values.get("split") for row in rows):
        for row in rows:
            if not row.values["split"]:
                raise CorpusError(f"{row.place}: has no split")
        return [row.values["split"] for row in rows]
    speakers = collections.Counter(row.text("speaker") for row in rows)
    if len(speakers) < 3:
        raise CorpusError(
            f"{place}: names no split and {len(speakers)} speakers; allowed: splits, or 3 speakers or more"
        )
    drawn = _drawn(speakers, seed)
    return [drawn[row.text("speaker")] for row in rows]


def split_assignment_of(splits: tuple[str, ...]) -> SplitAssignment | None:
    """What splits are for, by their names; None where the names do not say."""
    named = {split.casefold(): split for split in splits}
    train = named.get("train")
    validation = next(
        (named[name] for name in ("dev", "development", "val", "valid", "validation") if name in named), None
    )
    tests = tuple(split for split in splits if split.casefold().startswith("test"))
    return SplitAssignment(train, validation, tests) if train and validation and tests else None


def _drawn(speakers: collections.Counter[str], seed: int) -> dict[str, str]:
    """A split for every speaker, about 70, 15 and 15 % of the clips to train, dev and test."""
    order = sorted(speakers)
    random.Random(seed).shuffle(order)
    order.sort(key=lambda speaker: -speakers[speaker])  # the largest first, so that the shares come out
    total, filled, splits = speakers.total(), collections.Counter[str](), {}
    for speaker in order:
        split = min(_SHARES, key=lambda name: filled[name] / (_SHARES[name] * total))
        splits[speaker] = split
        filled[split] += speakers[speaker]
    return splits
