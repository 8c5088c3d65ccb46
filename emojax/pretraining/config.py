"""The config of a pre-training; every field is documented in configs/pretrain_hubert.py."""

import dataclasses
from collections.abc import Mapping
from typing import Annotated, Any, Literal

from emojax.audio import WaveformAugmentConfig
from emojax.config import OptimizerConfig, TrainingConfig
from emojax.data import DataConfig
from emojax.errors import ConfigError
from emojax.parallel import MeshConfig
from emojax.schema import Ge, Gt, Le, Lt, MinLen, default_tree, parse, settings
from emojax.types import SplitAssignment


@settings
class PretrainCorpusConfig:
    """Corpus and splits to pre-train on."""

    name: Annotated[str, MinLen(1), "TFDS name of a built corpus: NAME, NAME/CONFIG or NAME/CONFIG:VERSION."] = (
        "msp_podcast"
    )
    data_dir: Annotated[str, "Folder that holds NAME/; empty: $TFDS_DATA_DIR, else ~/tensorflow_datasets."] = ""
    train_split: Annotated[str, "Split to train on; empty: the one that the corpus names for the purpose."] = ""
    validation_split: Annotated[str, "Split that checkpoints are chosen on; empty: as the corpus names it."] = ""

    def __post_init__(self):
        """Checks rules between fields."""
        if self.train_split and self.train_split == self.validation_split:
            raise ConfigError(f"corpus.train_split must not be the validation split, got {self.train_split!r}")

    def with_splits(self, default: SplitAssignment | None) -> "PretrainCorpusConfig":
        """Fills in empty splits with the corpus's default splits.

        Raises:
          ConfigError: a split is empty and the corpus has no default.
        """
        if self.train_split and self.validation_split:
            return self
        if default is None:
            raise ConfigError(
                f"config.corpus.train_split: {self.name} does not say what its splits are for; "
                "set train_split and validation_split"
            )
        return dataclasses.replace(
            self,
            train_split=self.train_split or default.train,
            validation_split=self.validation_split or default.validation,
        )


@settings
class EncoderShapeConfig:
    """The encoder that is trained."""

    checkpoint: Annotated[
        str,
        "Folder, `package:NAME/FOLDER` or Hugging Face name of a HuBERT to continue from, which then gives the sizes; "
        "empty: random parameters.",
    ] = ""
    channels: Annotated[tuple[Annotated[int, Ge(1), Le(16_384)], ...], "Channels of the seven convolutions."] = (
        512,
    ) * 7
    hidden_size: Annotated[
        int, Ge(1), Le(16_384), "Width of the transformer, a multiple of 16 and of the number of heads."
    ] = 768
    num_layers: Annotated[int, Ge(1), Le(256), "Transformer layers."] = 12
    num_heads: Annotated[int, Ge(1), Le(1024), "Attention heads."] = 12
    intermediate_size: Annotated[int, Ge(1), Le(65_536), "Width of the feed-forward layers."] = 3072
    position_taps: Annotated[int, Ge(1), Le(4096), "Frames that the positional convolution spans."] = 128
    norm_first: Annotated[
        bool, "Layer norm before each sublayer, as in HuBERT-large, in place of after it: trains more steadily."
    ] = False
    dropout: Annotated[float, Ge(0), Lt(1), "Share of units dropped."] = 0.1
    layer_drop: Annotated[float, Ge(0), Lt(1), "Share of layers dropped."] = 0.05
    dtype: Annotated[Literal["float32", "bfloat16"], "Type of matrix products."] = "float32"
    remat: Annotated[
        bool, "Whether layers are computed again in the backward pass in place of keeping activations."
    ] = False

    def __post_init__(self):
        """Checks rules between fields."""
        if len(self.channels) != len(KERNELS):
            raise ConfigError(f"encoder.channels must have {len(KERNELS)} numbers, got {len(self.channels)}")

    def published(self) -> dict[str, Any]:
        """The content of `config.json` of such a network; sizes are checked when it is read."""
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


