"""The config of an extraction; every field is documented in configs/extract.py."""

import dataclasses
from collections.abc import Mapping
from typing import Any, Literal

from emojax.errors import ConfigError
from emojax.schema import parse


@dataclasses.dataclass(frozen=True)
class ExtractCorpusConfig:
    """What to read."""

    name: str
    data_dir: str
    splits: tuple[str, ...]

    def __post_init__(self):
        if not self.name:
            raise ConfigError("corpus.name: '' is not allowed; allowed: a name")


@dataclasses.dataclass(frozen=True)
class ExtractEncoderConfig:
    """What computes the states."""

    checkpoint: str
    revision: str
    dtype: Literal["float32", "bfloat16"]
    max_tokens: int
    batch_seconds: float
    batch_tokens: int

    def __post_init__(self):
        if not self.checkpoint:
            raise ConfigError("encoder.checkpoint: '' is not allowed; allowed: a folder or a hub name")
        for name in ("max_tokens", "batch_tokens"):
            if getattr(self, name) < 1:
                raise ConfigError(f"encoder.{name}: {getattr(self, name)} is not allowed; allowed: an integer >= 1")
        if self.batch_seconds <= 0:
            raise ConfigError(f"encoder.batch_seconds: {self.batch_seconds} is not allowed; allowed: a number > 0")


@dataclasses.dataclass(frozen=True)
class StatesConfig:
    """Which states are kept, and how."""

    layers: tuple[int, ...]
    combine: Literal["stack", "mean"]
    pooling: Literal["none", "mean", "statistics"]
    dtype: Literal["float16", "bfloat16", "float32"]

    def __post_init__(self):
        if not self.layers:
            raise ConfigError("states.layers: () is not allowed; allowed: layer numbers, e.g. (-1,)")


@dataclasses.dataclass(frozen=True)
class ExtractConfig:
    """Everything that determines a store."""

    corpus: ExtractCorpusConfig
    encoder: ExtractEncoderConfig
    states: StatesConfig


def parse_extraction(tree: Mapping[str, Any]) -> ExtractConfig:
    """Checks a config tree whole.

    Raises:
      ConfigError: one line naming the key, what is wrong with it and what is allowed.
    """
    return parse(ExtractConfig, tree)
