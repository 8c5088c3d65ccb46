"""Reading a feature store at random, by position or id, and writing it shard by shard."""

import functools
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, SupportsIndex

import numpy as np
from absl import flags

from emojax.content import joined_digests
from emojax.errors import CheckpointError, EmojaxError, reason
from emojax.feature_store.layout import (
    STORE,
    SplitMetadata,
    StoreMetadata,
    read_metadata,
    read_split_metadata,
    split_directory,
)
from emojax.feature_store.records import ArraySpec, from_record, to_record
from emojax.files import atomic_write


class Store:
    """A feature store on disk."""

    def __init__(self, directory: Path):
        """Opens a store.

        Raises:
          CheckpointError: the folder holds no store, or the store is damaged.
        """
        self.directory = directory
        self.metadata: StoreMetadata = read_metadata(directory)
        if not self.metadata.arrays:
            raise CheckpointError(
                f"{directory / STORE}: arrays must not be empty in a store of hidden states or teacher outputs"
            )

    def split(self, name: str) -> "StoredSplit | JoinedSplits":
        """Opens a split, or a sum of splits, `a+b`.

        A part of one (`train[:50%]`) opens the whole split unless the part was stored separately; so does a sum.

        Raises:
          CheckpointError: the split is missing or unfinished.
        """
        if not (self.directory / name).is_dir() and "+" in name:
            return JoinedSplits(self.directory / name, [self._whole_split(part.strip()) for part in name.split("+")])
        return self._whole_split(name)

    def _whole_split(self, name: str) -> "StoredSplit":
        folder = split_directory(self.directory, name)
        return StoredSplit(folder, self.metadata, read_split_metadata(folder))


class StoredSplit:
    """Arrays of the utterances of a split, in the order of the corpus's data source.

    A random-access data source for grain (`grain.MapDataset.source(split)`); picklable, for worker processes.
    """

    def __init__(self, directory: Path, store: StoreMetadata, metadata: SplitMetadata):
        """Opens the split.

        Args:
          directory: folder of the split.
          store: metadata of the store.
          metadata: metadata of the split.

        Raises:
          CheckpointError: shards are missing.
        """
        self.directory, self._store, self.metadata = directory, store, metadata
        self._shards = metadata.shard_files(directory)

    @property
    def specs(self) -> tuple[ArraySpec, ...]:
        """Arrays stored per utterance."""
        return self._store.arrays

    @property
    def content(self) -> Mapping[str, str]:
        """Digests of the features of the corpus's split that the values depend on."""
        return self.metadata.content

    def __len__(self) -> int:
        return len(self.metadata.ids)

    def __getitem__(self, position: SupportsIndex) -> dict[str, np.ndarray]:
        """Returns the arrays of one utterance by name."""
        return self.__getitems__([position])[0]

    def __getitems__(self, positions: Sequence[SupportsIndex]) -> list[dict[str, np.ndarray]]:
        """Returns the arrays of several utterances.

        Raises:
          CheckpointError: a shard is damaged.
        """
        wanted = [int(position) for position in positions]
        try:
            records = self._source.__getitems__(wanted)
        except IndexError:
            raise
        except Exception as error:  # array_record raises various exceptions for damaged shards
            raise CheckpointError(f"{self.directory}: cannot be read ({reason(error)})") from error
        return [self._arrays(position, record) for position, record in zip(wanted, records, strict=True)]

    def by_id(self, id: str) -> dict[str, np.ndarray]:
        """Returns the arrays of the utterance with an id.

        Raises:
          KeyError: no utterance has the id.
        """
        return self[self.positions[id]]

    @functools.cached_property
    def positions(self) -> dict[str, int]:
        """Position of each id."""
        return {id: position for position, id in enumerate(self.metadata.ids)}

    @functools.cached_property
    def _source(self) -> Any:
        from array_record.python.array_record_data_source import ArrayRecordDataSource  # type: ignore[import-untyped]

        if not flags.FLAGS.is_parsed():  # array_record reads absl flags
            flags.FLAGS.mark_as_parsed()
        sizes = np.diff(self.metadata.bounds)
        # With explicit ranges array_record does not open every file to count its records.
        return ArrayRecordDataSource([f"{path}[0:{size}]" for path, size in zip(self._shards, sizes, strict=True)])

    def _arrays(self, position: int, record: bytes) -> dict[str, np.ndarray]:
        id, arrays = from_record(record, self._store.arrays, str(self.directory))
        if id != self.metadata.ids[position]:
            raise CheckpointError(
                f"{self.directory}: utterance {position} is {id!r}, expected {self.metadata.ids[position]!r}"
            )
        return arrays

    def __getstate__(self) -> dict[str, Any]:
        return {key: value for key, value in self.__dict__.items() if key != "_source"}


