"""Which of our columns a table's header means, and what it holds that no column of ours reads."""

import difflib
from collections.abc import Collection, Mapping, Sequence

from emojax.errors import CorpusError
from tfds_builders.folder.description import COLUMNS, VOTES

_ALIASES = {"path": "file", "activation": "arousal", "split": "partition", "gender": "sex"}
"""Columns that are called so in audformat and elsewhere, read where ours is not there."""

_SIMILARITY = 0.75
"""Of a near miss, by `difflib`: `valance` is `valence`, `file_name` is not `file`."""

_SHOWN = 20


def match_columns(header: Sequence[str], named: Mapping[str, str], place: str) -> dict[str, str]:
    """The table's names by ours; upper and lower case, and blanks around a name, make no difference.

    Args:
      header: the table's names.
      named: the user's own mapping from our names to theirs; one that the table lacks is skipped.
      place: of the table, for messages.

    Raises:
      CorpusError: two of the table's names fit one of ours.
    """
    found: dict[str, str] = {}
    for ours, theirs in named.items():
        exact = [theirs] if theirs in header else []
        _add(found, ours, exact or _fitting(header, theirs), place)
    for ours in COLUMNS:
        free = [name for name in header if name not in found.values()]
        if ours not in named:
            _add(found, ours, _fitting(free, ours) or _fitting(free, _ALIASES.get(ours, "")), place)
    for theirs in header:
        category = theirs.strip()[len(VOTES) :].strip()
        if theirs.strip().casefold().startswith(VOTES) and category and theirs not in found.values():
            same = [name for name in found if name.casefold() == (VOTES + category).casefold()]
            _add(found, VOTES + category, [theirs, *(found[name] for name in same)], place)
    return found


def unused_columns(header: Sequence[str], used: Collection[str], taken: Collection[str]) -> list[str]:
    """A line for each column that is not used but is called almost as one of ours, and one for all others.

    Args:
      header: the table's names.
      used: those of them that are used.
      taken: our columns that the table has.
    """
    ours = [name for name in (*COLUMNS, *_ALIASES.values()) if name not in taken]
    lines, others = [], []
    for name in header:
        if name in used:
            continue
        close = difflib.get_close_matches(name.strip().casefold(), ours, n=1, cutoff=_SIMILARITY)
        if close:
            lines.append(f"column {name!r} is not used; did you mean {close[0]!r}?")
        else:
            others.append(name.strip() or "(without a name)")
    if others:
        more = f" and {len(others) - _SHOWN} more" if len(others) > _SHOWN else ""
        lines.append(f"columns that are not used: {', '.join(others[:_SHOWN])}{more}")
    return lines


def _fitting(header: Sequence[str], wanted: str) -> list[str]:
    return [name for name in header if wanted and name.strip().casefold() == wanted.strip().casefold()]


def _add(found: dict[str, str], ours: str, fitting: Sequence[str], place: str) -> None:
    if len(fitting) > 1:
        raise CorpusError(f"{place}: columns {', '.join(map(repr, fitting))} are all {ours!r}; name one in `columns`")
    if fitting:
        found[ours] = fitting[0]
