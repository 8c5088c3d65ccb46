"""A split's table without its audio: what batching, evaluation and baselines must know of every utterance."""

import contextlib
import dataclasses
import hashlib
import math
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float, Int

from emojax.data.corpus import Corpus, open_split, split_names
from emojax.data.records import read_utterances
from emojax.errors import EmojaxError
from emojax.files import atomic_write
from emojax.types import NUM_ATTRIBUTES, SAMPLE_RATE

_CHUNK = 512


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
    """

    ids: np.ndarray
    speakers: np.ndarray
    genders: np.ndarray
    num_samples: Int[np.ndarray, "N"]
    attributes: Float[np.ndarray, "N 3"]
    emotion: Int[np.ndarray, "N"]

    def __len__(self) -> int:
        return len(self.ids)


def read_index(corpus: Corpus, split: str) -> SplitIndex:
    """Reads a split's table; the first reading scans the split and is kept beside the corpus where that is writable.

    Raises:
      CorpusError: no such split, or the split is empty.
    """
    source = open_split(corpus, split)
    cached = corpus.directory / ".index" / f"{split}-{_fingerprint(corpus.directory, split)}.npz"
    columns = _load(cached)
    if columns is None:
        columns = _scan(source, corpus.place(split))
        _store(cached, columns)
    return SplitIndex(**(columns | {"emotion": corpus.emotion(columns["emotion"])}))


def _scan(source: Any, place: str) -> dict[str, np.ndarray]:
    rows: list[dict] = []
    for start in range(0, len(source), _CHUNK):
        rows.extend(read_utterances(source, range(start, min(start + _CHUNK, len(source))), place, audio=False))
    seconds = np.array([row["duration"] for row in rows], np.float64)
    return {
        "ids": np.array([row["id"] for row in rows]),
        "speakers": np.array([row["speaker"] for row in rows]),
        "genders": np.array([row["gender"] for row in rows]),
        "num_samples": np.round(seconds * SAMPLE_RATE).astype(np.int64),
        "attributes": np.array([row["attributes"] for row in rows], np.float32).reshape(-1, NUM_ATTRIBUTES),
        "emotion": np.array([row["emotion"] for row in rows], np.int32),
    }


def _fingerprint(directory: Path, split: str) -> str:
    """Changes whenever the split's files do, so that a stale table is never used."""
    digest = hashlib.sha256()
    for name in split_names(split):
        for path in sorted(directory.glob(f"*-{name}.*")):
            facts = path.stat()
            digest.update(f"{path.name}:{facts.st_size}:{facts.st_mtime_ns};".encode())
    return digest.hexdigest()[:16]


def _load(path: Path) -> dict[str, np.ndarray] | None:
    names = {field.name for field in dataclasses.fields(SplitIndex)}
    try:
        if not _holds_what_it_claims(path):
            return None
        with np.load(path, allow_pickle=False) as stored:
            columns = dict(stored)
    except (OSError, ValueError, EOFError, KeyError, zipfile.BadZipFile):
        return None  # not there, or cut short: scan again
    return columns if set(columns) == names else None


def _holds_what_it_claims(path: Path) -> bool:
    """Whether the arrays of an npz file are as large as their headers say: no more memory is asked for than it has."""
    with zipfile.ZipFile(path) as archive:
        entries = archive.infolist()
        if sum(entry.file_size for entry in entries) > path.stat().st_size:  # compressed, which ours are not
            return False
        for entry in entries:
            with archive.open(entry) as file:
                if np.lib.format.read_magic(file) != (1, 0):
                    return False
                shape, _, dtype = np.lib.format.read_array_header_1_0(file)
            if math.prod(shape) * dtype.itemsize > entry.file_size:
                return False
    return True


def _store(path: Path, columns: dict[str, np.ndarray]) -> None:
    """A table that cannot be kept (read-only corpus, full disk) is only read again next time."""
    with contextlib.suppress(EmojaxError), atomic_write(path) as temporary, temporary.open("wb") as file:
        np.savez(file, allow_pickle=False, **columns)
