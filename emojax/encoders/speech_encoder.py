"""Speech encoders: the network from the waveform to hidden states, its published tensor names and logical axes."""

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jax.ad_checkpoint import checkpoint_name
from jaxtyping import Array, Bool, Float, Int

from emojax.encoders.attention import RelativePosition, SelfAttention, frame_multiple
from emojax.encoders.families import EncoderOutput
from emojax.encoders.layers import ACTIVATIONS, Dropout, remat_layer
from emojax.encoders.mixed_precision import Linear, wide
from emojax.encoders.norms import layer_norm
from emojax.encoders.parameters import AxesTable
from emojax.encoders.speech_config import SpeechEncoderConfig, TransformerConfig
from emojax.encoders.speech_features import FeatureEncoder, mask_states, num_frames
from emojax.encoders.tensor_table import Rule, dense_rules, layer_rules, norm_rules


class LayerStack(nn.Module):
    """Transformer layers, one after another or scanned; called from a compact method of a subclass."""

    config: TransformerConfig
    dtype: Any = jnp.float32
    remat: bool = False
    scan_layers: bool = False
    remat_saves: str = "nothing"

    def run_layers(
        self,
        states: Float[Array, "B T D"],
        mask: Bool[Array, "B T"],
        bias: Float[Array, "H T T"] | None,
        train: bool,
        hidden_states: bool,
    ) -> tuple[Float[Array, "B T D"], tuple[Float[Array, "B T D"], ...] | None]:
        """Computes the output of the last layer, and if `hidden_states` the input of the first and all outputs."""
        config = self.config
        layer = remat_layer(SpeechLayer, self.scan_layers, self.remat_saves) if self.remat else SpeechLayer
        drop_rates = np.full(config.num_layers, config.layer_drop, np.float32)
        if not config.drop_first_layer:
            drop_rates[0] = 0.0
        if self.scan_layers:
            stack = nn.scan(
                layer,
                variable_axes={"params": 0},
                split_rngs={"params": True, "dropout": True},
                in_axes=(0, nn.broadcast, nn.broadcast),
                length=config.num_layers,
            )
            run = stack(config, self.dtype, train, hidden_states, name="layers")
            last, outputs = run(states, jnp.asarray(drop_rates), mask, bias)
            return last, None if outputs is None else (states, *outputs)
        kept = [states]
        for index in range(config.num_layers):
            run = layer(config, self.dtype, train, name=f"layer_{index}")
            states, _ = run(states, jnp.asarray(drop_rates[index]), mask, bias)
            kept.append(states)
        return states, tuple(kept) if hidden_states else None


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


class SpeechLayer(nn.Module):
    """Self-attention and feed-forward part with residual sums; layer norm before or after each."""

    config: TransformerConfig
    dtype: Any
    train: bool
    emit: bool = False

    @nn.compact
    def __call__(
        self,
        states: Float[Array, "B T D"],
        drop_rate: Float[Array, ""],
        mask: Bool[Array, "B T"],
        bias: Float[Array, "H T T"] | None,
    ) -> tuple[Float[Array, "B T D"], Float[Array, "B T D"] | None]:
        """Computes the layer's output, returned twice if `emit`, as `nn.scan` collects it.

        In training the whole layer is skipped with probability `drop_rate` (Fan et al. 2020).
        """
        config, inputs = self.config, states
        dropout = Dropout(config.hidden_dropout, not self.train)
        attention = SelfAttention(config, self.dtype, self.train, name="attention")
        attention_norm = layer_norm(config.layer_norm_epsilon, self.dtype, "attention_norm")
        mlp_norm = layer_norm(config.layer_norm_epsilon, self.dtype, "mlp_norm")
        if config.norm_first:
            states = states + dropout(attention(attention_norm(states), mask, bias))
            states = states + dropout(self._feed_forward(mlp_norm(states)))
        else:
            states = attention_norm(states + dropout(attention(states, mask, bias)))
            states = mlp_norm(states + dropout(self._feed_forward(states)))
        if self.train and config.layer_drop > 0:
            skipped = jax.random.uniform(self.make_rng("dropout")) < drop_rate
            states = jnp.where(skipped, inputs, states)
        return states, states if self.emit else None

    def _feed_forward(self, states: Float[Array, "B T D"]) -> Float[Array, "B T D"]:
        config = self.config
        inner = Linear(config.intermediate_size, self.dtype, name="mlp_in")(states).astype(self.dtype)
        inner = checkpoint_name(inner, "inner")
        inner = ACTIVATIONS[config.activation](inner)
        inner = Dropout(config.activation_dropout, not self.train)(inner)
        return Linear(config.hidden_size, self.dtype, name="mlp_out")(inner)


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
    (r"transformer/(.*/)?(attention_|mlp_)?norm/(scale|bias)", ("embed",)),
    (r".*/attention/(query|key|value)/kernel", ("embed", "heads")),
    (r".*/attention/(query|key|value)/bias", ("heads",)),
    (r".*/attention/output/kernel", ("heads", "embed")),
    (r".*/attention/gate/dense/kernel", (None, None)),
    (r".*/attention/gate/dense/bias", (None,)),
    (r".*/attention/gate/constant", (None, None, None, None)),
    (r".*/mlp_in/kernel", ("embed", "mlp")),
    (r".*/mlp_in/bias", ("mlp",)),
    (r".*/mlp_out/kernel", ("mlp", "embed")),
    (r".*/(attention/output|mlp_out)/bias", ("embed",)),
)
"""Logical axes of every parameter; `conv` is the width of the feature encoder."""
