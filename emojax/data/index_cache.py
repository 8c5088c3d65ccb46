"""Tables of splits on disk, so that only the first reading scans a corpus; a table that is not the corpus's is ignored.

Beside a corpus whose metadata has digests of its content, a table is believed if its columns have these digests. Other
corpora have nothing to compare with: their tables lie in the user's own cache folder, where nobody else can put them.
"""

import contextlib
import hashlib
import json
import os
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file

from emojax.content import FEATURES, column_digest
from emojax.data.corpus import Corpus
from emojax.errors import EmojaxError
from emojax.files import atomic_write, checked_content, user_cache, with_digest
from emojax.types import NUM_ATTRIBUTES

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
