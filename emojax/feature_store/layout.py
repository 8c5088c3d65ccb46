"""Metadata of a store: `store.json` (origin of its values) and one `split.json` per split; finished shards."""

import itertools
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

from emojax.errors import CheckpointError, ConfigError
from emojax.feature_store.records import ArraySpec
from emojax.files import checked_content, is_vacant, read_json_object, with_digest, write_json
from emojax.schema import MaxLen, MinLen, parse, settings, to_tree

STORE, SPLIT = "store.json", "split.json"

_PLURALS = {"id": "utterances", "transcript": "transcripts"}


@settings
class StoreMetadata:
    """Origin and layout of the values of a store.

    Attributes:
      corpus: TFDS name with config and version.
      source: JSON values that determine the values: checkpoint hash, layers, pooling, ...
      arrays: arrays stored per utterance; () for transcripts.
      format: version of the file format; the first format had no number and identified utterances by id and length.
    """

    corpus: Annotated[str, MinLen(1)]
    source: Mapping[str, Any]
    arrays: Annotated[tuple[ArraySpec, ...], MaxLen(16)]
    format: Literal[2] = 2

    def check_same(self, expected: "StoreMetadata", context: str) -> None:
        """Compares with the expected metadata.

        Args:
          expected: metadata of the requested store.
          context: name of the store in error messages.

        Raises:
          CheckpointError: they differ; the message names the first difference.
        """
        if self.corpus != expected.corpus:
            raise CheckpointError(f"{context}: was made from corpus {self.corpus}, not {expected.corpus}")
        for key in sorted({*self.source, *expected.source}):
            found, wanted = self.source.get(key), expected.source.get(key)
            if found != wanted:
                raise CheckpointError(f"{context}: was made with {key} {found!r}, not {wanted!r}")
        if self.arrays != expected.arrays:
            raise CheckpointError(f"{context}: holds {self.arrays}, not {expected.arrays}")


@settings
class SplitMetadata:
    """Metadata of one split of a store.

    Attributes:
      ids: utterance ids in the corpus's order.
      content: digests (`emojax.content`) of the features of the corpus's split that the values depend on.
      bounds: first utterance of each shard, and the number of utterances.
      shards: file format of the shards: records of arrays, or JSON lines of transcripts.
    """

    ids: Annotated[tuple[str, ...], MinLen(1)]
    content: Annotated[Mapping[str, str], MinLen(1)]
    bounds: Annotated[tuple[int, ...], MinLen(2)]
    shards: Literal["array_record", "jsonl"] = "array_record"

    def __post_init__(self):
        if self.bounds[0] != 0 or self.bounds[-1] != len(self.ids):
            ends = f"{self.bounds[0]} to {self.bounds[-1]}"
            raise ConfigError(f"bounds must go from 0 to {len(self.ids)}, the number of ids, got {ends}")
        if any(first >= end for first, end in itertools.pairwise(self.bounds)):
            raise ConfigError("bounds must ascend")
        if len(set(self.ids)) < len(self.ids):
            raise ConfigError("ids must differ")

    def shard_name(self, shard: int) -> str:
        """File name of a shard; a file of that name is complete."""
        return f"{shard:05d}-of-{len(self.bounds) - 1:05d}.{self.shards}"

    def missing_shards(self, directory: Path) -> list[int]:
        """Lists the shards that have not been written.

        Args:
          directory: folder of the split.
        """
        return [shard for shard in range(len(self.bounds) - 1) if not (directory / self.shard_name(shard)).is_file()]

    def shard_files(self, directory: Path) -> list[Path]:
        """Lists the files of the shards in order.

        Args:
          directory: folder of the split.

        Raises:
          CheckpointError: shards are missing.
        """
        absent = len(self.missing_shards(directory))
        if absent:
            raise CheckpointError(
                f"{directory}: {absent} of {len(self.bounds) - 1} shards are missing; "
                "run the command that wrote it again to continue"
            )
        return [directory / self.shard_name(shard) for shard in range(len(self.bounds) - 1)]

    def remove_leftovers(self, directory: Path, shard: int) -> None:
        """Removes temporary files of a shard that a killed run left.

        Args:
          directory: folder of the split.
          shard: shard number.
        """
        for path in directory.glob(f".{self.shard_name(shard)}.*.tmp"):
            path.unlink(missing_ok=True)


