"""What a store says of itself: `store.json` (where its values come from) and one `split.json` per split."""

import dataclasses
import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Int

from emojax.errors import CheckpointError
from emojax.files import is_vacant, read_json_object, write_json
from emojax.store.records import DTYPES, ArraySpec

STORE, SPLIT = "store.json", "split.json"


@dataclasses.dataclass(frozen=True)
class StoreFacts:
    """Where the values of a store come from.

    Attributes:
      corpus: TFDS name with config and version.
      source: JSON values that determine the numbers: checkpoint hash, layers, pooling, ...
      arrays: what is stored of every utterance.
    """

    corpus: str
    source: Mapping[str, Any]
    arrays: tuple[ArraySpec, ...]

    def refuse_other(self, other: "StoreFacts", place: str) -> None:
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


@dataclasses.dataclass(frozen=True)
class SplitFacts:
    """One split of a store.

    Attributes:
      ids: of the utterances, in the corpus's order.
      fingerprint: of the corpus's split, from `split_fingerprint`.
      bounds: first utterance of each shard, and the number of utterances.
    """

    ids: tuple[str, ...]
    fingerprint: str
    bounds: tuple[int, ...]

    def shard_name(self, shard: int) -> str:
        """File name of a shard; a file of that name is complete."""
        return f"{shard:05d}-of-{len(self.bounds) - 1:05d}.array_record"


def split_fingerprint(ids: Sequence[str], num_samples: Int[np.ndarray, "N"]) -> str:
    """Changes with any change of which utterances a split has, in which order, and how long they are."""
    digest = hashlib.sha256("\0".join(ids).encode())
    digest.update(np.asarray(num_samples, "<i8").tobytes())
    return digest.hexdigest()[:32]


def write_facts(directory: Path, facts: StoreFacts) -> None:
    """Writes `store.json`, or checks that the one there says the same.

    Raises:
      CheckpointError: the folder holds another store, or something else.
    """
    if (directory / STORE).exists():
        read_facts(directory).refuse_other(facts, str(directory))
        return
    if not is_vacant(directory):
        raise CheckpointError(f"{directory}: holds something else than a store; allowed: a new or empty folder")
    write_json(directory / STORE, dataclasses.asdict(facts))


def read_facts(directory: Path) -> StoreFacts:
    """Reads `store.json`.

    Raises:
      CheckpointError: it is not there, or damaged.
    """
    tree = _read(directory / STORE)
    try:
        arrays = tuple(ArraySpec(**{**spec, "shape": tuple(spec["shape"])}) for spec in tree["arrays"])
        if any(spec.dtype not in DTYPES for spec in arrays):
            raise ValueError(f"dtype of {arrays}")
        return StoreFacts(tree["corpus"], tree["source"], arrays)
    except (KeyError, TypeError, ValueError) as error:
        raise CheckpointError(f"{directory / STORE}: is incomplete ({error})") from error


def write_split_facts(directory: Path, facts: SplitFacts) -> None:
    """Writes a split's `split.json`, or checks that the one there says the same.

    Raises:
      CheckpointError: it was made from other utterances, or cut into other shards.
    """
    if (directory / SPLIT).exists():
        if read_split_facts(directory) != facts:
            raise CheckpointError(f"{directory}: was made from other utterances or another version of the corpus")
        return
    write_json(directory / SPLIT, dataclasses.asdict(facts))


def read_split_facts(directory: Path) -> SplitFacts:
    """Reads a split's `split.json`.

    Raises:
      CheckpointError: it is not there, or damaged.
    """
    tree = _read(directory / SPLIT)
    try:
        return SplitFacts(tuple(tree["ids"]), tree["fingerprint"], tuple(tree["bounds"]))
    except (KeyError, TypeError) as error:
        raise CheckpointError(f"{directory / SPLIT}: is incomplete ({error})") from error


def _read(path: Path) -> dict[str, Any]:
    return read_json_object(path, missing=f"no such file; {path.parent} is not a finished store")
