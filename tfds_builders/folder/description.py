"""`corpus.json`: the user's description of a corpus."""

import dataclasses
import functools
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Literal

from emojax.errors import ConfigError, CorpusError
from emojax.schema import MinLen, parse, settings
from emojax.tables import MISSING_VALUES, is_unicode, json_object
from emojax.text_files import listing, read_text
from emojax.types import ATTRIBUTES

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
"""Columns of a table, in addition to `votes_CATEGORY`."""

LABELS = (*ATTRIBUTES, "emotion")
"""Columns with labels, in addition to `votes_CATEGORY`."""

VOTES = "votes_"
"""Prefix of columns of votes."""

_NAME = re.compile(r"[a-z][a-z0-9_]{0,99}")


@settings
class Description:
    """Fields of `corpus.json`."""

    name: Annotated[str, "Name of the corpus, which is built as `folder/NAME`."]
    table: Annotated[str | tuple[str, ...], MinLen(1), "Table file, or several that are joined, as in audformat."] = (
        "table.csv"
    )
    columns: Annotated[Mapping[str, str], "Column name in the table by name in the schema."] = dataclasses.field(
        default_factory=dict
    )
    scale: Annotated[tuple[float, float], "Lowest and highest rating."] = (0.0, 1.0)
    categories: Annotated[tuple[str, ...], "Emotions in order; empty: those that occur, sorted."] = ()
    missing_values: Annotated[tuple[str, ...], "Missing values of any column; an empty one is always missing."] = tuple(
        sorted(MISSING_VALUES)
    )
    unlabelled: Annotated[bool, "Whether a table without labels is accepted."] = False
    speech: Annotated[Literal["recorded", "synthesised"], "Recorded or synthetic speech."] = "recorded"
    attribute_source: Annotated[
        Literal["rated", "derived", "none"], "Origin of the attributes: human ratings, derived, or none."
    ] = "rated"
    licence: Annotated[str, "Licence of the corpus."] = ""
    citation: Annotated[str, "Reference to cite."] = ""
    seed: Annotated[int, "Seed of the split by speakers, if the table has no splits."] = 0

    def __post_init__(self) -> None:
        """Checks and normalises names."""
        if not _NAME.fullmatch(self.name):
            raise ConfigError(
                f"name must be at most 100 lower-case letters, digits and _, a letter first, got {self.name!r}"
            )
        if not self.scale[0] < self.scale[1]:
            raise ConfigError(f"scale must be lowest and highest rating, got {list(self.scale)}")
        for name in self.columns:
            if name not in COLUMNS and not (name.startswith(VOTES) and name != VOTES):
                raise ConfigError(f"columns.{name}: no such column; columns are {', '.join(COLUMNS)}, {VOTES}CATEGORY")
        object.__setattr__(self, "categories", tuple(name.strip() for name in self.categories))
        if len({name.casefold() for name in self.categories}) < len(self.categories):
            raise ConfigError(f"categories must differ, also in lower case, got {list(self.categories)}")
        for name in self.categories:
            if name in self.missing or name == "-1" or len(name.splitlines()) > 1:
                raise ConfigError(f"categories must be one line each, and none of missing_values or -1, got {name!r}")

    @property
    def tables(self) -> tuple[str, ...]:
        """Names of the table files."""
        return (self.table,) if isinstance(self.table, str) else self.table

    @functools.cached_property
    def missing(self) -> frozenset[str]:
        """All missing values, including the empty one."""
        return frozenset({"", *(value.strip() for value in self.missing_values)})


def read_description(folder: Path) -> Description:
    """Reads `corpus.json` of a folder.

    Raises:
      CorpusError: the file is missing or not JSON, or a field is unknown or invalid.
    """
    path = folder / DESCRIPTION
    if not path.is_file():
        raise CorpusError(f"{folder}: has no {DESCRIPTION}; found {listing(folder)}")
    tree = json_object(read_text(path)[0], str(path))
    if not is_unicode(tree):
        raise CorpusError(f"{path}: must be Unicode text without lone surrogates and NUL characters")
    return parse(Description, tree, str(path), error=CorpusError, missing="default")