CONVOLUTIONAL = "an encoder of the waveform itself (hubert, wav2vec2, wavlm or data2vec-audio)"
"""Encoders that pre-training can continue from or cluster, for messages: those of `SpeechEncoder`."""

KERNELS, STRIDES = (10, 3, 3, 3, 3, 2, 2), (5, 2, 2, 2, 2, 2, 2)
"""Kernels and strides of the convolutions of all published speech encoders: 25 ms every 20 ms."""


@settings
class UnitsConfig:
    """Units that are predicted: clusters of features."""

    checkpoint: Annotated[
        str,
        "Folder, `package:NAME/FOLDER` or Hugging Face name of the speech encoder whose hidden states are clustered; "
        "empty: MFCC.",
    ] = ""
    layer: Annotated[
        int, Ge(-1000), Le(1000), "Layer of these hidden states: 0 is the input of the first layer, -1 the last states."
    ] = 6
    centred: Annotated[
        bool,
        "Whether each utterance's mean is subtracted first: units are then sounds rather than voices, which matters "
        "with few speakers.",
    ] = False
    clusters: Annotated[int, Ge(2), Le(100_000), "Number of units."] = 100
    fit_frames: Annotated[int, Ge(2), Le(10**9), "Frames, of 20 ms each, that k-means is fitted to."] = 500_000

    def __post_init__(self):
        """Checks rules between fields."""
        if self.fit_frames < self.clusters:
            raise ConfigError(f"units.fit_frames must be >= units.clusters ({self.clusters}), got {self.fit_frames}")


@settings
class PredictionConfig:
    """Masks and the loss of masked prediction."""

    mask_probability: Annotated[float, Gt(0), Le(1), "Share of frames in masked spans, before overlaps."] = 0.8
    mask_length: Annotated[int, Ge(1), Le(10_000), "Frames of a span."] = 10
    visible_weight: Annotated[
        float, Ge(0), Lt(1), "Share of the loss on visible frames; the rest is on masked ones."
    ] = 0.0
    projection_size: Annotated[
        int, Ge(1), Le(16_384), "Size of the space in which hidden states and units are compared."
    ] = 256
    temperature: Annotated[float, Gt(0), Le(1000), "Temperature of the comparison."] = 0.1


@settings
class PretrainConfig:
    """Everything that determines a pre-training."""

    seed: Annotated[
        int,
        Ge(0),
        Lt(2**32),
        "Seed of parameters, masks, order of the data, cropping, dropout and k-means. Same config, same result.",
    ] = 0
    corpus: PretrainCorpusConfig = PretrainCorpusConfig()
    data: DataConfig = DataConfig()
    augment: WaveformAugmentConfig = WaveformAugmentConfig()
    encoder: EncoderShapeConfig = EncoderShapeConfig()
    units: UnitsConfig = UnitsConfig()
    prediction: PredictionConfig = PredictionConfig()
    optimizer: OptimizerConfig = OptimizerConfig(
        learning_rate=5e-4, weight_decay=0.01, schedule="cosine", warmup_steps=2000
    )
    training: TrainingConfig = TrainingConfig()
    mesh: MeshConfig = MeshConfig()

    def __post_init__(self):
        """Checks that fields which pre-training does not use have their defaults.

        Raises:
          ConfigError: one has another value.
        """
        unused = {
            "optimizer": (self.optimizer, ("encoder_learning_rate", "layer_decay", "ema_decay")),
            "training": (self.training, ("micro_batches",)),
            "data": (self.data, ("unlabelled_share", "max_tokens")),
        }
        for group, (given, names) in unused.items():
            for name in names:
                default = default_tree(type(given))[name]
                value = getattr(given, name)
                if value != default:
                    raise ConfigError(
                        f"{group}.{name} must be {default!r} in pre-training, which does not use it, got {value!r}"
                    )


def parse_pretraining(tree: Mapping[str, Any]) -> PretrainConfig:
    """Checks a config tree whole.

    Raises:
      ConfigError: one line with the key, its value and what is allowed.
    """
    return parse(PretrainConfig, tree)
