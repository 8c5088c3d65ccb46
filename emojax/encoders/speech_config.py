"""Sizes and options of speech encoders, and the keys of `config.json` that all their families share."""

import dataclasses
import math
from collections.abc import Callable
from typing import Annotated, Any, Literal

import flax.linen as nn

from emojax.encoders.families import LayerCount, Rate, Size, Width, check_heads
from emojax.encoders.layers import ActivationName
from emojax.encoders.transformer_config import TransformerConfig
from emojax.errors import ConfigError
from emojax.schema import Ge, Gt, Le, MaxLen, MinLen, settings
from emojax.types import SAMPLE_RATE


@dataclasses.dataclass(frozen=True)
class ConvolutionConfig:
    """The convolutional feature encoder; one entry per layer where it is a tuple.

    Attributes:
      channels: output channels.
      kernels: kernel lengths in frames of the layer's input.
      strides: strides in frames of the layer's input.
      bias: whether the convolutions have a bias.
      norm: `group` normalises every channel of the first layer over the frames of the recording, `layer` every frame
        of every layer over its channels.
      activation: key of `ACTIVATIONS`.
    """

    channels: tuple[int, ...]
    kernels: tuple[int, ...]
    strides: tuple[int, ...]
    bias: bool
    norm: Literal["group", "layer"]
    activation: str

    @property
    def receptive_field(self) -> int:
        """Samples that one frame depends on, and the shortest input: 400 (25 ms) in all published models."""
        return receptive_field(self.kernels, self.strides)

    @property
    def samples_per_frame(self) -> int:
        """Samples between two frames: 320 (20 ms) in all published models."""
        return math.prod(self.strides)


def receptive_field(kernels: tuple[int, ...], strides: tuple[int, ...]) -> int:
    """Computes how many samples one output of a stack of convolutions depends on."""
    hops = [math.prod(strides[:index]) for index in range(len(strides))]
    return 1 + sum((kernel - 1) * hop for kernel, hop in zip(kernels, hops, strict=True))


@dataclasses.dataclass(frozen=True)
class MaskingConfig:
    """Spans masked in training (Baevski et al. 2020, section 3.1); a probability of 0 switches an axis off.

    Attributes:
      time_probability: share of frames in spans, before overlaps.
      time_length: frames per span.
      time_minimum: least number of spans per recording.
      feature_probability: share of features in spans, before overlaps.
      feature_length: features per span.
      feature_minimum: least number of feature spans per recording.
    """

    time_probability: float
    time_length: int
    time_minimum: int
    feature_probability: float
    feature_length: int
    feature_minimum: int


@dataclasses.dataclass(frozen=True)
class SpeechEncoderConfig(TransformerConfig):
    """Everything that determines the computation of one speech encoder.

    Attributes:
      convolution: the feature encoder.
      projection_norm: whether features are layer-normalised before their projection to `hidden_size`.
      position: Linen class of the positional embedding, constructed with (config, dtype, name) and called with
        (states, mask).
      position_taps: kernel length of the positional convolution, in frames.
      position_groups: groups of the positional convolution; divides `hidden_size`.
      position_batch_norm: batch norm before the positional convolution instead of weight norm in it.
      num_buckets: rows of WavLM's table of relative positions; 0 where there is no relative position bias.
      max_distance: distance in frames from which on all relative positions share a bucket.
      mask_embedding: whether the checkpoint has a learned vector for masked frames; otherwise they become zero.
      masking: spans masked in training.
      projection_dropout: rate after the feature projection.
    """

    convolution: ConvolutionConfig
    projection_norm: bool
    position: Callable[..., nn.Module]
    position_taps: int
    position_groups: int
    position_batch_norm: bool
    num_buckets: int
    max_distance: int
    mask_embedding: bool
    masking: MaskingConfig
    projection_dropout: float


MAX_TAPS = 2**12
"""Longest kernel of a config."""

_MAX_CONVOLUTIONS = 32
_Sizes = Annotated[tuple[Size, ...], MinLen(1), MaxLen(_MAX_CONVOLUTIONS)]
_Taps = Annotated[tuple[Annotated[int, Ge(1), Le(MAX_TAPS)], ...], MinLen(1), MaxLen(_MAX_CONVOLUTIONS)]
_Count = Annotated[int, Ge(0), Le(2**20)]

