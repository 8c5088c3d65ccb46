"""The family `whisper` (Radford et al. 2023): its encoder, keys of `config.json`, published tensor names.

Encoder only: log-mel features, two convolutions, sinusoidal positions, pre-norm transformer layers.
"""

import dataclasses
from collections.abc import Mapping
from typing import Annotated, Any, Literal

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int

from emojax.encoders.encoder import Encoder
from emojax.encoders.families import (
    ComputeOptions,
    EncoderOutput,
    Family,
    LayerCount,
    Rate,
    Size,
    Width,
    check_heads,
    parse_published,
)
from emojax.encoders.layers import ACTIVATIONS, ActivationName, layer_norm, wide
from emojax.encoders.parameters import AxesTable
from emojax.encoders.speech_config import TransformerConfig
from emojax.encoders.speech_encoder import SPEECH_AXES, LayerStack
from emojax.encoders.tensor_table import Ignored, Rule, TensorTable, dense_rules, norm_rules
from emojax.encoders.whisper_inputs import SAMPLES_PER_FRAME, WINDOW, WhisperInputs, whisper_log_mel
from emojax.errors import AudioError, ConfigError
from emojax.schema import Ge, Le, settings

_EPSILON = 1e-5
"""PyTorch's default, which the published models keep in every layer norm."""


@settings
class PublishedWhisperConfig:
    """Keys of `config.json` that the encoder reads; defaults are transformers'.

    `scale_embedding` concerns the token embeddings of the decoder only.
    """

    model_type: Literal["whisper"]
    d_model: Width = 384
    encoder_layers: LayerCount = 4
    encoder_attention_heads: Size = 6
    encoder_ffn_dim: Size = 1536
    num_mel_bins: Literal[80, 128] = 80
    max_source_positions: Annotated[int, Ge(50), Le(1500)] = 1500
    activation_function: ActivationName = "gelu"
    dropout: Rate = 0.0
    activation_dropout: Rate = 0.0
    attention_dropout: Rate = 0.0
    encoder_layerdrop: Rate = 0.0
    apply_spec_augment: Literal[False] = False
    quantization_config: Literal[None] = None

    def __post_init__(self):
        """Checks sizes against each other.

        Raises:
          ConfigError: naming the key and what is allowed.
        """
        check_heads(self.encoder_attention_heads, self.d_model, "encoder_attention_heads", "d_model")
        if self.d_model % 2 or self.d_model < 4:
            raise ConfigError(f"d_model must be an even number >= 4 (sinusoidal positions), got {self.d_model}")


@dataclasses.dataclass(frozen=True)
class WhisperConfig(TransformerConfig):
    """Sizes and options of one Whisper encoder.

    Attributes:
      num_bands: K, mel bands.
      max_frames: positions, one per 20 ms.
    """

    num_bands: int
    max_frames: int

    @property
    def max_samples(self) -> int:
        """Longest input in samples: 30 s in all published models."""
        return self.max_frames * SAMPLES_PER_FRAME


