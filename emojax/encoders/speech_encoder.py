"""Speech encoders: the network from the waveform to hidden states, its published tensor names and logical axes."""

from typing import Any

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from emojax.encoders.attention import RelativePosition, frame_multiple
from emojax.encoders.families import EncoderOutput
from emojax.encoders.layers import Dropout
from emojax.encoders.mixed_precision import Linear, wide
from emojax.encoders.norms import layer_norm
from emojax.encoders.parameters import AxesTable
from emojax.encoders.speech_config import SpeechEncoderConfig
from emojax.encoders.speech_features import FeatureEncoder, mask_states, num_frames
from emojax.encoders.tensor_table import Rule, dense_rules, layer_rules, norm_rules
from emojax.encoders.transformer import LAYER_AXES, LayerStack


class SpeechTransformer(LayerStack):
    """Positional convolution and transformer layers."""

    config: SpeechEncoderConfig

    @nn.compact
    def __call__(
        self, states: Float[Array, "B T D"], mask: Bool[Array, "B T"], *, train: bool, hidden_states: bool
    ) -> tuple[Float[Array, "B T D"], tuple[Float[Array, "B T D"], ...] | None]:
        """Computes the last hidden states, and if requested the input of the first layer and the output of each.

        Args:
          states: projected features.
          mask: True on valid frames.
          train: dropout and layer drop are on; needs the rng stream `dropout`.
          hidden_states: whether to return the hidden states of all layers.
        """
        config = self.config
        states = jnp.where(mask[..., None], states, 0.0)
        position: Any = config.position(config, self.dtype, name="positional_convolution")
        states = states + position(states, mask)
        norm = layer_norm(config.layer_norm_epsilon, self.dtype, "norm")
        if not config.norm_first:
            states = norm(states)
        states = Dropout(config.hidden_dropout, not train)(states)
        bias, frames = None, states.shape[1]
        if isinstance(frames, int) and (extra := -frames % frame_multiple(config, self.dtype, train)):
            states, mask = jnp.pad(states, ((0, 0), (0, extra), (0, 0))), jnp.pad(mask, ((0, 0), (0, extra)))
        if config.num_buckets:
            bias = RelativePosition(config, name="relative_position")(states.shape[1])
        last, kept = self.run_layers(states, mask, bias, train, hidden_states)
        last = norm(last) if config.norm_first else last
        return last[:, :frames], None if kept is None else tuple(each[:, :frames] for each in kept)


class SpeechEncoder(nn.Module):
    """HuBERT (Hsu et al. 2021), wav2vec 2.0 (Baevski et al. 2020), WavLM (Chen et al. 2022) or a relative of theirs.

    Without a task head. Hidden states of a recording do not depend on what it is batched with.
    """

    config: SpeechEncoderConfig
    dtype: Any = jnp.float32
    remat: bool = False
    scan_layers: bool = False
    remat_saves: str = "nothing"

    @nn.compact
    def __call__(
        self,
        waveform: Float[Array, "B S"],
        num_samples: Int[Array, "B"],
        *,
        masked: Bool[Array, "B T"] | None = None,
        train: bool = False,
        hidden_states: bool = False,
    ) -> EncoderOutput:
        """Computes hidden states every 20 ms, from 25 ms each before the transformer.

        Args:
          waveform: 16 kHz mono, normalised as `WaveformInputs` does; values after `num_samples` never matter.
          num_samples: valid samples per row; fewer than the receptive field (400) give an all-False mask row.
          masked: frames replaced by the mask embedding; None: chosen by the checkpoint's config, in training.
          train: dropout, layer drop and masking are on; needs the rng stream `dropout`.
          hidden_states: whether to return the hidden states of every layer.

        Raises:
          AudioError: S is below the receptive field.
        """
        config = self.config
        # Zeros, because padding that is not finite would reach the gradients through the masked statistics.
        waveform = jnp.where(jnp.arange(waveform.shape[1]) < num_samples[:, None], waveform, 0.0)
        # In bfloat16 the convolutions alone would bring an error of 4e-2 into states of unit scale, all else 2e-2.
        waveform = waveform.astype(wide(self.dtype))
        features = FeatureEncoder(config.convolution, self.remat, name="feature_encoder")(waveform, num_samples)
        lengths = num_frames(num_samples, config.convolution)
        mask = jnp.arange(features.shape[1]) < lengths[:, None]
        states = FeatureProjection(config, self.dtype, train, name="feature_projection")(features)
        states = self._mask(states, lengths, masked, train)
        transformer = SpeechTransformer(
            config, self.dtype, self.remat, self.scan_layers, self.remat_saves, name="transformer"
        )
        last, kept = transformer(states, mask, train=train, hidden_states=hidden_states)
        return EncoderOutput(last, mask, kept)

    def _mask(
        self, states: Float[Array, "B T D"], lengths: Int[Array, "B"], masked: Bool[Array, "B T"] | None, train: bool
    ) -> Float[Array, "B T D"]:
        config = self.config
        embedding = jnp.zeros(config.hidden_size)
        if config.mask_embedding:
            embedding = self.param("mask_embedding", nn.initializers.uniform(1.0), (config.hidden_size,))
        if masked is not None:
            return jnp.where(masked[..., None], embedding.astype(states.dtype), states)
        if not train or max(config.masking.time_probability, config.masking.feature_probability) == 0:
            return states
        return mask_states(self.make_rng("dropout"), states, lengths, embedding, config.masking)


