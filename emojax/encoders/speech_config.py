"""Sizes and options of one speech encoder, read from its `config.json`."""

import dataclasses
import math
from collections.abc import Mapping
from typing import Annotated, Any, Literal

from emojax.encoders.activations import ActivationName
from emojax.encoders.family import LayerCount, Rate, Size, Width, check_heads
from emojax.errors import CheckpointError, ConfigError
from emojax.schema import Ge, Gt, Le, MaxLen, MinLen, parse, settings
from emojax.types import SAMPLE_RATE


@dataclasses.dataclass(frozen=True)
class ConvolutionConfig:
    """The convolutional feature encoder; one entry per layer where it is a tuple.

    Attributes:
      channels: output channels.
      kernels: kernel lengths in frames of the layer's input.
      strides: strides in frames of the layer's input.
      bias: whether the convolutions have a bias.
      norm: `group` normalises every channel of the first layer over the frames of the clip, `layer` every frame of
        every layer over its channels.
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
        """Samples one frame sees, and the shortest input: 400 (25 ms) in all published models."""
        hops = [math.prod(self.strides[:index]) for index in range(len(self.strides))]
        return 1 + sum((kernel - 1) * hop for kernel, hop in zip(self.kernels, hops, strict=True))


@dataclasses.dataclass(frozen=True)
class MaskingConfig:
    """Spans hidden from the transformer in training; a probability of 0 turns an axis off.

    Attributes:
      time_probability: share of frames in spans, before overlaps.
      time_length: frames per span.
      time_minimum: least number of spans per clip.
      feature_probability: share of features in spans, before overlaps.
      feature_length: features per span.
      feature_minimum: least number of feature spans per clip.
    """

    time_probability: float
    time_length: int
    time_minimum: int
    feature_probability: float
    feature_length: int
    feature_minimum: int


@dataclasses.dataclass(frozen=True)
class SpeechEncoderConfig:
    """Everything that shapes the computation of one HuBERT, wav2vec 2.0 or WavLM.

    Attributes:
      convolution: the feature encoder.
      projection_norm: whether features are layer-normalised before their projection to `hidden_size`.
      hidden_size: D.
      num_layers: transformer layers.
      num_heads: attention heads; divides `hidden_size`.
      intermediate_size: width of the feed-forward part.
      activation: key of `ACTIVATIONS`, in the feed-forward part.
      norm_first: layer norm before each sublayer and once at the end (`do_stable_layer_norm`), instead of after each.
      layer_norm_epsilon: added to the variance, outside the feature encoder.
      position_taps: kernel length of the positional convolution, in frames.
      position_groups: its groups; divides `hidden_size`.
      position_batch_norm: batch norm before it instead of weight norm in it.
      num_buckets: rows of WavLM's table of relative positions; 0 where there is no relative position bias.
      max_distance: distance in frames from which on all relative positions share a bucket.
      mask_embedding: whether the checkpoint has a learned vector for masked frames; zeros take its place otherwise.
      masking: spans masked in training.
      projection_dropout: rate after the feature projection.
      hidden_dropout: rate before the first layer and after each sublayer.
      activation_dropout: rate inside the feed-forward part.
      attention_dropout: rate on attention weights.
      layer_drop: probability of leaving a layer out, per step.
      drop_first_layer: whether the first layer can be left out, too.
    """

    convolution: ConvolutionConfig
    projection_norm: bool
    hidden_size: int
    num_layers: int
    num_heads: int
    intermediate_size: int
    activation: str
    norm_first: bool
    layer_norm_epsilon: float
    position_taps: int
    position_groups: int
    position_batch_norm: bool
    num_buckets: int
    max_distance: int
    mask_embedding: bool
    masking: MaskingConfig
    projection_dropout: float
    hidden_dropout: float
    activation_dropout: float
    attention_dropout: float
    layer_drop: float
    drop_first_layer: bool


_MAX_TAPS = 2**12
_MAX_CONVOLUTIONS = 32
_Sizes = Annotated[tuple[Size, ...], MinLen(1), MaxLen(_MAX_CONVOLUTIONS)]
_Taps = Annotated[tuple[Annotated[int, Ge(1), Le(_MAX_TAPS)], ...], MinLen(1), MaxLen(_MAX_CONVOLUTIONS)]
_Length = Annotated[int, Ge(1), Le(2**20)]
_Count = Annotated[int, Ge(0), Le(2**20)]


@settings
class PublishedSpeechConfig:
    """What is read of the `config.json` of a HuBERT, wav2vec 2.0 or WavLM, by its names; defaults are transformers'."""

    model_type: Literal["hubert", "wav2vec2", "wavlm"]
    conv_dim: _Sizes = (512,) * 7
    conv_kernel: _Taps = (10, 3, 3, 3, 3, 2, 2)
    conv_stride: _Taps = (5, 2, 2, 2, 2, 2, 2)
    conv_bias: bool = False
    feat_extract_norm: Literal["group", "layer"] = "group"
    feat_extract_activation: ActivationName = "gelu"
    feat_proj_layer_norm: bool = True
    hidden_size: Width = 768
    num_hidden_layers: LayerCount = 12
    num_attention_heads: Size = 12
    intermediate_size: Size = 3072
    hidden_act: ActivationName = "gelu"
    do_stable_layer_norm: bool = False
    layer_norm_eps: Annotated[float, Gt(0), Le(1)] = 1e-5
    num_conv_pos_embeddings: Annotated[int, Ge(1), Le(_MAX_TAPS)] = 128
    num_conv_pos_embedding_groups: Size = 16
    conv_pos_batch_norm: bool = False
    num_buckets: Size = 320
    max_bucket_distance: _Length = 800
    apply_spec_augment: bool = True
    mask_time_prob: Rate = 0.05
    mask_time_length: _Length = 10
    mask_time_min_masks: _Count = 2
    mask_feature_prob: Rate = 0.0
    mask_feature_length: _Length = 10
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
        """Checks what sizes say of each other.

        Raises:
          ConfigError: naming the key and what is allowed.
        """
        check_heads(self.num_attention_heads, self.hidden_size)
        if self.hidden_size % self.num_conv_pos_embedding_groups:
            raise ConfigError(
                f"num_conv_pos_embedding_groups must divide hidden_size ({self.hidden_size}), "
                f"got {self.num_conv_pos_embedding_groups}"
            )
        if self.num_buckets % 4:
            raise ConfigError(f"num_buckets must be a multiple of 4, got {self.num_buckets}")
        for name in ("conv_kernel", "conv_stride"):
            entries = len(getattr(self, name))
            if entries != len(self.conv_dim):
                raise ConfigError(f"{name} must have {len(self.conv_dim)} entries, as many as conv_dim, got {entries}")
        seen = self.convolution.receptive_field
        if seen > SAMPLE_RATE:
            raise ConfigError(f"conv_kernel, conv_stride: a frame must see at most {SAMPLE_RATE} samples, sees {seen}")

    @property
    def convolution(self) -> ConvolutionConfig:
        """The feature encoder."""
        return ConvolutionConfig(
            channels=self.conv_dim,
            kernels=self.conv_kernel,
            strides=self.conv_stride,
            bias=self.conv_bias,
            norm=self.feat_extract_norm,
            activation=self.feat_extract_activation,
        )

    @property
    def masking(self) -> MaskingConfig:
        """Spans hidden in training."""
        return MaskingConfig(
            time_probability=self.mask_time_prob if self.apply_spec_augment else 0.0,
            time_length=self.mask_time_length,
            time_minimum=self.mask_time_min_masks,
            feature_probability=self.mask_feature_prob if self.apply_spec_augment else 0.0,
            feature_length=self.mask_feature_length,
            feature_minimum=self.mask_feature_min_masks,
        )


