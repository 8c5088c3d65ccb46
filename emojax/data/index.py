"""Index of a split (ids, lengths, labels): memory-mapped columns of a file, computed by one scan."""

import contextlib
import dataclasses
import hashlib
import json
import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float, Int, UInt8

from emojax.content import (
    SHARDED_UTTERANCES,
    ContentDigest,
    column_digest,
    is_complete,
    joined_digests,
    split_digests,
)
from emojax.data.columns import ColumnsWriter, Texts, open_columns
from emojax.data.corpus import Corpus, open_split, read_utterances, split_parts
from emojax.errors import CorpusError, EmojaxError
from emojax.files import atomic_write, checked_content, user_cache, with_digest
from emojax.progress import Progress
from emojax.types import MISSING_EMOTION, NUM_ATTRIBUTES

_CHUNK = 64
"""Utterances read at a time, with audio."""

COMPARED_UTTERANCES = 2**20
"""Largest split whose columns are compared with their digests whenever it is opened; of a larger one the header is."""

SAMPLED_UTTERANCES = 2**20
"""Largest number of utterances that statistics of labels are computed from."""

_TEXTS = {"ids": "id", "speakers": "speaker", "genders": "gender"}
"""Text columns and their features."""

_NUMBERS = {
    "num_samples": ((), np.dtype(np.int64)),
    "attributes": ((NUM_ATTRIBUTES,), np.dtype(np.float32)),
    "emotion": ((), np.dtype(np.int32)),
}
"""Numeric columns, named as their features: shape of a row, dtype."""

_MISSING = {
    "attributes": np.full(NUM_ATTRIBUTES, np.nan, np.float32),
    "emotion": np.array(MISSING_EMOTION, np.int32),
}
"""Row of a label column without a label."""

_FILLED = 2**16
"""Rows without labels written at a time."""

_TEXT_PARTS = (("characters", np.uint8), ("ends", np.int64))

_REPEATED = ("speakers", "genders")
"""Text columns stored as numbers of different texts."""

Table = tuple[dict[str, Any], Mapping[str, str]]
"""Columns of `SplitIndex`, with category indices of the files, and digests of the split's content."""


