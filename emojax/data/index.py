"""The index of a split (ids, lengths, labels), read once and cached beside the corpus."""

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

from emojax.content import FEATURES, ContentDigest, column_digest, joined_digests
from emojax.data.corpus import Corpus, open_split, read_utterances, split_parts
from emojax.errors import CorpusError, EmojaxError
from emojax.files import atomic_write, checked_content, user_cache, with_digest
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


_TEXTS = {"ids": "id", "speakers": "speaker", "genders": "gender"}
"""Columns of text, and the features they hold."""

_NUMBERS = {
    "num_samples": ((), np.dtype(np.int64)),
    "attributes": ((NUM_ATTRIBUTES,), np.dtype(np.float32)),
    "emotion": ((), np.dtype(np.int32)),
}
"""Columns of numbers, named as their features: shape of a row, type."""

Table = tuple[dict[str, np.ndarray], Mapping[str, str]]
"""Columns of `SplitIndex`, with categories as the files number them, and digests of the split's content."""


def read_cached_table(corpus: Corpus, split: str) -> Table | None:
    """Reads the table of a whole split; None where there is none, or none that can be believed."""
    try:
        with safe_open(_place(corpus, split), framework="np") as file:
            columns = {name: _column(file, name, corpus.split_sizes[split]) for name in (*_TEXTS, *_NUMBERS)}
            content = corpus.content.get(split) or _kept_content(file.metadata())
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
    """Keeps a table; one that cannot be kept (read-only folder, full disk) is only computed again next time."""
    tensors = {name: np.ascontiguousarray(columns[name]) for name in _NUMBERS}
    for name in _TEXTS:
        texts = np.ascontiguousarray(columns[name])
        tensors[name] = texts.view(np.uint32).reshape(len(texts), -1)
    metadata = {"content": json.dumps(with_digest(content))}
    with contextlib.suppress(EmojaxError, SafetensorError), atomic_write(_place(corpus, split)) as temporary:
        save_file(tensors, temporary, metadata)


def _column(file, name: str, num_utterances: int) -> np.ndarray:
    """One column; its size is compared with the number of utterances before anything is read."""
    stored = file.get_slice(name)
    row, dtype = _NUMBERS.get(name, (tuple(stored.get_shape()[1:]), np.dtype(np.uint32)))
    if stored.get_shape() != [num_utterances, *row]:
        raise ValueError(name)
    values = file.get_tensor(name)
    if values.dtype != dtype:
        raise ValueError(name)
    return values.view(f"<U{values.shape[1]}")[:, 0] if name in _TEXTS else values


def _kept_content(metadata: Mapping[str, str]) -> dict[str, str]:
    content = checked_content(json.loads(metadata["content"]), "content")
    if set(content) != set(FEATURES):
        raise ValueError("content")
    return content


def _place(corpus: Corpus, split: str) -> Path:
    """Where the table of a split lies; the name changes whenever the split's files do."""
    digest = hashlib.sha256()
    for path in sorted(corpus.directory.glob(f"*-{split}.*")):
        status = path.stat()
        digest.update(f"{path.name}:{status.st_size}:{status.st_mtime_ns};".encode())
    name = f"{split}-{digest.hexdigest()[:16]}.safetensors"
    if split in corpus.content:
        return corpus.directory / ".index" / name
    whose = hashlib.sha256(os.fsencode(corpus.directory.resolve())).hexdigest()[:16]
    return user_cache() / "index" / whose / name
