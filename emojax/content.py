"""Digests of what a split of a corpus holds, one per feature: what was computed from it can be compared with it.

They depend on values and order alone, not on how examples are serialised, divided into shards, or built.
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
"""What is digested; `num_samples` is the length of `audio`, so that a table without audio can be compared too."""

_TEXTS = frozenset(("id", "speaker", "gender", "transcript"))
_INTEGERS = frozenset(("emotion", "num_samples"))


class ContentDigest:
    """SHA-256 of every feature of a split, updated utterance by utterance in the split's order."""

    def __init__(self) -> None:
        """Starts with no utterance."""
        self._digests = {name: hashlib.sha256() for name in FEATURES}

    def update(self, utterance: Mapping[str, Any]) -> None:
        """Adds the next utterance.

        Args:
          utterance: features of the schema: texts as str, `audio` as int16 (S,), `emotion` as an integer, the others
            as float32; `num_samples` is not needed.
        """
        audio = np.ascontiguousarray(utterance["audio"], "<i2")
        for name, digest in self._digests.items():
            if name == "audio":
                digest.update(struct.pack("<q", len(audio)))
                digest.update(audio.data)
            else:
                value = len(audio) if name == "num_samples" else utterance[name]
                digest.update(_encoded(name, [value]))

    def hexdigests(self) -> dict[str, str]:
        """SHA-256 by feature, in hexadecimal."""
        return {name: digest.hexdigest() for name, digest in self._digests.items()}


def column_digest(name: str, values: Sequence[Any] | np.ndarray) -> str:
    """Computes what `ContentDigest` gives for one feature other than `audio`, from its values of all utterances."""
    return hashlib.sha256(_encoded(name, values)).hexdigest()


def joined_digests(parts: Sequence[Mapping[str, str]]) -> dict[str, str]:
    """Digests of a sum of splits, `a+b`, from those of its parts."""
    if len(parts) == 1:
        return dict(parts[0])
    return {name: hashlib.sha256("".join(part[name] for part in parts).encode()).hexdigest() for name in FEATURES}


def _encoded(name: str, values: Sequence[Any] | np.ndarray) -> bytes:
    if name in _TEXTS:
        encoded = [str(value).encode() for value in values]
        return b"".join(struct.pack("<I", len(text)) + text for text in encoded)
    if name in _INTEGERS:
        return np.asarray(values, "<i8").tobytes()
    floats = np.asarray(values, "<f4")
    return np.where(np.isnan(floats), np.float32(np.nan), floats).astype("<f4").tobytes()
