"""`corpus.json`: what a user says of their own corpus, checked."""

import dataclasses
import functools
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Literal

from emojax.errors import ConfigError, CorpusError
from emojax.schema import MinLen, parse, settings
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


@settings
class Description:
    """A corpus of the user's own: the fields of `corpus.json`."""

    name: Annotated[str, "Name of the corpus, which is then `folder/NAME`."]
    table: Annotated[
        str | tuple[str, ...], MinLen(1), "File beside `corpus.json`; several are joined, as audformat's tables."
    ] = "table.csv"
    columns: Annotated[Mapping[str, str], "The table's own names by ours, where they differ."] = dataclasses.field(
        default_factory=dict
    )
    scale: Annotated[tuple[float, float], "Lowest and highest rating."] = (0.0, 1.0)
    categories: Annotated[tuple[str, ...], "Emotions in order; empty: those that occur, by the alphabet."] = ()
    missing_values: Annotated[tuple[str, ...], "Values of any column that mean missing; an empty one always does."] = (
        tuple(sorted(MISSING_VALUES))
    )
    unlabelled: Annotated[bool, "Whether the table may have no labels."] = False
    speech: Annotated[Literal["recorded", "synthesised"], "Whether people or a synthesiser spoke."] = "recorded"
    attribute_source: Annotated[
        Literal["rated", "derived", "none"], "Whether people rated the attributes, they are derived, or there are none."
    ] = "rated"
    licence: Annotated[str, "Licence of the corpus."] = ""
    citation: Annotated[str, "How to cite it."] = ""
    seed: Annotated[int, "Seed of the split by speakers, where the table has none."] = 0

    def __post_init__(self) -> None:
        """Checks what types do not say, and strips names."""
        if not _NAME.fullmatch(self.name):
            raise ConfigError(
                f"name must be at most 100 lower-case letters, digits and _, a letter first, got {self.name!r}"
            )
        if not self.scale[0] < self.scale[1]:
            raise ConfigError(f"scale must be lowest and highest rating, got {list(self.scale)}")
        for ours in self.columns:
            if ours not in COLUMNS and not (ours.startswith(VOTES) and ours != VOTES):
                raise ConfigError(f"columns.{ours}: no such column; allowed: {', '.join(COLUMNS)}, {VOTES}CATEGORY")
        object.__setattr__(self, "categories", tuple(name.strip() for name in self.categories))
        if len({name.casefold() for name in self.categories}) < len(self.categories):
            raise ConfigError(f"categories must differ, also in lower case, got {list(self.categories)}")
        for name in self.categories:
            if name in self.missing or name == "-1" or len(name.splitlines()) > 1:
                raise ConfigError(f"categories must be one line each, and none of missing_values or -1, got {name!r}")

    @property
    def tables(self) -> tuple[str, ...]:
        """Names of all tables."""
        return (self.table,) if isinstance(self.table, str) else self.table

    @functools.cached_property
    def missing(self) -> frozenset[str]:
        """All values that mean "missing"."""
        return frozenset({"", *(value.strip() for value in self.missing_values)})


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
    return parse(Description, tree, str(path), error=CorpusError, missing="default")