class FeatureProjection(nn.Module):
    """Normalised features, projected to the width of the transformer."""

    config: SpeechEncoderConfig
    dtype: Any
    train: bool

    @nn.compact
    def __call__(self, features: Float[Array, "B T C"]) -> Float[Array, "B T D"]:
        """Computes the input of the transformer, before masking."""
        config = self.config
        if config.projection_norm:
            features = layer_norm(config.layer_norm_epsilon, self.dtype, "norm")(features)
        states = Linear(config.hidden_size, self.dtype, name="dense")(features)
        return Dropout(config.projection_dropout, not self.train)(states)


MASK_EMBEDDING = "masked_spec_embed"
"""Published name of the mask embedding, which some checkpoints lack."""

SPEECH_RULES = (
    Rule("feature_extractor.conv_layers.{conv}.conv.weight", "feature_encoder/conv_{conv}/conv/kernel", "conv1d"),
    Rule("feature_extractor.conv_layers.{conv}.conv.bias", "feature_encoder/conv_{conv}/conv/bias"),
    *norm_rules("feature_extractor.conv_layers.{conv}.layer_norm", "feature_encoder/conv_{conv}/norm"),
    *norm_rules("feature_projection.layer_norm", "feature_projection/norm"),
    *dense_rules("feature_projection.projection", "feature_projection/dense"),
    Rule(MASK_EMBEDDING, "mask_embedding"),
    *norm_rules("encoder.layer_norm", "transformer/norm"),
)
"""Rules of a tensor table outside the transformer layers and the positional embedding."""

_LAYER_DENSE = (
    ("attention.q_proj", "attention/query"),
    ("attention.k_proj", "attention/key"),
    ("attention.v_proj", "attention/value"),
    ("attention.out_proj", "attention/output"),
    ("feed_forward.intermediate_dense", "mlp_in"),
    ("feed_forward.output_dense", "mlp_out"),
)

_LAYER_NORMS = (
    ("layer_norm", "attention_norm"),
    ("final_layer_norm", "mlp_norm"),
)


def speech_layer_rules(layer: str) -> tuple[Rule, ...]:
    """Makes the rules of the transformer layers.

    Args:
      layer: parameter path of layer `{layer}`.
    """
    return layer_rules("encoder.layers.{layer}", layer, _LAYER_DENSE, _LAYER_NORMS)


SPEECH_AXES: AxesTable = (
    (r"feature_encoder/conv_\d+/conv/kernel", (None, None, "conv")),
    (r"feature_encoder/conv_\d+/conv/bias", ("conv",)),
    (r"feature_encoder/conv_\d+/norm/(scale|bias)", ("conv",)),
    (r"feature_projection/norm/(scale|bias)", (None,)),
    (r"feature_projection/dense/kernel", (None, "embed")),
    (r"feature_projection/dense/bias", ("embed",)),
    (r"mask_embedding", ("embed",)),
    (r"transformer/positional_convolution/kernel", (None, None, "embed")),
    (r"transformer/positional_convolution/(bias|batch_norm/(scale|bias|mean|variance))", ("embed",)),
    (r"transformer/relative_position/embedding", (None, None)),
    (r"transformer/norm/(scale|bias)", ("embed",)),
    *LAYER_AXES,
    (r".*/attention/gate/dense/kernel", (None, None)),
    (r".*/attention/gate/dense/bias", (None,)),
    (r".*/attention/gate/constant", (None, None, None, None)),
)
"""Logical axes of every parameter; `conv` is the width of the feature encoder."""
