"""The family `data2vec-audio` (Baevski et al. 2022): positional embedding, keys of `config.json`, tensor names.

Like wav2vec 2.0 with layer norm in every convolution of the feature encoder, and a stack of positional convolutions in
place of one with weight norm.
"""

import dataclasses
from collections.abc import Mapping
from typing import Annotated, Any, Literal

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from emojax.encoders.families import ComputeOptions, Family, parse_published
from emojax.encoders.layers import ACTIVATIONS, grouped_convolution
from emojax.encoders.mixed_precision import wide
from emojax.encoders.speech_config import MAX_TAPS, PublishedSpeechConfig, SpeechEncoderConfig
from emojax.encoders.speech_encoder import MASK_EMBEDDING, SPEECH_AXES, SPEECH_RULES, SpeechEncoder, speech_layer_rules
from emojax.encoders.tensor_table import Ignored, Rule, TensorTable
from emojax.encoders.waveform_inputs import WaveformInputs
from emojax.schema import Ge, Le, settings

_EPSILON = 1e-5
"""PyTorch's default, which the published model keeps in the positional embedding whatever `layer_norm_eps` is."""


@settings
class PublishedData2VecAudioConfig(PublishedSpeechConfig):
    """Keys of `config.json` that are read; defaults are transformers'."""

    model_type: Literal["data2vec-audio"]
    num_conv_pos_embeddings: Annotated[int, Ge(1), Le(64)] = 5
    conv_pos_kernel_size: Annotated[int, Ge(1), Le(MAX_TAPS)] = 19

    def __post_init__(self):
        """Checks sizes against each other.

        Raises:
          ConfigError: naming the key and what is allowed.
        """
        super().__post_init__()  # `settings` runs a class's own rules only


@dataclasses.dataclass(frozen=True)
class Data2VecAudioConfig(SpeechEncoderConfig):
    """Sizes and options of one data2vec-audio encoder.

    Attributes:
      position_layers: convolutions of the positional embedding.
    """

    position_layers: int


class StackedPositionalConvolution(nn.Module):
    """Positional embedding by several grouped convolutions, each with layer norm (no affine part) and activation."""

    config: Data2VecAudioConfig
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, states: Float[Array, "B T D"], mask: Bool[Array, "B T"]) -> Float[Array, "B T D"]:
        """Computes the embedding; frames where `mask` is False count as zero in every layer."""
        config = self.config
        for index in range(config.position_layers):
            states = jnp.where(mask[..., None], states, 0.0)
            states = PositionalConvolutionLayer(config, self.dtype, name=f"conv_{index}")(states)
        return states


class PositionalConvolutionLayer(nn.Module):
    """One convolution of the positional embedding."""

    config: Data2VecAudioConfig
    dtype: Any

    @nn.compact
    def __call__(self, states: Float[Array, "B T D"]) -> Float[Array, "B T D"]:
        """Computes the layer's output in at least float32."""
        config = self.config
        shape = (config.position_taps, config.hidden_size // config.position_groups, config.hidden_size)
        kernel = self.param("kernel", nn.initializers.lecun_normal(in_axis=(0, 1)), shape)
        bias = self.param("bias", nn.initializers.zeros, shape[-1:])
        states = grouped_convolution(states.astype(self.dtype), kernel.astype(self.dtype), config.position_groups)
        norm = nn.LayerNorm(_EPSILON, wide(self.dtype), use_bias=False, use_scale=False, use_fast_variance=False)
        return ACTIVATIONS[config.convolution.activation](norm(states + bias.astype(states.dtype)))


_POSITION = "transformer/positional_convolution/conv_{position}"

_IGNORED = (
    Ignored(r"lm_head\..*", "CTC head; `load_recognizer` reads it"),
    Ignored(r"(projector|classifier)\..*|layer_weights", "classification heads"),
    Ignored(r"(tdnn|objective)\..*|feature_extractor\.(weight|bias)", "speaker verification heads"),
)

_AXES = (
    *SPEECH_AXES,
    (r"transformer/positional_convolution/conv_\d+/kernel", (None, None, "embed")),
    (r"transformer/positional_convolution/conv_\d+/bias", ("embed",)),
)


def _tensor_table(config: Mapping[str, Any], scan_layers: bool) -> TensorTable:
    layer = "transformer/layers[{layer}]" if scan_layers else "transformer/layer_{layer}"
    rules = (
        *SPEECH_RULES,
        *speech_layer_rules(layer),
        Rule("encoder.pos_conv_embed.layers.{position}.conv.weight", f"{_POSITION}/kernel", "conv1d"),
        Rule("encoder.pos_conv_embed.layers.{position}.conv.bias", f"{_POSITION}/bias"),
    )
    return TensorTable(((r"^data2vec_audio\.", ""),), rules, _IGNORED)


def _build_module(config: Mapping[str, Any], names: frozenset[str], options: ComputeOptions) -> SpeechEncoder:
    published: PublishedData2VecAudioConfig = parse_published(PublishedData2VecAudioConfig, config)
    sizes = Data2VecAudioConfig(
        **published.shared_sizes("layer"),
        projection_norm=True,
        norm_first=False,
        position=StackedPositionalConvolution,
        position_taps=published.conv_pos_kernel_size,
        position_batch_norm=False,
        position_layers=published.num_conv_pos_embeddings,
        num_buckets=0,
        max_distance=0,
        mask_embedding=MASK_EMBEDDING in names,
        drop_first_layer=True,
    )
    return SpeechEncoder(sizes, options.dtype, options.remat, options.scan_layers, options.remat_saves)


FAMILIES = {
    "data2vec-audio": Family(
        model_type="data2vec-audio",
        architecture="Data2VecAudioModel",
        settings=PublishedData2VecAudioConfig,
        inputs=WaveformInputs,
        build_module=_build_module,
        tensor_table=_tensor_table,
        axes=_AXES,
        optional_names=frozenset({MASK_EMBEDDING}),
    )
}
