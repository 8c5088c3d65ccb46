"""Matching of a table's header with the columns of the schema, and remarks on unused columns."""

import difflib
from collections.abc import Collection, Mapping, Sequence

from emojax.errors import CorpusError
from tfds_builders.folder.description import COLUMNS, VOTES

_ALIASES = {"path": "file", "activation": "arousal", "split": "partition", "gender": "sex"}
"""Names in audformat and elsewhere, accepted if the name of the schema is absent."""

_SIMILARITY = 0.75
"""Cutoff of `difflib` for suggestions: `valance` matches `valence`, `file_name` does not match `file`."""

_SHOWN = 20


def match_columns(header: Sequence[str], named: Mapping[str, str], context: str) -> dict[str, str]:
    """Matches the table's column names with those of the schema, ignoring case and surrounding blanks.

    Args:
      header: column names of the table.
      named: the user's mapping from schema names to table names; names absent from the table are skipped.
      context: path of the table, for error messages.

    Returns:
      Table name by schema name.

    Raises:
      CorpusError: two columns match one name of the schema.
    """
    found: dict[str, str] = {}
    for name, column in named.items():
        exact = [column] if column in header else []
        _add(found, name, exact or _fitting(header, column), context)
    for name in COLUMNS:
        free = [column for column in header if column not in found.values()]
        if name not in named:
            _add(found, name, _fitting(free, name) or _fitting(free, _ALIASES.get(name, "")), context)
    for column in header:
        category = column.strip()[len(VOTES) :].strip()
        if column.strip().casefold().startswith(VOTES) and category and column not in found.values():
            same = [name for name in found if name.casefold() == (VOTES + category).casefold()]
            _add(found, VOTES + category, [column, *(found[name] for name in same)], context)
    return found


def unused_columns(header: Sequence[str], used: Collection[str], taken: Collection[str]) -> list[str]:
    """Returns a remark for each unused column with a similar name in the schema, and one for all others.

    Args:
      header: column names of the table.
      used: names that are used.
      taken: schema names that the table has.
    """
    free = [name for name in (*COLUMNS, *_ALIASES.values()) if name not in taken]
    lines, others = [], []
    for name in header:
        if name in used:
            continue
        close = difflib.get_close_matches(name.strip().casefold(), free, n=1, cutoff=_SIMILARITY)
        if close:
            lines.append(f"column {name!r} is not used; did you mean {close[0]!r}?")
        else:
            others.append(name.strip() or "(unnamed)")
    if others:
        more = f" and {len(others) - _SHOWN} more" if len(others) > _SHOWN else ""
        lines.append(f"unused columns: {', '.join(others[:_SHOWN])}{more}")
    return lines


def _fitting(header: Sequence[str], wanted: str) -> list[str]:
    return [name for name in header if wanted and name.strip().casefold() == wanted.strip().casefold()]


def _add(found: dict[str, str], name: str, fitting: Sequence[str], context: str) -> None:
    if len(fitting) > 1:
        raise CorpusError(
            f"{context}: columns {', '.join(map(repr, fitting))} all match {name!r}; name one in `columns`"
        )
    if fitting:
        found[name] = fitting[0]