def read_speech_config(config: Mapping[str, Any], mask_embedding: bool) -> SpeechEncoderConfig:
    """Sizes and options from the content of `config.json`; absent keys have transformers' default values.

    Args:
      config: content of `config.json`, its `model_type` one of hubert, wav2vec2, wavlm.
      mask_embedding: whether the checkpoint has `masked_spec_embed`.

    Raises:
      CheckpointError: naming the key, its value, and what is allowed.
    """
    found = parse(
        PublishedSpeechConfig, config, "config.json", error=CheckpointError, unknown="ignore", missing="default"
    )
    hubert, wavlm = found.model_type == "hubert", found.model_type == "wavlm"
    return SpeechEncoderConfig(
        convolution=found.convolution,
        projection_norm=found.feat_proj_layer_norm if hubert else True,
        hidden_size=found.hidden_size,
        num_layers=found.num_hidden_layers,
        num_heads=found.num_attention_heads,
        intermediate_size=found.intermediate_size,
        activation=found.hidden_act,
        norm_first=found.do_stable_layer_norm,
        layer_norm_epsilon=found.layer_norm_eps,
        position_taps=found.num_conv_pos_embeddings,
        position_groups=found.num_conv_pos_embedding_groups,
        position_batch_norm=found.conv_pos_batch_norm if hubert else False,
        num_buckets=found.num_buckets if wavlm else 0,
        max_distance=found.max_bucket_distance if wavlm else 0,
        mask_embedding=mask_embedding,
        masking=found.masking,
        projection_dropout=found.feat_proj_dropout,
        hidden_dropout=found.hidden_dropout,
        activation_dropout=found.activation_dropout,
        attention_dropout=found.attention_dropout,
        layer_drop=found.layerdrop,
        # WavLM's first layer owns the relative positions in the published implementations, so it always runs.
        drop_first_layer=not wavlm,
    )
