"""Histograms of ratings: the corpus's own, or those of a table beside it.

A table is a CSV file with a column `id` and a column per attribute and value of the rating scale, `activation_1` to
`dominance_5` on a scale from 1 to 5: the number of raters who chose the value. An utterance that it does not name has
no histogram, nor has an attribute whose counts are all 0 or empty.
"""

import dataclasses
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float

from emojax.data.corpus import HISTOGRAM, MAX_RATING_BINS, Corpus, open_split, read_utterances
from emojax.errors import ConfigError, CorpusError
from emojax.tables import read_rows
from emojax.types import ATTRIBUTES, NUM_ATTRIBUTES

_CHUNK = 512

_MAX_RATERS = 10_000
"""Largest number of raters of one value."""


def with_rating_table(corpus: Corpus, path: str) -> Corpus:
    """Replaces the histograms of a corpus by those of a table.

    Args:
      corpus: from `open_corpus`.
      path: CSV file; "" keeps the corpus's own histograms, if it has any.

    Raises:
      ConfigError: the corpus has no whole numbers as ends of its scale.
      CorpusError: the file cannot be read, or its columns or values are not those of such a table.
    """
    if not path:
        return corpus
    bins = scale_bins(corpus.info.scale)
    if not bins:
        raise ConfigError(
            f"config.corpus.ratings must be '' for {corpus.info.name}, whose scale {list(corpus.info.scale)} does not "
            f"go from a whole number to another in up to {MAX_RATING_BINS} values"
        )
    table = read_rating_table(Path(path).expanduser(), corpus.info.scale)
    return dataclasses.replace(corpus, rating_bins=bins, rating_table=table)


def scale_bins(scale: tuple[float, float]) -> int:
    """K, the whole numbers of a scale; 0 if its ends are not whole numbers or there are too many."""
    low, high = scale
    bins = int(high - low) + 1
    return bins if low.is_integer() and high.is_integer() and bins <= MAX_RATING_BINS else 0


def read_rating_table(path: Path, scale: tuple[float, float]) -> dict[str, Float[np.ndarray, "3 K"]]:
    """Reads histograms by utterance id.

    Args:
      path: CSV file, as the module describes.
      scale: scale of the corpus, whose whole numbers are the values.

    Raises:
      CorpusError: the file cannot be read, a column is missing, a count is no whole number, or an id occurs twice.
    """
    columns = table_columns(scale)
    rows, found = read_rows(path, f"config.corpus.ratings: {path}", CorpusError)
    absent = [name for name in ("id", *columns) if name not in found]
    if absent:
        raise CorpusError(f"config.corpus.ratings: {path}: must have a column {absent[0]!r}")
    table: dict[str, np.ndarray] = {}
    for number, row in enumerate(rows, start=2):
        if row["id"] in table:
            raise CorpusError(f"config.corpus.ratings: {path}, row {number}: id {row['id']!r} occurs twice")
        counts = [_count(row[name], f"{path}, row {number}, column {name}") for name in columns]
        table[row["id"]] = np.array(counts, np.float32).reshape(NUM_ATTRIBUTES, -1)
    return table


def table_columns(scale: tuple[float, float]) -> list[str]:
    """Columns of a table beside `id`, `activation_1` and so on, in the order of histograms (3, K)."""
    values = range(int(scale[0]), int(scale[1]) + 1)
    return [f"{attribute}_{value}" for attribute in ATTRIBUTES for value in values]


def rating_counts(corpus: Corpus, utterance: Mapping[str, Any]) -> Float[np.ndarray, "3 K"]:
    """Histograms of an utterance, all 0 where unknown; K is `corpus.rating_bins`.

    Args:
      corpus: corpus of the utterance.
      utterance: from `read_utterances`.

    Raises:
      CorpusError: the stored histogram does not have the values of the corpus.
    """
    unknown = np.zeros((NUM_ATTRIBUTES, corpus.rating_bins), np.float32)
    if corpus.rating_table is not None:
        return corpus.rating_table.get(utterance["id"], unknown)
    found = utterance.get(HISTOGRAM, unknown) if corpus.rating_bins else unknown
    if found.shape != unknown.shape:
        raise CorpusError(f"{corpus.directory}: {utterance['id']!r} must have {HISTOGRAM} of shape {unknown.shape}")
    return found


def std_of_counts(counts: Float[np.ndarray, "B 3 K"]) -> Float[np.ndarray, "B 3"]:
    """Population standard deviation of counted ratings, whose values are K equally spaced ones from 0 to 1.

    NaN with fewer than two raters.
    """
    values = np.linspace(0.0, 1.0, max(counts.shape[-1], 1))[: counts.shape[-1]]
    raters = counts.sum(axis=-1)
    known = np.where(raters >= 2, raters, np.nan)
    mean = (counts * values).sum(axis=-1) / known
    return np.sqrt((counts * (values - mean[..., None]) ** 2).sum(axis=-1) / known)


def has_rating_counts(corpus: Corpus, split: str) -> bool:
    """Whether any utterance has a histogram; reads up to the first such utterance.

    Raises:
      CorpusError: the corpus has no such split, or the split cannot be read.
    """
    return corpus.rating_bins > 0 and _any(corpus, split, lambda row: bool(rating_counts(corpus, row).any()))


def has_rating_std(corpus: Corpus, split: str) -> bool:
    """Whether any utterance has a standard deviation over raters; reads up to the first such utterance.

    Raises:
      CorpusError: the corpus has no such split, or the split cannot be read.
    """
    return _any(corpus, split, lambda row: not np.isnan(row["attributes_std"]).all())


def has_votes(corpus: Corpus, split: str) -> bool:
    """Whether any utterance has a vote for one of the corpus's categories; reads up to the first such utterance.

    Raises:
      CorpusError: the corpus has no such split, or the split cannot be read.
    """
    return _any(corpus, split, lambda row: bool((np.nan_to_num(corpus.votes(row["emotion_votes"][None])) > 0).any()))


def _any(corpus: Corpus, split: str, holds: Callable[[Mapping[str, Any]], bool]) -> bool:
    source = open_split(corpus, split)
    for start in range(0, len(source), _CHUNK):
        positions = range(start, min(start + _CHUNK, len(source)))
        if any(map(holds, read_utterances(source, positions, corpus.describe(split), audio=False))):
            return True
    return False


def _count(text: str | None, context: str) -> int:
    text = (text or "").strip()
    if not text:
        return 0
    if not (text.isascii() and text.isdecimal() and int(text[:6]) <= _MAX_RATERS and len(text) <= 6):
        raise CorpusError(
            f"config.corpus.ratings: {context}: must be a whole number from 0 to {_MAX_RATERS}, got {text!r}"
        )
    return int(text)