class WhisperEncoder(nn.Module):
    """Whisper's encoder (Radford et al. 2023, section 2.2), from the waveform to hidden states every 20 ms.

    With `padded=False` each clip is computed at its own length: positions are cut to it, and padding is neither
    attended to nor part of the maximum of the log-mel energies, so that results do not depend on the rest of the batch.
    The cost is in proportion to the audio. Hidden states differ from those of the published use, in which the layers
    also attend to the silence up to 30 s: in pre-training every short clip was followed by it.

    With `padded=True` each clip is padded by silence to 30 s, as published. Every one of the 1500 frames is valid and
    computed, silence included. Decoders of published checkpoints expect these.

    Attributes:
      config: sizes and options.
      dtype: type of the operands of the matrix products of the layers.
      remat: keep only the input of each layer for the backward pass.
      scan_layers: one compiled layer over stacked parameters.
      padded: pad clips to the longest length.
    """

    config: WhisperConfig
    dtype: Any = jnp.float32
    remat: bool = False
    scan_layers: bool = False
    padded: bool = False

    @nn.compact
    def __call__(
        self,
        waveform: Float[Array, "B S"],
        num_samples: Int[Array, "B"],
        *,
        train: bool = False,
        hidden_states: bool = False,
    ) -> EncoderOutput:
        """Computes hidden states; a clip of n samples has (n // 160 + 1) // 2 frames of its own.

        Args:
          waveform: 16 kHz mono, full scale 1.0; values after `num_samples` never matter.
          num_samples: valid samples per row; fewer than 400 give an all-False mask row.
          train: dropout and layer drop are on; needs the rng stream `dropout`.
          hidden_states: whether to return the hidden states of every layer. As in transformers, the last one is after
            the final layer norm.

        Raises:
          AudioError: S is below 400 or above the longest length.
        """
        config, samples = self.config, waveform.shape[1]
        if not WINDOW <= samples <= config.max_samples:
            raise AudioError(f"waveform: must have {WINDOW} to {config.max_samples} samples, got {samples}")
        waveform = jnp.where(jnp.arange(samples) < num_samples[:, None], waveform, 0.0).astype(wide(self.dtype))
        num_samples = jnp.where(num_samples < WINDOW, 0, num_samples)
        if self.padded:
            waveform = jnp.pad(waveform, ((0, 0), (0, config.max_samples - samples)))
            num_samples = jnp.where(num_samples > 0, config.max_samples, 0)
        features, mask = whisper_log_mel(waveform, num_samples, config.num_bands)
        states, mask = WhisperFeatureEncoder(config, name="feature_encoder")(features, mask)
        transformer = WhisperTransformer(config, self.dtype, self.remat, self.scan_layers, name="transformer")
        last, kept = transformer(states, mask, train=train, hidden_states=hidden_states)
        return EncoderOutput(last, mask, kept)


def padded_encoder(encoder: Encoder) -> Encoder:
    """Makes an encoder that pads clips to 30 s, as published, from one that computes them at their own length.

    Args:
      encoder: Whisper encoder.
    """
    return dataclasses.replace(encoder, module=encoder.module.clone(padded=True))


class WhisperFeatureEncoder(nn.Module):
    """Two convolutions over log-mel features, and positions; in the type of the features."""

    config: WhisperConfig

    @nn.compact
    def __call__(
        self, features: Float[Array, "B T K"], mask: Bool[Array, "B T"]
    ) -> tuple[Float[Array, "B T2 D"], Bool[Array, "B T2"]]:
        """Computes the input of the transformer and its mask; features after the clip count as zero."""
        config = self.config
        states = jnp.where(mask[..., None], features, 0.0)
        states = jnp.where(mask[..., None], PaddedConvolution(config, 1, name="conv_0")(states), 0.0)
        states, mask = PaddedConvolution(config, 2, name="conv_1")(states), mask[:, ::2]
        shape = (config.max_frames, config.hidden_size)
        # A constant of the architecture, a parameter because checkpoints store it.
        positions = jax.lax.stop_gradient(self.param("sinusoids", _init_sinusoids, shape))
        return states + positions[: states.shape[1]].astype(states.dtype), mask


class PaddedConvolution(nn.Module):
    """Convolution of three taps with bias and activation; one frame of zeros before and after."""

    config: WhisperConfig
    stride: int

    @nn.compact
    def __call__(self, states: Float[Array, "B T C"]) -> Float[Array, "B T2 D"]:
        """Computes every `stride`-th frame."""
        config = self.config
        shape = (3, states.shape[-1], config.hidden_size)
        kernel = self.param("kernel", nn.initializers.lecun_normal(in_axis=(0, 1)), shape)
        bias = self.param("bias", nn.initializers.zeros, shape[-1:])
        outputs = jax.lax.conv_general_dilated(
            states,
            kernel.astype(states.dtype),
            window_strides=(self.stride,),
            padding=[(1, 1)],
            dimension_numbers=("NWC", "WIO", "NWC"),
        )
        return ACTIVATIONS["gelu"](outputs + bias.astype(states.dtype))


class WhisperTransformer(LayerStack):
    """Pre-norm transformer layers and the final norm."""

    config: WhisperConfig

    @nn.compact
    def __call__(
        self, states: Float[Array, "B T D"], mask: Bool[Array, "B T"], *, train: bool, hidden_states: bool
    ) -> tuple[Float[Array, "B T D"], tuple[Float[Array, "B T D"], ...] | None]:
        """Computes the last hidden states, and if requested the input of the first layer and the output of each.

        Args:
          states: with positions.
          mask: True on valid frames.
          train: dropout and layer drop are on; needs the rng stream `dropout`.
          hidden_states: whether to return the hidden states of all layers.
        """
        config = self.config
        states = nn.Dropout(config.hidden_dropout, deterministic=not train)(states)
        states, kept = self.run_layers(states, mask, None, train, hidden_states)
        last = layer_norm(config.layer_norm_epsilon, self.dtype, "norm")(states)
        return last, None if kept is None else (*kept[:-1], last)