def split_directory(directory: Path, name: str) -> Path:
    """Finds the folder of a split; for a part of one (`train[:50%]`) that of the whole split unless it has its own.

    Args:
      directory: folder of the store.
      name: split.

    Raises:
      CheckpointError: the split is missing.
    """
    whole = name if "+" in name else name.partition("[")[0]
    folder = directory / (name if (directory / name).is_dir() else whole)
    if not folder.is_dir():
        available = sorted(path.name for path in directory.iterdir() if path.is_dir())
        raise CheckpointError(f"{directory}: no split {name!r}; it has {', '.join(available) or 'none'}")
    return folder


def split_content(content: Mapping[str, str], *features: str) -> dict[str, str]:
    """Selects the digests that stored values depend on.

    Args:
      content: digests of the corpus's split, e.g. `SplitIndex.content`.
      features: features that the values are computed from, e.g. `audio`.
    """
    return {name: content[name] for name in ("id", *features)}


def check_content(directory: Path, stored: Mapping[str, str], corpus: Mapping[str, str]) -> None:
    """Compares the digests saved in a store with those of the corpus.

    Args:
      directory: folder of the store's split.
      stored: digests, `SplitMetadata.content`.
      corpus: digests of all features of the corpus's split.

    Raises:
      CheckpointError: they differ; the message names the features and the command that recomputes the store.
    """
    changed = [_PLURALS.get(name, name) for name in stored if stored[name] != corpus.get(name)]
    if changed:
        raise CheckpointError(
            f"{directory}: was computed from other {', '.join(changed)} than the corpus has now; "
            f"{_recompute_hint(directory)}"
        )


def write_metadata(directory: Path, metadata: StoreMetadata) -> None:
    """Writes `store.json`; an existing file must have the same content.

    Raises:
      CheckpointError: the folder holds another store, or other files.
    """
    if (directory / STORE).exists():
        read_metadata(directory).check_same(metadata, str(directory))
        return
    if not is_vacant(directory):
        raise CheckpointError(f"{directory}: must be a store, or a new or empty folder")
    write_json(directory / STORE, with_digest(to_tree(metadata)))


def read_metadata(directory: Path) -> StoreMetadata:
    """Reads `store.json`.

    Raises:
      CheckpointError: it is missing, damaged, or of an older version.
    """
    path = directory / STORE
    missing = f"no such file; {directory} is not a finished store"
    tree = read_json_object(path, missing=missing)
    if "format" not in tree:
        raise CheckpointError(
            f"{directory}: was made by an older version, which did not save digests of the corpus; "
            f"{_recompute_hint(path)}"
        )
    return parse(StoreMetadata, checked_content(tree, str(path)), str(path), error=CheckpointError)


def write_split_metadata(directory: Path, metadata: SplitMetadata) -> None:
    """Writes a split's `split.json`; an existing file must have the same content.

    Raises:
      CheckpointError: the existing split was computed from other data, or has other shards.
    """
    if (directory / SPLIT).exists():
        found = read_split_metadata(directory)
        check_content(directory, found.content, metadata.content)
        if found != metadata:
            raise CheckpointError(f"{directory}: has other shard bounds; {_recompute_hint(directory)}")
        return
    write_json(directory / SPLIT, with_digest(to_tree(metadata)))


def read_split_metadata(directory: Path) -> SplitMetadata:
    """Reads a split's `split.json`.

    Raises:
      CheckpointError: it is missing or damaged.
    """
    path = directory / SPLIT
    tree = read_json_object(path, missing=f"no such file; {directory} is not a finished split of a store")
    content = checked_content(tree, str(path))
    return parse(SplitMetadata, content, str(path), error=CheckpointError, missing="default")


def _recompute_hint(path: Path) -> str:
    return f"delete {path.parent} and run the command that wrote it again"
