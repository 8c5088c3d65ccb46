"""A split's table without its audio: what batching, evaluation and baselines must know of every utterance."""

import dataclasses
from collections.abc import Mapping

import numpy as np
from jaxtyping import Float, Int

from emojax.content import ContentDigest, joined_digests
from emojax.data.corpus import Corpus, open_split, split_parts
from emojax.data.index_cache import read_cached_table, write_cached_table
from emojax.data.records import read_utterances
from emojax.errors import CorpusError
from emojax.progress import Progress
from emojax.types import MISSING_EMOTION, NUM_ATTRIBUTES

_CHUNK = 64
"""Utterances in memory at a time, audio included."""


@dataclasses.dataclass(frozen=True)
class SplitIndex:
    """One row per utterance, in the order of the data source.

    Attributes:
      ids: unique id within the corpus.
      speakers: speaker id; "" where unknown.
      genders: gender; "" where unknown.
      num_samples: length at 16 kHz.
      attributes: activation, valence, dominance in the corpus's own scale; NaN where missing.
      emotion: consensus category; -1 where missing.
      content: digests (`emojax.content`) of the split; of a part of a split, of the whole split.
    """

    ids: np.ndarray
    speakers: np.ndarray
    genders: np.ndarray
    num_samples: Int[np.ndarray, "N"]
    attributes: Float[np.ndarray, "N 3"]
    emotion: Int[np.ndarray, "N"]
    content: Mapping[str, str]

    def __len__(self) -> int:
        return len(self.ids)


def read_index(corpus: Corpus, split: str) -> SplitIndex:
    """Reads a split's table; the first reading scans the split, audio included, and its result is kept.

    Raises:
      CorpusError: no such split, the split is empty, or its content is not what the corpus's metadata describes.
    """
    open_split(corpus, split)  # names what is wrong with the name
    parts = split_parts(corpus, split)
    tables = {name: _whole_table(corpus, name) for name in dict(parts)}
    columns = {
        column: np.concatenate([tables[name][0][column][rows] for name, rows in parts])
        for column in next(iter(tables.values()))[0]
    }
    content = joined_digests([tables[name][1] for name, _ in parts])
    return SplitIndex(**(columns | {"emotion": corpus.emotion(columns["emotion"])}), content=content)


def _whole_table(corpus: Corpus, name: str) -> tuple[dict[str, np.ndarray], Mapping[str, str]]:
    """Columns and digests of one whole split."""
    cached = read_cached_table(corpus, name)
    if cached is not None:
        return cached
    columns, content = _scan(corpus, name)
    described = corpus.content.get(name, content)
    changed = [feature for feature in content if content[feature] != described[feature]]
    if changed:
        raise CorpusError(
            f"{corpus.place(name)}: {', '.join(changed)} of its files differ from what its metadata describes; "
            "build it again with --overwrite"
        )
    write_cached_table(corpus, name, columns, content)
    return columns, content


def _scan(corpus: Corpus, name: str) -> tuple[dict[str, np.ndarray], dict[str, str]]:
    source, place, digest = open_split(corpus, name), corpus.place(name), ContentDigest()
    rows: list[dict] = []
    with Progress(f"first reading of {corpus.info.name} {name}", len(source), "utterances") as progress:
        for start in range(0, len(source), _CHUNK):
            for row in read_utterances(source, range(start, min(start + _CHUNK, len(source))), place):
                digest.update(row)
                del row["audio"]
                rows.append(row)
                progress.advance()
    columns = {
        "ids": np.array([row["id"] for row in rows]),
        "speakers": np.array([row["speaker"] for row in rows]),
        "genders": np.array([row["gender"] for row in rows]),
        "num_samples": np.array([row["num_samples"] for row in rows], np.int64),
        "attributes": np.array([row["attributes"] for row in rows], np.float32).reshape(-1, NUM_ATTRIBUTES),
        "emotion": np.array([row["emotion"] for row in rows], np.int32),
    }
    _check_values(columns, np.array([len(row["emotion_votes"]) for row in rows]), place)
    return columns, digest.hexdigests()


def _check_values(columns: Mapping[str, np.ndarray], num_categories: Int[np.ndarray, "N"], place: str) -> None:
    """Checks what batches and scores rely on; every utterance has a share of votes for each category."""
    unique, counts = np.unique(columns["ids"], return_counts=True)
    if len(unique) < len(columns["ids"]):
        raise CorpusError(f"{place}: id {str(unique[counts > 1][0])!r} occurs twice")
    for wrong, what in (
        (np.isinf(columns["attributes"]).any(axis=1), "an infinite attribute"),
        (columns["emotion"] < MISSING_EMOTION, "an emotion below -1"),
        (columns["emotion"] >= num_categories, "an emotion that is none of the categories"),
    ):
        if wrong.any():
            raise CorpusError(f"{place}: utterance {str(columns['ids'][wrong.argmax()])!r} has {what}")