def sinusoids(length: int, width: int) -> np.ndarray:
    """Computes float32 (length, width) positions: sines, then cosines, of wavelengths 2 pi to 20,000 pi frames."""
    rates = np.exp(-np.log(10_000) / (width // 2 - 1) * np.arange(width // 2))
    angles = np.arange(length)[:, None] * rates
    return np.concatenate([np.sin(angles), np.cos(angles)], axis=1).astype(np.float32)


def _init_sinusoids(key: jax.Array, shape: tuple[int, int], dtype: Any = jnp.float32) -> jax.Array:
    return jnp.asarray(sinusoids(*shape), dtype)


_IGNORED = (
    Ignored(r"decoder\..*|proj_out\.weight", "decoder and its output layer, which hidden states do not depend on"),
    Ignored(r"(projector|classifier)\..*|layer_weights", "classification heads"),
)

_DENSE = (
    ("self_attn.q_proj", "attention/query"),
    ("self_attn.v_proj", "attention/value"),
    ("self_attn.out_proj", "attention/output"),
    ("fc1", "mlp_in"),
    ("fc2", "mlp_out"),
)

_AXES: AxesTable = (
    *SPEECH_AXES,
    (r"feature_encoder/conv_\d/kernel", (None, None, "embed")),
    (r"feature_encoder/conv_\d/bias", ("embed",)),
    (r"feature_encoder/sinusoids", (None, "embed")),
)


def _tensor_table(config: Mapping[str, Any], scan_layers: bool) -> TensorTable:
    layer = "transformer/layers[{layer}]" if scan_layers else "transformer/layer_{layer}"
    published = "encoder.layers.{layer}"
    dense = [dense_rules(f"{published}.{name}", f"{layer}/{path}") for name, path in _DENSE]
    rules = (
        Rule("encoder.conv1.weight", "feature_encoder/conv_0/kernel", "conv1d"),
        Rule("encoder.conv1.bias", "feature_encoder/conv_0/bias"),
        Rule("encoder.conv2.weight", "feature_encoder/conv_1/kernel", "conv1d"),
        Rule("encoder.conv2.bias", "feature_encoder/conv_1/bias"),
        Rule("encoder.embed_positions.weight", "feature_encoder/sinusoids"),
        *(rule for pair in dense for rule in pair),
        Rule(f"{published}.self_attn.k_proj.weight", f"{layer}/attention/key/kernel", "linear"),
        *norm_rules(f"{published}.self_attn_layer_norm", f"{layer}/attention_norm"),
        *norm_rules(f"{published}.final_layer_norm", f"{layer}/mlp_norm"),
        *norm_rules("encoder.layer_norm", "transformer/norm"),
    )
    return TensorTable(((r"^model\.", ""),), rules, _IGNORED)


def _build_module(config: Mapping[str, Any], names: frozenset[str], options: ComputeOptions) -> WhisperEncoder:
    published: PublishedWhisperConfig = parse_published(PublishedWhisperConfig, config)
    sizes = WhisperConfig(
        hidden_size=published.d_model,
        num_layers=published.encoder_layers,
        num_heads=published.encoder_attention_heads,
        intermediate_size=published.encoder_ffn_dim,
        activation=published.activation_function,
        norm_first=True,
        layer_norm_epsilon=_EPSILON,
        key_bias=False,
        hidden_dropout=published.dropout,
        activation_dropout=published.activation_dropout,
        attention_dropout=published.attention_dropout,
        layer_drop=published.encoder_layerdrop,
        drop_first_layer=True,
        num_bands=published.num_mel_bins,
        max_frames=published.max_source_positions,
    )
    return WhisperEncoder(sizes, options.dtype, options.remat, options.scan_layers)


FAMILIES = {
    "whisper": Family(
        model_type="whisper",
        architecture="WhisperModel",
        settings=PublishedWhisperConfig,
        inputs=WhisperInputs,
        build_module=_build_module,
        tensor_table=_tensor_table,
        axes=_AXES,
    )
}
