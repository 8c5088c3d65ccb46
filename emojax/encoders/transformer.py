"""Transformer layers of all encoders: one layer, a stack of them, and logical axes of their parameters."""

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jax.ad_checkpoint import checkpoint_name
from jaxtyping import Array, Bool, Float

from emojax.encoders.attention import SelfAttention
from emojax.encoders.layers import ACTIVATIONS, Dropout, remat_layer
from emojax.encoders.mixed_precision import Linear
from emojax.encoders.norms import layer_norm
from emojax.encoders.parameters import AxesTable
from emojax.encoders.transformer_config import TransformerConfig


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
        layer = remat_layer(TransformerLayer, self.scan_layers, self.remat_saves) if self.remat else TransformerLayer
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


class TransformerLayer(nn.Module):
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
        attention_dropout = Dropout(config.hidden_dropout, not (self.train and config.attention_output_dropout))
        attention = SelfAttention(config, self.dtype, self.train, name="attention")
        attention_norm = layer_norm(config.layer_norm_epsilon, self.dtype, "attention_norm")
        mlp_norm = layer_norm(config.layer_norm_epsilon, self.dtype, "mlp_norm")
        if config.norm_first:
            states = states + attention_dropout(attention(attention_norm(states), mask, bias))
            states = states + dropout(self._feed_forward(mlp_norm(states)))
        else:
            states = attention_norm(states + attention_dropout(attention(states, mask, bias)))
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


LAYER_AXES: AxesTable = (
    (r".*/(attention|mlp)_norm/(scale|bias)", ("embed",)),
    (r".*/attention/(query|key|value)/kernel", ("embed", "heads")),
    (r".*/attention/(query|key|value)/bias", ("heads",)),
    (r".*/attention/output/kernel", ("heads", "embed")),
    (r".*/mlp_in/kernel", ("embed", "mlp")),
    (r".*/mlp_in/bias", ("mlp",)),
    (r".*/mlp_out/kernel", ("mlp", "embed")),
    (r".*/(attention/output|mlp_out)/bias", ("embed",)),
)
"""Logical axes of the parameters of the layers, without those of a position bias."""
