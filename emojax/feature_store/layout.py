"""What a store declares: `store.json` (where its values come from) and one `split.json` per split."""

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
    """Where the values of a store come from.

    Attributes:
      corpus: TFDS name with config and version.
      source: JSON values that determine the numbers: checkpoint hash, layers, pooling, ...
      arrays: what is stored of every utterance.
      format: of the files; the first format had no number, and described utterances by id and length alone.
    """

    corpus: Annotated[str, MinLen(1)]
    source: Mapping[str, Any]
    arrays: Annotated[tuple[ArraySpec, ...], MinLen(1), MaxLen(16)]
    format: Literal[2] = 2

    def check_same_run(self, other: "StoreMetadata", place: str) -> None:
        """Compares with what is wanted.

        Raises:
          CheckpointError: they differ; the message names the first difference.
        """
        if self.corpus != other.corpus:
            raise CheckpointError(f"{place}: was made from corpus {self.corpus}, not {other.corpus}")
        for key in sorted({*self.source, *other.source}):
            ours, theirs = self.source.get(key), other.source.get(key)
            if ours != theirs:
                raise CheckpointError(f"{place}: was made with {key} {ours!r}, not {theirs!r}")
        if self.arrays != other.arrays:
            raise CheckpointError(f"{place}: holds {self.arrays}, not {other.arrays}")


@settings
class SplitMetadata:
    """One split of a store.

    Attributes:
      ids: of the utterances, in the corpus's order.
      content: digests (`emojax.content`) of those features of the corpus's split that the values depend on.
      bounds: first utterance of each shard, and the number of utterances.
    """

    ids: Annotated[tuple[str, ...], MinLen(1)]
    content: Annotated[Mapping[str, str], MinLen(1)]
    bounds: Annotated[tuple[int, ...], MinLen(2)]

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
        return f"{shard:05d}-of-{len(self.bounds) - 1:05d}.array_record"


def split_content(content: Mapping[str, str], *features: str) -> dict[str, str]:
    """Selects the digests that values depend on.

    Args:
      content: of the corpus's split, e.g. `SplitIndex.content`.
      features: what the values are computed from, e.g. `audio`.
    """
    return {name: content[name] for name in ("id", *features)}


def check_content(directory: Path, stored: Mapping[str, str], corpus: Mapping[str, str]) -> None:
    """Compares what a split of a store was computed from with what the corpus has now.

    Args:
      directory: of the store's split.
      stored: digests, `SplitMetadata.content`.
      corpus: digests of all features of the corpus's split.

    Raises:
      CheckpointError: they differ; the message names the features, and how to make the store again.
    """
    changed = [_PLURALS.get(name, name) for name in stored if stored[name] != corpus.get(name)]
    if changed:
        raise CheckpointError(
            f"{directory}: was computed from other {', '.join(changed)} than the corpus has now; {_again(directory)}"
        )


def write_metadata(directory: Path, metadata: StoreMetadata) -> None:
    """Writes `store.json`, or checks that the one there is the same.

    Raises:
      CheckpointError: the folder holds another store, or something else.
    """
    if (directory / STORE).exists():
        read_metadata(directory).check_same_run(metadata, str(directory))
        return
    if not is_vacant(directory):
        raise CheckpointError(f"{directory}: holds something else than a store; allowed: a new or empty folder")
    write_json(directory / STORE, with_digest(to_tree(metadata)))


def read_metadata(directory: Path) -> StoreMetadata:
    """Reads `store.json`.

    Raises:
      CheckpointError: it is not there, damaged, or of an older version.
    """
    path = directory / STORE
    missing = f"no such file; {directory} is not a finished store"
    tree = read_json_object(path, missing=missing)
    if "format" not in tree:
        raise CheckpointError(
            f"{directory}: was made by an older version, which did not record what the corpus held; {_again(path)}"
        )
    return parse(StoreMetadata, checked_content(tree, str(path)), str(path), error=CheckpointError)


def write_split_metadata(directory: Path, metadata: SplitMetadata) -> None:
    """Writes a split's `split.json`, or checks that the one there is the same.

    Raises:
      CheckpointError: it was computed from other content, or divided into other shards.
    """
    if (directory / SPLIT).exists():
        found = read_split_metadata(directory)
        check_content(directory, found.content, metadata.content)
        if found != metadata:
            raise CheckpointError(f"{directory}: is divided into other shards; {_again(directory)}")
        return
    write_json(directory / SPLIT, with_digest(to_tree(metadata)))


def read_split_metadata(directory: Path) -> SplitMetadata:
    """Reads a split's `split.json`.

    Raises:
      CheckpointError: it is not there, or damaged.
    """
    path = directory / SPLIT
    tree = read_json_object(path, missing=f"no such file; {directory} is not a finished split of a store")
    return parse(SplitMetadata, checked_content(tree, str(path)), str(path), error=CheckpointError)


def _again(path: Path) -> str:
    return f"delete {path.parent} and run `--mode=extract` again"
