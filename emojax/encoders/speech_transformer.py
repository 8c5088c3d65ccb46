"""The transformer of the speech encoders, in both orders of layer norms."""

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float

from emojax.encoders.activations import ACTIVATIONS
from emojax.encoders.mixed_precision import Linear, layer_norm
from emojax.encoders.positional_convolution import PositionalConvolution
from emojax.encoders.speech_attention import SelfAttention
from emojax.encoders.speech_config import SpeechEncoderConfig
from emojax.encoders.wavlm_attention import RelativePosition


class SpeechTransformer(nn.Module):
    """Positional convolution and transformer layers."""

    config: SpeechEncoderConfig
    dtype: Any = jnp.float32
    remat: bool = False
    scan_layers: bool = False

    @nn.compact
    def __call__(
        self, states: Float[Array, "B T D"], mask: Bool[Array, "B T"], *, train: bool, hidden_states: bool
    ) -> tuple[Float[Array, "B T D"], tuple[Float[Array, "B T D"], ...] | None]:
        """The last states, and if asked for the input of the first layer and the output of each.

        Args:
          states: projected features.
          mask: True on valid frames.
          train: dropout and layer drop are on; needs the rng stream `dropout`.
          hidden_states: whether to keep the states of all layers.
        """
        config = self.config
        states = jnp.where(mask[..., None], states, 0.0)
        states = states + PositionalConvolution(config, self.dtype, name="positional_convolution")(states, mask)
        norm = layer_norm(config.layer_norm_epsilon, self.dtype, "norm")
        if not config.norm_first:
            states = norm(states)
        states = nn.Dropout(config.hidden_dropout, deterministic=not train)(states)
        bias = None
        if config.num_buckets:
            bias = RelativePosition(config, name="relative_position")(states.shape[1])
        states, kept = self._run_layers(states, mask, bias, train, hidden_states)
        return norm(states) if config.norm_first else states, kept

    def _run_layers(
        self,
        states: Float[Array, "B T D"],
        mask: Bool[Array, "B T"],
        bias: Float[Array, "H T T"] | None,
        train: bool,
        hidden_states: bool,
    ) -> tuple[Float[Array, "B T D"], tuple[Float[Array, "B T D"], ...] | None]:
        config = self.config
        layer = nn.remat(SpeechLayer, prevent_cse=not self.scan_layers) if self.remat else SpeechLayer
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


class SpeechLayer(nn.Module):
    """Self-attention and feed-forward part with residual sums; layer norm before or after each."""

    config: SpeechEncoderConfig
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
        """The new states, and once more if `emit` (what `nn.scan` collects).

        In training the whole layer is left out with probability `drop_rate` (Fan et al. 2020).
        """
        config, inputs = self.config, states
        dropout = nn.Dropout(config.hidden_dropout, deterministic=not self.train)
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
            left_out = jax.random.uniform(self.make_rng("dropout")) < drop_rate
            states = jnp.where(left_out, inputs, states)
        return states, states if self.emit else None

    def _feed_forward(self, states: Float[Array, "B T D"]) -> Float[Array, "B T D"]:
        config = self.config
        inner = Linear(config.intermediate_size, self.dtype, name="mlp_in")(states)
        inner = ACTIVATIONS[config.activation](inner)
        inner = nn.Dropout(config.activation_dropout, deterministic=not self.train)(inner)
        return Linear(config.hidden_size, self.dtype, name="mlp_out")(inner)
