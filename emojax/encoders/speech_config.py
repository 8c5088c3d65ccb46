"""Sizes and options of one speech encoder, read from its `config.json`."""

import dataclasses
import math
from collections.abc import Mapping
from typing import Any, Literal

from emojax.errors import CheckpointError


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


def read_speech_config(config: Mapping[str, Any], mask_embedding: bool) -> SpeechEncoderConfig:
    """Sizes and options from the content of `config.json`; absent keys have transformers' default values.

    Args:
      config: content of `config.json`, its `model_type` one of hubert, wav2vec2, wavlm.
      mask_embedding: whether the checkpoint has `masked_spec_embed`.

    Raises:
      CheckpointError: naming the key, its value, and what is allowed.
    """
    keys = _Keys(config)
    hubert, wavlm = config["model_type"] == "hubert", config["model_type"] == "wavlm"
    hidden_size = keys.size("hidden_size", 768)
    augment = keys.flag("apply_spec_augment", True)
    return SpeechEncoderConfig(
        convolution=_convolution(keys),
        projection_norm=keys.flag("feat_proj_layer_norm", True) if hubert else True,
        hidden_size=hidden_size,
        num_layers=keys.size("num_hidden_layers", 12),
        num_heads=keys.divisor("num_attention_heads", 12, hidden_size),
        intermediate_size=keys.size("intermediate_size", 3072),
        activation=config.get("hidden_act", "gelu"),
        norm_first=keys.flag("do_stable_layer_norm", False),
        layer_norm_epsilon=keys.number("layer_norm_eps", 1e-5),
        position_taps=keys.size("num_conv_pos_embeddings", 128),
        position_groups=keys.divisor("num_conv_pos_embedding_groups", 16, hidden_size),
        position_batch_norm=keys.flag("conv_pos_batch_norm", False) if hubert else False,
        num_buckets=keys.size("num_buckets", 320, multiple=4) if wavlm else 0,
        max_distance=keys.size("max_bucket_distance", 800) if wavlm else 0,
        mask_embedding=mask_embedding,
        masking=MaskingConfig(
            time_probability=keys.rate("mask_time_prob", 0.05) if augment else 0.0,
            time_length=keys.size("mask_time_length", 10),
            time_minimum=keys.count("mask_time_min_masks", 2),
            feature_probability=keys.rate("mask_feature_prob", 0.0) if augment else 0.0,
            feature_length=keys.size("mask_feature_length", 10),
            feature_minimum=keys.count("mask_feature_min_masks", 0),
        ),
        projection_dropout=keys.rate("feat_proj_dropout", 0.0),
        hidden_dropout=keys.rate("hidden_dropout", 0.1),
        activation_dropout=keys.rate("activation_dropout", 0.1),
        attention_dropout=keys.rate("attention_dropout", 0.1),
        layer_drop=keys.rate("layerdrop", 0.1),
        # WavLM's first layer owns the relative positions in the published implementations, so it always runs.
        drop_first_layer=not wavlm,
    )


def _convolution(keys: "_Keys") -> ConvolutionConfig:
    channels = keys.sizes("conv_dim", (512,) * 7)
    kernels = keys.sizes("conv_kernel", (10, 3, 3, 3, 3, 2, 2))
    strides = keys.sizes("conv_stride", (5, 2, 2, 2, 2, 2, 2))
    if not len(channels) == len(kernels) == len(strides):
        raise CheckpointError(
            f"config.json: conv_kernel, conv_stride: {len(kernels)} and {len(strides)} entries are not allowed; "
            f"allowed: {len(channels)}, as many as conv_dim has"
        )
    return ConvolutionConfig(
        channels=channels,
        kernels=kernels,
        strides=strides,
        bias=keys.flag("conv_bias", False),
        norm=keys.config.get("feat_extract_norm", "group"),
        activation=keys.config.get("feat_extract_activation", "gelu"),
    )


@dataclasses.dataclass(frozen=True)
class _Keys:
    """Checked access to the keys of a `config.json`."""

    config: Mapping[str, Any]

    def size(self, key: str, default: int, multiple: int = 1) -> int:
        value = self.config.get(key, default)
        if not _is_integer(value) or value < 1 or value % multiple:
            self._refuse(key, value, "an integer >= 1" if multiple == 1 else f"a multiple of {multiple}")
        return value

    def sizes(self, key: str, default: tuple[int, ...]) -> tuple[int, ...]:
        values = self.config.get(key, default)
        if not isinstance(values, list | tuple) or not values or not all(_is_integer(v) and v >= 1 for v in values):
            self._refuse(key, values, "a list of integers >= 1")
        return tuple(values)

    def count(self, key: str, default: int) -> int:
        value = self.config.get(key, default)
        if not _is_integer(value) or value < 0:
            self._refuse(key, value, "an integer >= 0")
        return value

    def divisor(self, key: str, default: int, of: int) -> int:
        value = self.size(key, default)
        if of % value:
            self._refuse(key, value, f"a divisor of hidden_size ({of})")
        return value

    def number(self, key: str, default: float) -> float:
        value = self.config.get(key, default)
        if not _is_number(value) or not value > 0:
            self._refuse(key, value, "a number > 0")
        return float(value)

    def rate(self, key: str, default: float) -> float:
        value = self.config.get(key, default)
        if not _is_number(value) or not 0 <= value <= 1:
            self._refuse(key, value, "a number in [0, 1]")
        return float(value)

    def flag(self, key: str, default: bool) -> bool:
        value = self.config.get(key, default)
        if not isinstance(value, bool):
            self._refuse(key, value, "true or false")
        return value

    def _refuse(self, key: str, value: Any, allowed: str) -> None:
        raise CheckpointError(f"config.json: {key}: {value!r} is not allowed; allowed: {allowed}")


def _is_integer(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)