@dataclasses.dataclass(frozen=True)
class SplitIndex:
    """One row per utterance, in the order of the data source.

    Columns of a whole split above `COMPARED_UTTERANCES` are memory-mapped: rows that are not accessed take no memory.

    Attributes:
      ids: id, unique within the corpus.
      speakers: speaker id; "" if unknown.
      genders: gender; "" if unknown.
      num_samples: length at 16 kHz.
      attributes: activation, valence, dominance in the corpus's own scale; NaN where missing.
      emotion: consensus category; -1 where missing.
      content: digests (`emojax.content`) of the split; for a part of a split, those of the whole split.
    """

    ids: Texts | np.ndarray
    speakers: Texts | np.ndarray
    genders: Texts | np.ndarray
    num_samples: Int[np.ndarray, "N"]
    attributes: Float[np.ndarray, "N 3"]
    emotion: Int[np.ndarray, "N"]
    content: Mapping[str, str]

    def __len__(self) -> int:
        return len(self.ids)

    def sampled_labels(self) -> tuple[Float[np.ndarray, "M 3"], Int[np.ndarray, "M"]]:
        """Attributes and emotions of every k-th utterance: of all up to `SAMPLED_UTTERANCES`, of no more than that."""
        step = max(-(-len(self) // SAMPLED_UTTERANCES), 1)
        return np.asarray(self.attributes[::step]), np.asarray(self.emotion[::step])

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
        column: _joined([tables[name][0][column][rows] for name, rows in parts]) for column in (*_TEXTS, *_NUMBERS)
    }
    content = joined_digests([tables[name][1] for name, _ in parts])
    return SplitIndex(**(columns | {"emotion": corpus.emotion(columns["emotion"])}), content=content)


def _joined(parts: Sequence[Any]) -> Any:
    """A single part as it is, memory-mapped; a sum of parts in memory."""
    return parts[0] if len(parts) == 1 else np.concatenate([np.asarray(part) for part in parts])


def _whole_split_table(corpus: Corpus, name: str) -> Table:
    """Opens the cached table of one whole split, or computes it."""
    path = _cache_path(corpus, name)
    cached = read_cached_table(corpus, name, path)
    if cached is not None:
        return cached
    writer, content = _scan(corpus, name)
    with writer:
        expected = corpus.content.get(name, content)
        changed = [feature for feature in content if content[feature] != expected[feature]]
        if changed:
            raise CorpusError(
                f"{corpus.describe(name)}: digests of {', '.join(changed)} differ from the corpus's metadata; "
                "build it again with --overwrite"
            )
        with contextlib.suppress(EmojaxError):  # read-only folder, full disk
            writer.write(path, content)
            if corpus.split_sizes[name] > COMPARED_UTTERANCES:
                return _table(open_columns(path)[0], corpus.split_sizes[name]), content
        return _table(writer.columns.arrays(), corpus.split_sizes[name]), content


class IndexWriter:
    """Writes the table of a split, utterance by utterance; a context manager."""

    def __init__(self, folder: Path):
        """Starts a table; `folder` is that of temporary files."""
        self.columns = ColumnsWriter(folder)
        self._numbers: dict[str, dict[str, int]] = {name: {} for name in _REPEATED}
        self._ends: dict[str, int] = dict.fromkeys(_TEXTS, 0)
        self._absent = dict.fromkeys(_MISSING, 0)

    def __enter__(self) -> "IndexWriter":
        """Returns itself."""
        return self

    def __exit__(self, *exception: object) -> None:
        """Removes the temporary files."""
        self.columns.__exit__(*exception)

    def add(self, rows: Sequence[Mapping[str, Any]]) -> None:
        """Adds utterances with the features of the schema and `num_samples`, at least one."""
        self._add_texts("ids", [row["id"] for row in rows])
        for name in _REPEATED:
            self.columns.append(f"{name}.rows", self._numbered(name, [row[_TEXTS[name]] for row in rows]))
        self.columns.append("num_samples", np.array([row["num_samples"] for row in rows], np.int64))
        attributes = np.array([row["attributes"] for row in rows], np.float32).reshape(-1, NUM_ATTRIBUTES)
        self._add_labels("attributes", attributes)
        self._add_labels("emotion", np.array([row["emotion"] for row in rows], np.int32))

    def extend(self, stored: Mapping[str, np.ndarray]) -> None:
        """Adds the utterances of another table, whose columns are those of a file."""
        self._add_characters("ids", stored["ids.characters"], stored["ids.ends"])
        for name in _REPEATED:
            characters, ends = (stored[f"{name}.{part}"] for part, _ in _TEXT_PARTS)
            texts = Texts(characters, ends, range(len(ends)))
            numbers = self._numbered(name, [texts[place] for place in range(len(texts))])
            self.columns.append(f"{name}.rows", numbers[stored[f"{name}.rows"]])
        self.columns.append("num_samples", stored["num_samples"])
        for name, missing in _MISSING.items():
            self._add_labels(name, np.broadcast_to(stored[name], (len(stored["num_samples"]), *missing.shape)))

    def finish(self) -> None:
        """Adds the single row of columns without labels."""
        for name in self._absent:
            self.columns.append(name, _MISSING[name][None])
        self._absent = {}

    def write(self, path: Path, content: Mapping[str, str]) -> None:
        """Writes the file, with the digests of the split.

        Raises:
          EmojaxError: it cannot be written.
        """
        with atomic_write(path) as temporary:
            self.columns.write(temporary, {"content": json.dumps(with_digest(content))})

    def _add_texts(self, name: str, texts: Sequence[str]) -> None:
        encoded = [text.encode() for text in texts]
        ends = np.cumsum([len(text) for text in encoded], dtype=np.int64)
        self._add_characters(name, np.frombuffer(b"".join(encoded), np.uint8), ends)

    def _add_characters(self, name: str, characters: UInt8[np.ndarray, "C"], ends: Int[np.ndarray, "M"]) -> None:
        self.columns.append(f"{name}.characters", characters)
        self.columns.append(f"{name}.ends", self._ends[name] + ends)
        self._ends[name] += len(characters)

    def _numbered(self, name: str, texts: Sequence[str]) -> Int[np.ndarray, "M"]:
        """Numbers of texts among the different ones of a column, to which new ones are added."""
        numbers = self._numbers[name]
        new = dict.fromkeys(text for text in texts if text not in numbers)
        self._add_texts(name, list(new))
        numbers |= {text: len(numbers) + place for place, text in enumerate(new)}
        return np.array([numbers[text] for text in texts], np.int32)

    def _add_labels(self, name: str, values: np.ndarray) -> None:
        """Adds labels; a column is one row as long as it has none."""
        absent, missing = self._absent.get(name), _MISSING[name]
        if absent is not None and np.array_equal(values, np.broadcast_to(missing, values.shape), equal_nan=True):
            self._absent[name] = absent + len(values)
            return
        for first in range(0, absent or 0, _FILLED):
            self.columns.append(name, np.repeat(missing[None], min(_FILLED, (absent or 0) - first), axis=0))
        self._absent.pop(name, None)
        self.columns.append(name, values)


def join_tables(parts: Iterable[Path], path: Path, content: Mapping[str, str]) -> None:
    """Writes the table of a split from those of its shards, one of which is in memory at a time.

    Args:
      parts: files of the shards' tables, in order.
      path: new file, the `table_path` of the split.
      content: digests of the split.

    Raises:
      EmojaxError: it cannot be written.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with IndexWriter(path.parent) as writer:
        for part in parts:
            writer.extend(open_columns(part)[0])
        writer.finish()
        writer.write(path, content)


def _scan(corpus: Corpus, name: str) -> tuple[IndexWriter, dict[str, str]]:
    source, context = open_split(corpus, name), corpus.describe(name)
    whole, shards, large = ContentDigest(), [ContentDigest()], len(source) > SHARDED_UTTERANCES
    ends = np.cumsum(source.dataset_info.splits[name].shard_lengths).tolist()
    compared = len(source) <= COMPARED_UTTERANCES
    ids: set[str] = set()
    num_read = 0
    folder = _cache_path(corpus, name).parent
    with contextlib.suppress(OSError):  # temporary files are then in the system's folder
        folder.mkdir(parents=True, exist_ok=True)
    writer = IndexWriter(folder)
    with Progress(f"indexing {corpus.info.name} {name}", len(source), "utterances") as progress:
        for start in range(0, len(source), _CHUNK):
            rows = read_utterances(source, range(start, min(start + _CHUNK, len(source))), context)
            for row in rows:
                (shards[-1] if large else whole).update(row)
                num_read += 1
                while len(shards) <= len(ends) and num_read == ends[len(shards) - 1]:
                    shards.append(ContentDigest())
                if row["id"] in ids:
                    raise CorpusError(f"{context}: id {row['id']!r} occurs twice")
                check_labels(row, context)
                if compared:  # the builder has compared the ids of larger splits
                    ids.add(row["id"])
            writer.add(rows)
            progress.advance(len(rows))
    writer.finish()
    return writer, split_digests(len(source), whole, shards[: len(ends)])


def check_labels(row: Mapping[str, Any], context: str) -> None:
    """Checks that attributes are finite or NaN, and the emotion is a category index or -1.

    Args:
      row: utterance with the features of the schema.
      context: name of the split or shard in the error message.

    Raises:
      CorpusError: they are not; the message names the utterance.
    """
    for invalid, fault in (
        (np.isinf(row["attributes"]).any(), "an infinite attribute"),
        (row["emotion"] < MISSING_EMOTION, "an emotion below -1"),
        (row["emotion"] >= len(row["emotion_votes"]), "an emotion that is none of the categories"),
    ):
        if invalid:
            raise CorpusError(f"{context}: utterance {row['id']!r} has {fault}")


def read_cached_table(corpus: Corpus, split: str, path: Path) -> Table | None:
    """Opens the cached table of a whole split; None if there is none or it does not match its digests."""
    size = corpus.split_sizes[split]
    try:
        stored, metadata = open_columns(path)
        if size <= COMPARED_UTTERANCES:  # in memory, where they remain as they were compared
            stored = {name: np.array(column) for name, column in stored.items()}
        columns = _table(stored, size)
        found = _cached_content(metadata)
        content = corpus.content.get(split) or found
        if size > COMPARED_UTTERANCES:
            return (columns, content) if found == content else None
        for name, values in columns.items():
            feature = _TEXTS.get(name, name)
            if column_digest(feature, values) != content[feature]:
                return None
    except (OSError, ValueError, KeyError, IndexError, TypeError, AttributeError, RecursionError, EmojaxError):
        return None
    return columns, content


def _table(stored: Mapping[str, np.ndarray], size: int) -> dict[str, Any]:
    """Columns of `SplitIndex` from those of a file; shapes and types are checked."""
    columns: dict[str, Any] = {}
    for name in _TEXTS:
        characters, ends = (_typed(stored[f"{name}.{part}"], dtype) for part, dtype in _TEXT_PARTS)
        rows = _typed(stored[f"{name}.rows"], np.int32) if name in _REPEATED else range(len(ends))
        if len(rows) != size:
            raise ValueError(name)
        columns[name] = Texts(characters, ends, rows)
    for name, (row, dtype) in _NUMBERS.items():
        values = _typed(stored[name], dtype)
        if values.shape != (size, *row) and (values.shape != (1, *row) or name == "num_samples"):
            raise ValueError(name)
        columns[name] = values if len(values) == size else np.broadcast_to(values, (size, *row))
    return columns


def _typed(values: np.ndarray, dtype: Any) -> np.ndarray:
    if values.dtype != dtype:
        raise ValueError(str(values.dtype))
    return values


def _cached_content(metadata: Mapping[str, str]) -> dict[str, str]:
    content = checked_content(json.loads(metadata["content"]), "content")
    if not is_complete(content):
        raise ValueError("content")
    return content


def table_path(directory: Path, split: str, size: int, files: Mapping[str, int] | None = None) -> Path:
    """Returns the path of the table of a whole split in a corpus with digests.

    The name depends on names and sizes of the split's files. Up to `COMPARED_UTTERANCES`, where a scan costs little, it
    depends on their times as well: files that were changed are compared with the digests. Larger corpora can be copied
    to the disks of many hosts with their tables.

    Args:
      directory: folder of the corpus.
      split: whole split.
      size: number of its utterances.
      files: sizes of a large split's files by name; None: those in the folder.
    """
    if size <= COMPARED_UTTERANCES:
        return directory / ".index" / _table_name(directory, split)
    sizes = files or {path.name: path.stat().st_size for path in directory.glob(f"*-{split}.*")}
    return directory / ".index" / _named_by(split, "".join(f"{name}:{sizes[name]};" for name in sorted(sizes)))


def _table_name(directory: Path, split: str) -> str:
    text = ""
    for path in sorted(directory.glob(f"*-{split}.*")):
        status = path.stat()
        text += f"{path.name}:{status.st_size}:{status.st_mtime_ns};"
    return _named_by(split, text)


def _named_by(split: str, text: str) -> str:
    return f"{split}-{hashlib.sha256(text.encode()).hexdigest()[:16]}.safetensors"


def _cache_path(corpus: Corpus, split: str) -> Path:
    """Returns the path of a split's cached table."""
    if split in corpus.content:
        return table_path(corpus.directory, split, corpus.split_sizes[split])
    corpus_key = hashlib.sha256(os.fsencode(corpus.directory.resolve())).hexdigest()[:16]
    return user_cache() / "index" / corpus_key / _table_name(corpus.directory, split)
