"""`corpus.json`: what a user says of their own corpus, checked."""

import dataclasses
import re
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from emojax.errors import CorpusError
from emojax.types import ATTRIBUTES
from tfds_builders.tables import MISSING_VALUES, is_unicode, json_object
from tfds_builders.text_files import listing, read_text

DESCRIPTION = "corpus.json"

COLUMNS = (
    "path",
    "start",
    "end",
    "id",
    *ATTRIBUTES,
    *(f"{attribute}_std" for attribute in ATTRIBUTES),
    "emotion",
    "transcript",
    "speaker",
    "gender",
    "split",
)
"""What a table may hold, by our names; `votes_CATEGORY` too."""

LABELS = (*ATTRIBUTES, "emotion")
"""Columns that a model can be trained on; `votes_CATEGORY` too."""

VOTES = "votes_"
"""What columns of votes begin with."""

_NAME = re.compile(r"[a-z][a-z0-9_]{0,99}")

_SPEECH, _SOURCES = ("recorded", "synthesised"), ("rated", "derived", "none")


@dataclasses.dataclass(frozen=True)
class Description:
    """A corpus of the user's own.

    Attributes:
      name: of the corpus; it is then called `folder/NAME`.
      tables: files beside `corpus.json`; several are joined by path, start and end, as audformat's tables.
      columns: the table's own names by ours, where they differ.
      scale: lowest and highest rating.
      categories: names of the emotions in order; empty: those that occur, by the alphabet.
      missing_values: values of any column that mean "missing"; "" is always one of them.
      unlabelled: whether the table may have no labels.
      speech: whether people or a synthesiser spoke.
      attribute_source: whether people rated the attributes, they are derived, or there are none.
      licence: licence of the corpus.
      citation: how to cite it.
      seed: of the split by speakers, where the table has none.
    """

    name: str
    tables: tuple[str, ...]
    columns: Mapping[str, str]
    scale: tuple[float, float]
    categories: tuple[str, ...]
    missing_values: frozenset[str]
    unlabelled: bool
    speech: str
    attribute_source: str
    licence: str
    citation: str
    seed: int


def read_description(folder: Path) -> Description:
    """Reads `corpus.json` of a folder.

    Raises:
      CorpusError: it is absent, no JSON, or a field is unknown or has a value that is not allowed.
    """
    path = folder / DESCRIPTION
    if not path.is_file():
        raise CorpusError(f"{folder}: has no {DESCRIPTION}; found {listing(folder)}")
    tree = json_object(read_text(path)[0], str(path))
    if not is_unicode(tree):
        raise CorpusError(f"{path}: holds half of a surrogate pair or a NUL character; allowed: Unicode text")
    fields = {field.name for field in dataclasses.fields(Description)} - {"tables"} | {"table"}
    for name in tree:
        if name not in fields:
            raise CorpusError(f"{path}: no field {name!r}; allowed: {', '.join(sorted(fields))}")
    return _description(path, tree)


def _description(path: Path, tree: dict[str, Any]) -> Description:
    def field(name: str, default: Any, allowed: str, is_allowed: Callable[[Any], bool]) -> Any:
        value = tree.get(name, default)
        if not is_allowed(value):
            raise CorpusError(f"{path}: {name}: {value!r} is not allowed; allowed: {allowed}")
        return value

    table = field("table", "table.csv", "a file name or a list of them", lambda x: _is_text(x) or _are_texts(x, 1))
    scale = field("scale", [0.0, 1.0], "[lowest, highest]", _is_scale)
    categories = field("categories", [], "a list of different names, each one line of text", _are_categories)
    missing = field("missing_values", sorted(MISSING_VALUES), "a list of texts", _are_texts)
    for category in categories:
        if category.strip() in (*missing, "-1"):
            raise CorpusError(f"{path}: categories: {category!r} means a missing value; see missing_values")
    return Description(
        name=field("name", None, "lower-case letters, digits and _, a letter first", _is_name),
        tables=(table,) if isinstance(table, str) else tuple(table),
        columns=_columns(path, tree.get("columns", {})),
        scale=(float(scale[0]), float(scale[1])),
        categories=tuple(category.strip() for category in categories),
        missing_values=frozenset({"", *(value.strip() for value in missing)}),
        unlabelled=field("unlabelled", False, "true or false", lambda x: isinstance(x, bool)),
        speech=field("speech", "recorded", ", ".join(_SPEECH), lambda x: x in _SPEECH),
        attribute_source=field("attribute_source", "rated", ", ".join(_SOURCES), lambda x: x in _SOURCES),
        licence=field("licence", "", "text", lambda x: isinstance(x, str)),
        citation=field("citation", "", "text", lambda x: isinstance(x, str)),
        seed=field("seed", 0, "an integer", lambda x: isinstance(x, int) and not isinstance(x, bool)),
    )


def _columns(path: Path, columns: Any) -> dict[str, str]:
    if not isinstance(columns, dict) or not all(_is_text(theirs) for theirs in columns.values()):
        raise CorpusError(f"{path}: columns: {columns!r} is not allowed; allowed: an object from our names to yours")
    for ours in columns:
        if ours not in COLUMNS and not (ours.startswith(VOTES) and ours != VOTES):
            raise CorpusError(f"{path}: columns: no column {ours!r}; allowed: {', '.join(COLUMNS)}, {VOTES}CATEGORY")
    return columns


def _is_text(value: Any) -> bool:
    return isinstance(value, str) and bool(value.strip())


def _are_texts(value: Any, at_least: int = 0) -> bool:
    return isinstance(value, list) and all(isinstance(x, str) for x in value) and len(value) >= at_least


def _is_name(value: Any) -> bool:
    return isinstance(value, str) and bool(_NAME.fullmatch(value))


def _is_scale(value: Any) -> bool:
    numbers = isinstance(value, list) and len(value) == 2 and all(type(x) in (int, float) for x in value)
    # A comparison and not `isfinite`, which raises for the largest integers.
    return numbers and -sys.float_info.max <= value[0] < value[1] <= sys.float_info.max


def _are_categories(value: Any) -> bool:
    if not _are_texts(value) or not all(_is_text(name) and len(name.splitlines()) == 1 for name in value):
        return False
    return len({name.strip().casefold() for name in value}) == len(value)