Length = Annotated[int, Ge(1), Le(2**20)]
"""Frames."""


@settings
class PublishedSpeechConfig:
    """Keys of `config.json` that the families of speech encoders share; defaults are transformers'."""

    model_type: str
    conv_dim: _Sizes = (512,) * 7
    conv_kernel: _Taps = (10, 3, 3, 3, 3, 2, 2)
    conv_stride: _Taps = (5, 2, 2, 2, 2, 2, 2)
    conv_bias: bool = False
    feat_extract_activation: ActivationName = "gelu"
    hidden_size: Width = 768
    num_hidden_layers: LayerCount = 12
    num_attention_heads: Size = 12
    intermediate_size: Size = 3072
    hidden_act: ActivationName = "gelu"
    layer_norm_eps: Annotated[float, Gt(0), Le(1)] = 1e-5
    num_conv_pos_embedding_groups: Size = 16
    apply_spec_augment: bool = True
    mask_time_prob: Rate = 0.05
    mask_time_length: Length = 10
    mask_time_min_masks: _Count = 2
    mask_feature_prob: Rate = 0.0
    mask_feature_length: Length = 10
    mask_feature_min_masks: _Count = 0
    feat_proj_dropout: Rate = 0.0
    hidden_dropout: Rate = 0.1
    activation_dropout: Rate = 0.1
    attention_dropout: Rate = 0.1
    layerdrop: Rate = 0.1
    add_adapter: Literal[False] | None = None
    adapter_attn_dim: Literal[None] = None
    quantization_config: Literal[None] = None

    def __post_init__(self):
        """Checks sizes against each other.

        Raises:
          ConfigError: naming the key and what is allowed.
        """
        check_heads(self.num_attention_heads, self.hidden_size)
        if self.hidden_size % self.num_conv_pos_embedding_groups:
            raise ConfigError(
                f"num_conv_pos_embedding_groups must divide hidden_size ({self.hidden_size}), "
                f"got {self.num_conv_pos_embedding_groups}"
            )
        for name in ("conv_kernel", "conv_stride"):
            entries = len(getattr(self, name))
            if entries != len(self.conv_dim):
                raise ConfigError(f"{name} must have {len(self.conv_dim)} entries, as many as conv_dim, got {entries}")
        samples = receptive_field(self.conv_kernel, self.conv_stride)
        if samples > SAMPLE_RATE:
            raise ConfigError(
                f"conv_kernel, conv_stride: the receptive field must be at most {SAMPLE_RATE} samples, is {samples}"
            )

    def shared_sizes(self, norm: Literal["group", "layer"]) -> dict[str, Any]:
        """Makes the arguments of `SpeechEncoderConfig` that all families compute alike.

        Args:
          norm: norm of the feature encoder.
        """
        return {
            "convolution": ConvolutionConfig(
                channels=self.conv_dim,
                kernels=self.conv_kernel,
                strides=self.conv_stride,
                bias=self.conv_bias,
                norm=norm,
                activation=self.feat_extract_activation,
            ),
            "hidden_size": self.hidden_size,
            "num_layers": self.num_hidden_layers,
            "num_heads": self.num_attention_heads,
            "intermediate_size": self.intermediate_size,
            "activation": self.hidden_act,
            "layer_norm_epsilon": self.layer_norm_eps,
            "key_bias": True,
            "position_groups": self.num_conv_pos_embedding_groups,
            "masking": self._masking(),
            "projection_dropout": self.feat_proj_dropout,
            "hidden_dropout": self.hidden_dropout,
            "attention_output_dropout": True,
            "activation_dropout": self.activation_dropout,
            "attention_dropout": self.attention_dropout,
            "layer_drop": self.layerdrop,
        }

    def _masking(self) -> MaskingConfig:
        return MaskingConfig(
            time_probability=self.mask_time_prob if self.apply_spec_augment else 0.0,
            time_length=self.mask_time_length,
            time_minimum=self.mask_time_min_masks,
            feature_probability=self.mask_feature_prob if self.apply_spec_augment else 0.0,
            feature_length=self.mask_feature_length,
            feature_minimum=self.mask_feature_min_masks,
        )
