"""Index of a split (ids, lengths, labels), computed by one scan and cached beside the corpus."""

import contextlib
import dataclasses
import hashlib
import json
import os
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from jaxtyping import Float, Int
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file

from emojax.content import ContentDigest, column_digest, is_complete, joined_digests
from emojax.data.corpus import Corpus, open_split, read_utterances, split_parts
from emojax.errors import CorpusError, EmojaxError
from emojax.files import atomic_write, checked_content, user_cache, with_digest
from emojax.progress import Progress
from emojax.types import MISSING_EMOTION, NUM_ATTRIBUTES

_CHUNK = 64
"""Utterances read at a time, with audio."""

_TEXTS = {"ids": "id", "speakers": "speaker", "genders": "gender"}
"""Text columns and their features."""

_NUMBERS = {
    "num_samples": ((), np.dtype(np.int64)),
    "attributes": ((NUM_ATTRIBUTES,), np.dtype(np.float32)),
    "emotion": ((), np.dtype(np.int32)),
}
"""Numeric columns, named as their features: shape of a row, dtype."""

Table = tuple[dict[str, np.ndarray], Mapping[str, str]]
"""Columns of `SplitIndex`, with category indices of the files, and digests of the split's content."""


@dataclasses.dataclass(frozen=True)
class SplitIndex:
    """One row per utterance, in the order of the data source.

    Attributes:
      ids: id, unique within the corpus.
      speakers: speaker id; "" if unknown.
      genders: gender; "" if unknown.
      num_samples: length at 16 kHz.
      attributes: activation, valence, dominance in the corpus's own scale; NaN where missing.
      emotion: consensus category; -1 where missing.
      content: digests (`emojax.content`) of the split; for a part of a split, those of the whole split.
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

    def select(self, positions: Int[np.ndarray, "M"]) -> "SplitIndex":
        """The rows at some positions, with the digests of the whole split."""
        columns = {name: getattr(self, name)[positions] for name in (*_TEXTS, *_NUMBERS)}
        return SplitIndex(**columns, content=self.content)


def read_index(corpus: Corpus, split: str) -> SplitIndex:
    """Reads the index of a split; the first call scans the split with its audio and caches the result.

    Raises:
      CorpusError: the corpus has no such split, the split is empty, or its digests differ from the corpus's metadata.
    """
    selection = corpus.selections.get(split)
    if selection is not None:
        return read_index(corpus, selection.split).select(selection.positions)
    open_split(corpus, split)  # raises for an invalid name
    parts = split_parts(corpus, split)
    tables = {name: _whole_split_table(corpus, name) for name in dict(parts)}
    columns = {
        column: np.concatenate([tables[name][0][column][rows] for name, rows in parts])
        for column in next(iter(tables.values()))[0]
    }
    content = joined_digests([tables[name][1] for name, _ in parts])
    return SplitIndex(**(columns | {"emotion": corpus.emotion(columns["emotion"])}), content=content)


def _whole_split_table(corpus: Corpus, name: str) -> Table:
    """Reads the cached table of one whole split, or computes it."""
    cached = read_cached_table(corpus, name)
    if cached is not None:
        return cached
    columns, content = _scan(corpus, name)
    expected = corpus.content.get(name, content)
    changed = [feature for feature in content if content[feature] != expected[feature]]
    if changed:
        raise CorpusError(
            f"{corpus.describe(name)}: digests of {', '.join(changed)} differ from the corpus's metadata; "
            "build it again with --overwrite"
        )
    write_cached_table(corpus, name, columns, content)
    return columns, content


def _scan(corpus: Corpus, name: str) -> tuple[dict[str, np.ndarray], dict[str, str]]:
    source, context, digest = open_split(corpus, name), corpus.describe(name), ContentDigest()
    rows: list[dict] = []
    with Progress(f"indexing {corpus.info.name} {name}", len(source), "utterances") as progress:
        for start in range(0, len(source), _CHUNK):
            for row in read_utterances(source, range(start, min(start + _CHUNK, len(source))), context):
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
    _check_values(columns, np.array([len(row["emotion_votes"]) for row in rows]), context)
    return columns, digest.hexdigests()


def _check_values(columns: Mapping[str, np.ndarray], num_categories: Int[np.ndarray, "N"], context: str) -> None:
    """Checks that ids are unique, attributes finite or NaN, and emotions valid category indices."""
    unique, counts = np.unique(columns["ids"], return_counts=True)
    if len(unique) < len(columns["ids"]):
        raise CorpusError(f"{context}: id {str(unique[counts > 1][0])!r} occurs twice")
    for invalid, fault in (
        (np.isinf(columns["attributes"]).any(axis=1), "an infinite attribute"),
        (columns["emotion"] < MISSING_EMOTION, "an emotion below -1"),
        (columns["emotion"] >= num_categories, "an emotion that is none of the categories"),
    ):
        if invalid.any():
            raise CorpusError(f"{context}: utterance {str(columns['ids'][invalid.argmax()])!r} has {fault}")


def read_cached_table(corpus: Corpus, split: str) -> Table | None:
    """Reads the cached table of a whole split; None if there is none or it does not match its digests."""
    try:
        with safe_open(_cache_path(corpus, split), framework="np") as file:
            columns = {name: _column(file, name, corpus.split_sizes[split]) for name in (*_TEXTS, *_NUMBERS)}
            content = corpus.content.get(split) or _cached_content(file.metadata())
        for name, values in columns.items():
            feature = _TEXTS.get(name, name)
            if column_digest(feature, values) != content[feature]:
                return None
    except (OSError, SafetensorError, ValueError, KeyError, TypeError, RecursionError, EmojaxError):
        return None
    return columns, content


def write_cached_table(
    corpus: Corpus, split: str, columns: Mapping[str, np.ndarray], content: Mapping[str, str]
) -> None:
    """Caches a table; a failed write (read-only folder, full disk) is ignored."""
    tensors = {name: np.ascontiguousarray(columns[name]) for name in _NUMBERS}
    for name in _TEXTS:
        texts = np.ascontiguousarray(columns[name])
        tensors[name] = texts.view(np.uint32).reshape(len(texts), -1)
    metadata = {"content": json.dumps(with_digest(content))}
    with contextlib.suppress(EmojaxError, SafetensorError), atomic_write(_cache_path(corpus, split)) as temporary:
        save_file(tensors, temporary, metadata)


def _column(file, name: str, num_utterances: int) -> np.ndarray:
    """Reads one column; its shape is checked before its values are read."""
    stored = file.get_slice(name)
    row, dtype = _NUMBERS.get(name, (tuple(stored.get_shape()[1:]), np.dtype(np.uint32)))
    if stored.get_shape() != [num_utterances, *row]:
        raise ValueError(name)
    values = file.get_tensor(name)
    if values.dtype != dtype:
        raise ValueError(name)
    return values.view(f"<U{values.shape[1]}")[:, 0] if name in _TEXTS else values


def _cached_content(metadata: Mapping[str, str]) -> dict[str, str]:
    content = checked_content(json.loads(metadata["content"]), "content")
    if not is_complete(content):
        raise ValueError("content")
    return content


def _cache_path(corpus: Corpus, split: str) -> Path:
    """Returns the path of a split's cached table; the name depends on size and time of the split's files."""
    digest = hashlib.sha256()
    for path in sorted(corpus.directory.glob(f"*-{split}.*")):
        status = path.stat()
        digest.update(f"{path.name}:{status.st_size}:{status.st_mtime_ns};".encode())
    name = f"{split}-{digest.hexdigest()[:16]}.safetensors"
    if split in corpus.content:
        return corpus.directory / ".index" / name
    corpus_key = hashlib.sha256(os.fsencode(corpus.directory.resolve())).hexdigest()[:16]
    return user_cache() / "index" / corpus_key / name
