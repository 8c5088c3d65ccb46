"""The config of a pre-training; every field is documented in configs/pretrain_hubert.py."""

import dataclasses
from collections.abc import Mapping
from typing import Any, Literal

from emojax.audio import WaveformAugmentConfig
from emojax.config import OptimizerConfig, TrainingConfig
from emojax.data import DataConfig
from emojax.errors import ConfigError
from emojax.parallel import MeshConfig
from emojax.schema import parse
from emojax.types import SplitRoles


@dataclasses.dataclass(frozen=True)
class PretrainCorpusConfig:
    """What to hear."""

    name: str
    data_dir: str
    train_split: str
    validation_split: str

    def __post_init__(self):
        if not self.name:
            raise ConfigError("corpus.name: '' is not allowed; allowed: a name")
        if self.train_split and self.train_split == self.validation_split:
            raise ConfigError(f"corpus.train_split: {self.train_split!r} is also validated on")

    def with_roles(self, roles: SplitRoles | None) -> "PretrainCorpusConfig":
        """Fills in the splits that are left open with those the corpus names.

        Raises:
          ConfigError: the corpus names none.
        """
        if self.train_split and self.validation_split:
            return self
        if roles is None:
            raise ConfigError(
                f"config.corpus.train_split: {self.name} does not say what its splits are for; "
                "set train_split and validation_split"
            )
        return dataclasses.replace(
            self,
            train_split=self.train_split or roles.train,
            validation_split=self.validation_split or roles.validation,
        )


@dataclasses.dataclass(frozen=True)
class EncoderShapeConfig:
    """The network that is trained."""

    checkpoint: str
    channels: tuple[int, ...]
    hidden_size: int
    num_layers: int
    num_heads: int
    intermediate_size: int
    position_taps: int
    norm_first: bool
    dropout: float
    layer_drop: float
    dtype: Literal["float32", "bfloat16"]
    remat: bool

    def __post_init__(self):
        if len(self.channels) != len(KERNELS):
            raise ConfigError(f"encoder.channels: {self.channels} is not allowed; allowed: {len(KERNELS)} numbers")
        for name in ("dropout", "layer_drop"):
            if not 0 <= getattr(self, name) < 1:
                raise ConfigError(f"encoder.{name}: {getattr(self, name)} is not allowed; allowed: 0 <= number < 1")

    def published(self) -> dict[str, Any]:
        """The content of `config.json` of such a network; what is wrong with a size is told when that is read."""
        return {
            "model_type": "hubert",
            "conv_dim": list(self.channels),
            "conv_kernel": list(KERNELS),
            "conv_stride": list(STRIDES),
            "conv_bias": False,
            "feat_extract_norm": "group",
            "hidden_size": self.hidden_size,
            "num_hidden_layers": self.num_layers,
            "num_attention_heads": self.num_heads,
            "intermediate_size": self.intermediate_size,
            "do_stable_layer_norm": self.norm_first,
            "num_conv_pos_embeddings": self.position_taps,
            "num_conv_pos_embedding_groups": 16,
            "feat_proj_dropout": self.dropout,
            "hidden_dropout": self.dropout,
            "activation_dropout": 0.0,
            "attention_dropout": self.dropout,
            "layerdrop": self.layer_drop,
        }


KERNELS, STRIDES = (10, 3, 3, 3, 3, 2, 2), (5, 2, 2, 2, 2, 2, 2)
"""Of the convolutions of all published speech encoders: 25 ms every 20 ms."""


@dataclasses.dataclass(frozen=True)
class UnitsConfig:
    """What is predicted."""

    checkpoint: str
    layer: int
    centred: bool
    clusters: int
    fit_frames: int

    def __post_init__(self):
        if self.clusters < 2:
            raise ConfigError(f"units.clusters: {self.clusters} is not allowed; allowed: an integer >= 2")
        if self.fit_frames < self.clusters:
            raise ConfigError(f"units.fit_frames: {self.fit_frames} is not allowed; allowed: at least units.clusters")


@dataclasses.dataclass(frozen=True)
class PredictionConfig:
    """How it is predicted."""

    mask_probability: float
    mask_length: int
    visible_weight: float
    projection_size: int
    temperature: float

    def __post_init__(self):
        if not 0 < self.mask_probability <= 1:
            raise ConfigError(
                f"prediction.mask_probability: {self.mask_probability} is not allowed; allowed: 0 < number <= 1"
            )
        if not 0 <= self.visible_weight < 1:
            raise ConfigError(
                f"prediction.visible_weight: {self.visible_weight} is not allowed; allowed: 0 <= number < 1"
            )
        for name in ("mask_length", "projection_size"):
            if getattr(self, name) < 1:
                raise ConfigError(f"prediction.{name}: {getattr(self, name)} is not allowed; allowed: an integer >= 1")
        if self.temperature <= 0:
            raise ConfigError(f"prediction.temperature: {self.temperature} is not allowed; allowed: a number > 0")


@dataclasses.dataclass(frozen=True)
class PretrainConfig:
    """Everything that determines a pre-training."""

    seed: int
    corpus: PretrainCorpusConfig
    data: DataConfig
    augment: WaveformAugmentConfig
    encoder: EncoderShapeConfig
    units: UnitsConfig
    prediction: PredictionConfig
    optimizer: OptimizerConfig
    training: TrainingConfig
    mesh: MeshConfig


def parse_pretraining(tree: Mapping[str, Any]) -> PretrainConfig:
    """Checks a config tree whole.

    Raises:
      ConfigError: one line naming the key, what is wrong with it and what is allowed.
    """
    return parse(PretrainConfig, tree)
