"""Writes the shards of a store: each appears whole or not at all, so that what is there never has to be done again."""

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import numpy as np

from emojax.errors import CheckpointError, EmojaxError, reason
from emojax.files import atomic_write
from emojax.store.layout import SplitFacts
from emojax.store.records import ArraySpec, to_record


def missing_shards(directory: Path, facts: SplitFacts) -> list[int]:
    """Numbers of the shards that are still to be written."""
    names = [facts.shard_name(shard) for shard in range(len(facts.bounds) - 1)]
    return [shard for shard, name in enumerate(names) if not (directory / name).is_file()]


def remove_leftovers(directory: Path, facts: SplitFacts, shard: int) -> None:
    """Removes what a killed run had begun to write of a shard."""
    for path in directory.glob(f".{facts.shard_name(shard)}.*.tmp"):
        path.unlink(missing_ok=True)


def write_shard(
    directory: Path,
    facts: SplitFacts,
    shard: int,
    arrays: Iterable[Mapping[str, np.ndarray]],
    specs: Sequence[ArraySpec],
) -> int:
    """Writes one shard.

    Args:
      directory: of the split.
      facts: of the split.
      shard: its number.
      arrays: of the shard's utterances, in order.
      specs: what is stored of each.

    Returns:
      Number of bytes.

    Raises:
      EmojaxError: it cannot be written (full disk, no permission); finished shards are intact.
    """
    from array_record.python.array_record_module import ArrayRecordWriter  # type: ignore[import-untyped]

    ids = facts.ids[facts.bounds[shard] : facts.bounds[shard + 1]]
    path = directory / facts.shard_name(shard)
    with atomic_write(path) as temporary:
        try:
            # States do not compress; one record a group is what random access wants.
            writer = ArrayRecordWriter(str(temporary), "group_size:1,uncompressed")
            for id, values in zip(ids, arrays, strict=True):
                writer.write(to_record(id, values, specs))
            writer.close()
        except RuntimeError as error:  # how array_record reports what the file system refuses
            raise EmojaxError(f"{path}: cannot be written ({reason(error)})") from error
        size = temporary.stat().st_size
        if size < sum(len(id) for id in ids):
            raise CheckpointError(f"{path}: was written short")
    return size
