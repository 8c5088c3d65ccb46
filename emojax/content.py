"""Digests of a split's content, one per feature, which detect that derived data (indices, feature stores) is stale.

They depend on values and order only, not on serialisation or sharding.
"""

import hashlib
import struct
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

FEATURES = (
    "id",
    "speaker",
    "gender",
    "transcript",
    "audio",
    "num_samples",
    "attributes",
    "attributes_std",
    "emotion",
    "emotion_votes",
)
"""Features with a digest; `num_samples` is the length of `audio`, so that an index without audio can be compared."""

OPTIONAL_FEATURES = ("attributes_histogram",)
"""Features with a digest in corpora that have them."""

SHARDED_UTTERANCES = 2**20
"""Largest split whose digests are computed over all utterances in order; those of a larger one are `joined_digests` of
its shards, which are computed independently."""

_TEXTS = frozenset(("id", "speaker", "gender", "transcript"))
_INTEGERS = frozenset(("emotion", "num_samples"))


class ContentDigest:
    """SHA-256 of every feature of a split, updated utterance by utterance in the split's order."""

    def __init__(self) -> None:
        """Initialises the digests of an empty split."""
        self._digests = {name: hashlib.sha256() for name in FEATURES}

    def update(self, utterance: Mapping[str, Any]) -> None:
        """Adds the next utterance.

        Args:
          utterance: features of the schema: texts as str, `audio` as int16 (S,), `emotion` as an integer, the others
            as float32; `num_samples` is computed. All utterances of a split have the same optional features.
        """
        for name in OPTIONAL_FEATURES:
            if name in utterance:
                self._digests.setdefault(name, hashlib.sha256())
        audio = np.ascontiguousarray(utterance["audio"], "<i2")
        for name, digest in self._digests.items():
            if name == "audio":
                digest.update(struct.pack("<q", len(audio)))
                digest.update(audio.data)
            else:
                value = len(audio) if name == "num_samples" else utterance[name]
                digest.update(_encoded(name, [value]))

    def hexdigests(self) -> dict[str, str]:
        """Returns the SHA-256 of each feature, hexadecimal."""
        return {name: digest.hexdigest() for name, digest in self._digests.items()}


def is_complete(digests: Mapping[str, str]) -> bool:
    """Whether digests are those of all features, with or without the optional ones."""
    return set(FEATURES) <= set(digests) <= {*FEATURES, *OPTIONAL_FEATURES}


def column_digest(name: str, values: Sequence[Any] | np.ndarray) -> str:
    """Computes the digest of one feature other than `audio` from its values for all utterances."""
    return hashlib.sha256(_encoded(name, values)).hexdigest()


def joined_digests(parts: Sequence[Mapping[str, str]]) -> dict[str, str]:
    """Computes the digests of a sum of splits, `a+b`, from those of its parts, which have the same features."""
    if len(parts) == 1:
        return dict(parts[0])
    return {name: hashlib.sha256("".join(part[name] for part in parts).encode()).hexdigest() for name in parts[0]}


def split_digests(size: int, whole: ContentDigest, shards: Sequence[ContentDigest]) -> dict[str, str]:
    """Digests of a split: of all utterances in order, or above `SHARDED_UTTERANCES` the joined ones of its shards.

    Args:
      size: number of utterances.
      whole: updated with all utterances.
      shards: updated with those of each shard; () is possible for splits that are not large.
    """
    if size <= SHARDED_UTTERANCES:
        return whole.hexdigests()
    return joined_digests([shard.hexdigests() for shard in shards])


def _encoded(name: str, values: Sequence[Any] | np.ndarray) -> bytes:
    if name in _TEXTS:
        encoded = [str(value).encode() for value in values]
        return b"".join(struct.pack("<I", len(text)) + text for text in encoded)
    if name in _INTEGERS:
        return np.asarray(values, "<i8").tobytes()
    floats = np.asarray(values, "<f4")
    return np.where(np.isnan(floats), np.float32(np.nan), floats).astype("<f4").tobytes()