class JoinedSplits:
    """Several splits of a store, one after the other; picklable, for worker processes."""

    def __init__(self, directory: Path, parts: Sequence[StoredSplit]):
        """Joins splits.

        Args:
          directory: names the sum in error messages.
          parts: splits of one store.
        """
        self.directory, self._parts = directory, parts
        self._ends = np.cumsum([len(part) for part in parts])

    @property
    def specs(self) -> tuple[ArraySpec, ...]:
        """Arrays stored per utterance."""
        return self._parts[0].specs

    @property
    def content(self) -> Mapping[str, str]:
        """Digests of the features of the corpus's split that the values depend on."""
        return joined_digests([part.content for part in self._parts])

    def __len__(self) -> int:
        return int(self._ends[-1])

    @functools.cached_property
    def positions(self) -> dict[str, int]:
        """Position of each id."""
        ids = (id for part in self._parts for id in part.metadata.ids)
        return {id: position for position, id in enumerate(ids)}

    def __getitems__(self, positions: Sequence[SupportsIndex]) -> list[dict[str, np.ndarray]]:
        """Returns the arrays of several utterances.

        Raises:
          CheckpointError: a shard is damaged.
        """
        wanted = np.array([int(position) for position in positions], np.int64)
        found: dict[int, dict[str, np.ndarray]] = {}
        for part, end in zip(self._parts, self._ends, strict=True):
            rows = np.flatnonzero((wanted >= end - len(part)) & (wanted < end))
            if rows.size:
                read = part.__getitems__((wanted[rows] - (end - len(part))).tolist())
                found |= dict(zip(rows.tolist(), read, strict=True))
        return [found[row] for row in range(len(wanted))]


def write_shard(
    directory: Path,
    metadata: SplitMetadata,
    shard: int,
    arrays: Iterable[Mapping[str, np.ndarray]],
    specs: Sequence[ArraySpec],
) -> int:
    """Writes one shard.

    Args:
      directory: folder of the split.
      metadata: metadata of the split.
      shard: shard number.
      arrays: arrays of the shard's utterances, in order.
      specs: arrays to store.

    Returns:
      Number of bytes written.

    Raises:
      EmojaxError: it cannot be written (full disk, no permission); finished shards are intact.
    """
    from array_record.python.array_record_module import ArrayRecordWriter  # type: ignore[import-untyped]

    ids = metadata.ids[metadata.bounds[shard] : metadata.bounds[shard + 1]]
    path = directory / metadata.shard_name(shard)
    with atomic_write(path) as temporary:
        try:
            # Hidden states do not compress; groups of one record suit random access.
            writer = ArrayRecordWriter(str(temporary), "group_size:1,uncompressed")
            for id, values in zip(ids, arrays, strict=True):
                writer.write(to_record(id, values, specs))
            writer.close()
        except RuntimeError as error:  # array_record's exception for errors of the file system
            raise EmojaxError(f"{path}: cannot be written ({reason(error)})") from error
        size = temporary.stat().st_size
        if size < sum(len(id) for id in ids):
            raise CheckpointError(f"{path}: was written short")
    return size
