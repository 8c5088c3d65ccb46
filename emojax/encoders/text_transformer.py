"""Post-norm transformer over tokens: the network of BERT, RoBERTa and their relatives, and its logical axes."""

import dataclasses
from typing import Any

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from emojax.encoders.families import EncoderOutput
from emojax.encoders.layers import Dropout
from emojax.encoders.mixed_precision import Linear, wide
from emojax.encoders.norms import layer_norm
from emojax.encoders.parameters import AxesTable
from emojax.encoders.transformer import LAYER_AXES, LayerStack
from emojax.encoders.transformer_config import TransformerConfig
from emojax.errors import ConfigError


@dataclasses.dataclass(frozen=True, kw_only=True)
class TextTransformerConfig(TransformerConfig):
    """Sizes and options of one text encoder; all have the norm after each sublayer, and no layer drop.

    Attributes:
      vocab_size: rows of the token table.
      max_positions: rows of the position table.
      first_position: row of the position table for the first token: 0 in BERT, padding index + 1 in RoBERTa.
      num_token_types: rows of the token type table; 0: no such embedding.
      pooler: whether there is a dense tanh layer over the first token.
    """

    norm_first: bool = False
    key_bias: bool = True
    activation_dropout: float = 0.0
    layer_drop: float = 0.0
    drop_first_layer: bool = False
    vocab_size: int
    max_positions: int
    first_position: int
    num_token_types: int
    pooler: bool

    @property
    def max_tokens(self) -> int:
        """Longest sequence, special tokens included."""
        return self.max_positions - self.first_position


class TextTransformer(LayerStack):
    """BERT (Devlin et al. 2019), RoBERTa (Liu et al. 2019) or a relative of theirs, without a task head."""

    config: TextTransformerConfig

    @nn.compact
    def __call__(
        self,
        tokens: Int[Array, "B L"],
        num_tokens: Int[Array, "B"],
        token_types: Int[Array, "B L"] | None = None,
        *,
        train: bool = False,
        hidden_states: bool = False,
    ) -> EncoderOutput:
        """Computes the hidden states of a batch of token sequences; values after `num_tokens` never matter.

        Args:
          tokens: token ids, special tokens included.
          num_tokens: valid tokens per row; 0 is allowed and gives an all-False mask row.
          token_types: sentence index per token; zeros if not given.
          train: dropout is on; needs the rng stream `dropout`.
          hidden_states: whether to return the hidden states of every layer.

        Raises:
          ConfigError: L is above the number of positions of the checkpoint, or it has no token types.
        """
        if tokens.shape[1] > self.config.max_tokens:
            raise ConfigError(
                f"tokens must be at most {self.config.max_tokens} per row, as many as there are positions, "
                f"got {tokens.shape[1]}"
            )
        if token_types is not None and not self.config.num_token_types:
            raise ConfigError("token_types must be None, this text encoder has no token types")
        mask = jnp.arange(tokens.shape[1]) < num_tokens[:, None]
        states = TextEmbeddings(self.config, self.dtype, train, name="embeddings")(tokens, token_types)
        last, kept = self.run_layers(states, mask, None, train, hidden_states)
        pooled = None
        if self.config.pooler:
            pooled = jnp.tanh(Linear(self.config.hidden_size, self.dtype, name="pooler")(last[:, 0]))
        return EncoderOutput(last, mask, kept, pooled)


class TextEmbeddings(nn.Module):
    """Sum of token, position and (if the encoder has them) token type embeddings, normalised."""

    config: TextTransformerConfig
    dtype: Any
    train: bool

    @nn.compact
    def __call__(self, tokens: Int[Array, "B L"], token_types: Int[Array, "B L"] | None) -> Float[Array, "B L D"]:
        """Computes the input of the first layer."""
        config = self.config

        def table(rows: int, name: str) -> nn.Embed:
            return nn.Embed(rows, config.hidden_size, dtype=wide(self.dtype), name=name)

        positions = config.first_position + jnp.arange(tokens.shape[1])
        states = table(config.vocab_size, "token")(tokens)
        if config.num_token_types:
            types = jnp.zeros_like(tokens) if token_types is None else token_types
            states = states + table(config.num_token_types, "token_type")(types)
        states = states + table(config.max_positions, "position")(positions)
        states = layer_norm(config.layer_norm_epsilon, self.dtype, "norm")(states)
        return Dropout(config.hidden_dropout, not self.train)(states)


TEXT_AXES: AxesTable = (
    (r"embeddings/token/embedding", ("vocab", "embed")),
    (r"embeddings/(position|token_type)/embedding", (None, "embed")),
    (r"embeddings/norm/(scale|bias)", ("embed",)),
    *LAYER_AXES,
    (r"pooler/kernel", ("embed", None)),
    (r"pooler/bias", (None,)),
)
"""Logical axes of every parameter."""
