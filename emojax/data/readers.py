"""Random access to the ArrayRecord files of a split with a bounded number of open files."""

import collections
import itertools
import threading
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Protocol

import numpy as np

MAX_OPEN_FILES = 512
"""Files that stay open, each with a few bytes of memory per record: those of a block of the batch plan
(`emojax.data.plan`) in files of 512 utterances, and of far more in larger ones."""

_THREADS = 16
"""Files read at the same time."""


class FilePart(Protocol):
    """Records of a file that belong to a split: `skip` are before them, `examples_in_shard` are in the file."""

    filename: str
    skip: int
    take: int
    examples_in_shard: int


class RecordFiles:
    """Records of a list of files by their position in all of them; picklable, for worker processes."""

    def __init__(self, parts: Sequence[FilePart], max_open: int = MAX_OPEN_FILES):
        """Opens nothing yet.

        Args:
          parts: files, from TFDS's `SplitInfo.file_instructions`.
          max_open: number of files that stay open; the one that was used the longest time ago is closed.
        """
        self._parts = [
            (str(part.filename), part.skip, part.examples_in_shard - part.skip if part.take < 0 else part.take)
            for part in parts
        ]
        self._ends = list(itertools.accumulate(count for _, _, count in self._parts))
        self._max_open = max_open
        self._open: collections.OrderedDict[int, Any] = collections.OrderedDict()
        self._lock = threading.Lock()

    def __len__(self) -> int:
        return self._ends[-1] if self._ends else 0

    def __getitem__(self, position: int) -> bytes:
        """Reads one record."""
        return self.__getitems__([position])[0]

    def __getitems__(self, positions: Sequence[int]) -> list[bytes]:
        """Reads records in the order of their positions.

        Raises:
          IndexError: a position is not in the split. array_record raises various exceptions for damaged files.
        """
        wanted = np.array(positions, np.int64)
        if wanted.size and not (wanted.min() >= 0 and wanted.max() < len(self)):
            raise IndexError(f"positions must be >= 0 and < {len(self)}, got {wanted.min()} to {wanted.max()}")
        found: list[bytes] = [b""] * len(wanted)
        files = np.searchsorted(self._ends, wanted, side="right")

        def read(number: int) -> None:
            rows = np.flatnonzero(files == number)
            first = self._ends[number] - self._parts[number][2]
            records = self._file(number).__getitems__((wanted[rows] - first).tolist())
            for row, record in zip(rows.tolist(), records, strict=True):
                found[row] = record

        needed = np.unique(files).tolist()
        if len(needed) < 2:
            for number in needed:
                read(number)
        else:  # at the same time: files may be far away
            with ThreadPoolExecutor(min(len(needed), _THREADS)) as threads:
                list(threads.map(read, needed))
        return found

    def _file(self, number: int) -> Any:
        from array_record.python.array_record_data_source import ArrayRecordDataSource  # type: ignore[import-untyped]

        with self._lock:  # a file that another thread still reads is closed when it has finished
            if number in self._open:
                self._open.move_to_end(number)
            else:
                filename, skip, count = self._parts[number]
                # With a range, array_record does not open the file to count its records.
                self._open[number] = ArrayRecordDataSource([f"{filename}[{skip}:{skip + count}]"])
                if len(self._open) > self._max_open:
                    self._open.popitem(last=False)
            return self._open[number]

    def __getstate__(self) -> dict[str, Any]:
        return {key: value for key, value in self.__dict__.items() if key not in ("_open", "_lock")}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._open, self._lock = collections.OrderedDict(), threading.Lock()
