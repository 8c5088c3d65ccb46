"""`corpus.json`: what a user says of their own corpus, checked."""

import dataclasses
import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from emojax.errors import CorpusError
from emojax.types import ATTRIBUTES
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

_NAME = re.compile(r"[a-z][a-z0-9_]*")

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
    try:
        tree = json.loads(read_text(path)[0])
    except ValueError as error:
        raise CorpusError(f"{path}: is no JSON ({error})") from error
    if not isinstance(tree, dict):
        raise CorpusError(f"{path}: holds no JSON object")
    fields = {field.name for field in dataclasses.fields(Description)} - {"tables"} | {"table"}
    for name in tree:
        if name not in fields:
            raise CorpusError(f"{path}: no field {name!r}; allowed: {', '.join(sorted(fields))}")
    return _description(path, tree)


def _description(path: Path, tree: dict[str, Any]) -> Description:
    def field(name: str, default: Any, kind: type | tuple[type, ...], allowed: str) -> Any:
        value = tree.get(name, default)
        if not isinstance(value, kind) or isinstance(value, bool):
            raise CorpusError(f"{path}: {name}: {value!r} is not allowed; allowed: {allowed}")
        return value

    name = field("name", None, str, "a name of lower-case letters, digits and _")
    if not _NAME.fullmatch(name):
        raise CorpusError(f"{path}: name: {name!r} is not allowed; allowed: lower-case letters, digits and _")
    tables = field("table", "table.csv", (str, list), "a file name or a list of them")
    columns = field("columns", {}, dict, "an object from our names to the table's")
    for ours in columns:
        if ours not in COLUMNS and not ours.startswith("votes_"):
            raise CorpusError(f"{path}: columns: no column {ours!r}; allowed: {', '.join(COLUMNS)}, votes_CATEGORY")
    scale = field("scale", [0.0, 1.0], list, "[lowest, highest]")
    if len(scale) != 2 or not all(isinstance(x, int | float) for x in scale) or not scale[0] < scale[1]:
        raise CorpusError(f"{path}: scale: {scale!r} is not allowed; allowed: [lowest, highest]")
    speech = field("speech", "recorded", str, "text")
    source = field("attribute_source", "rated", str, "text")
    for key, value, allowed in (("speech", speech, _SPEECH), ("attribute_source", source, _SOURCES)):
        if value not in allowed:
            raise CorpusError(f"{path}: {key}: {value!r} is not allowed; allowed: {', '.join(allowed)}")
    return Description(
        name=name,
        tables=(tables,) if isinstance(tables, str) else tuple(tables),
        columns=columns,
        scale=(float(scale[0]), float(scale[1])),
        categories=tuple(field("categories", [], list, "a list of names")),
        speech=speech,
        attribute_source=source,
        licence=field("licence", "", str, "text"),
        citation=field("citation", "", str, "text"),
        seed=field("seed", 0, int, "an integer"),
    )
