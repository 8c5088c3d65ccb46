"""The BERT and RoBERTa encoder as one Linen module: post-norm transformer over token, position and type embeddings."""

import dataclasses
from typing import Any, cast

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from emojax.encoders.activations import ACTIVATIONS
from emojax.encoders.hidden_states import EncoderOutput
from emojax.encoders.layers import Linear, layer_norm, wide
from emojax.errors import ConfigError


@dataclasses.dataclass(frozen=True)
class TextTransformerConfig:
    """Sizes of one text encoder; field names follow `config.json` where the meaning is the same.

    Attributes:
      vocab_size: rows of the token table.
      hidden_size: D.
      num_layers: transformer layers.
      num_heads: attention heads; divides `hidden_size`.
      intermediate_size: width of the feed-forward part.
      activation: key of `activations.ACTIVATIONS`.
      max_positions: rows of the position table.
      first_position: row of the position table the first token takes: 0 in BERT, padding index + 1 in RoBERTa.
      num_token_types: rows of the token type table.
      layer_norm_epsilon: added to the variance in every layer norm.
      hidden_dropout: rate after embeddings and after each sublayer, in training.
      attention_dropout: rate on attention weights, in training.
      pooler: whether there is a dense tanh layer over the first token.
    """

    vocab_size: int
    hidden_size: int
    num_layers: int
    num_heads: int
    intermediate_size: int
    activation: str
    max_positions: int
    first_position: int
    num_token_types: int
    layer_norm_epsilon: float
    hidden_dropout: float
    attention_dropout: float
    pooler: bool

    @property
    def max_tokens(self) -> int:
        """The longest sequence, special tokens included."""
        return self.max_positions - self.first_position


class TextTransformer(nn.Module):
    """BERT (Devlin et al. 2019) or RoBERTa (Liu et al. 2019) without a task head."""

    config: TextTransformerConfig
    dtype: Any = jnp.float32
    remat: bool = False
    scan_layers: bool = False

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
        """States of a batch of token sequences; what stands after `num_tokens` never matters.

        Args:
          tokens: token ids, special tokens included.
          num_tokens: valid tokens per row; 0 is allowed and gives an all-False mask row.
          token_types: sentence index per token; zeros if not given.
          train: dropout is on; needs the rng stream `dropout`.
          hidden_states: whether to keep the states of every layer.

        Raises:
          ConfigError: L is above the number of positions the checkpoint has.
        """
        if tokens.shape[1] > self.config.max_tokens:
            raise ConfigError(
                f"tokens: {tokens.shape[1]} per row are not allowed; allowed: at most {self.config.max_tokens}, "
                f"the positions this text encoder has"
            )
        mask = jnp.arange(tokens.shape[1]) < num_tokens[:, None]
        states = TextEmbeddings(self.config, self.dtype, train, name="embeddings")(tokens, token_types)
        last, kept = self._run_layers(states, mask, train, hidden_states)
        pooled = None
        if self.config.pooler:
            pooled = jnp.tanh(Linear(self.config.hidden_size, self.dtype, name="pooler")(last[:, 0]))
        return EncoderOutput(last, mask, kept, pooled)

    def _run_layers(
        self, states: Float[Array, "B L D"], mask: Bool[Array, "B L"], train: bool, hidden_states: bool
    ) -> tuple[Float[Array, "B L D"], tuple[Float[Array, "B L D"], ...] | None]:
        layer = nn.remat(TextLayer, prevent_cse=not self.scan_layers) if self.remat else TextLayer
        if self.scan_layers:
            stack = nn.scan(
                layer,
                variable_axes={"params": 0},
                split_rngs={"params": True, "dropout": True},
                in_axes=nn.broadcast,
                length=self.config.num_layers,
            )
            last, outputs = cast(Any, stack)(self.config, self.dtype, train, hidden_states, name="layers")(states, mask)
            return last, (states, *outputs) if hidden_states else None
        kept = [states]
        for index in range(self.config.num_layers):
            states, _ = layer(self.config, self.dtype, train, name=f"layer_{index}")(states, mask)
            kept.append(states)
        return states, tuple(kept) if hidden_states else None


class TextEmbeddings(nn.Module):
    """Sum of token, position and token type embeddings, normalised."""

    config: TextTransformerConfig
    dtype: Any
    train: bool

    @nn.compact
    def __call__(self, tokens: Int[Array, "B L"], token_types: Int[Array, "B L"] | None) -> Float[Array, "B L D"]:
        """Input of the first layer."""
        config = self.config

        def table(rows: int, name: str) -> nn.Embed:
            return nn.Embed(rows, config.hidden_size, dtype=wide(self.dtype), name=name)

        positions = config.first_position + jnp.arange(tokens.shape[1])
        if token_types is None:
            token_types = jnp.zeros_like(tokens)
        states = (
            table(config.vocab_size, "token")(tokens)
            + table(config.num_token_types, "token_type")(token_types)
            + table(config.max_positions, "position")(positions)
        )
        states = layer_norm(config.layer_norm_epsilon, self.dtype, "norm")(states)
        return nn.Dropout(config.hidden_dropout, deterministic=not self.train)(states)


class TextLayer(nn.Module):
    """Self-attention and feed-forward part, each followed by residual sum and layer norm."""

    config: TextTransformerConfig
    dtype: Any
    train: bool
    emit: bool = False

    @nn.compact
    def __call__(
        self, states: Float[Array, "B L D"], mask: Bool[Array, "B L"]
    ) -> tuple[Float[Array, "B L D"], Float[Array, "B L D"] | None]:
        """The new states, and once more if `emit` (what `nn.scan` collects)."""
        config = self.config
        dropout = nn.Dropout(config.hidden_dropout, deterministic=not self.train)
        attended = SelfAttention(config, self.dtype, self.train, name="attention")(states, mask)
        states = layer_norm(config.layer_norm_epsilon, self.dtype, "attention_norm")(states + dropout(attended))
        inner = Linear(config.intermediate_size, self.dtype, name="mlp_in")(states)
        outer = Linear(config.hidden_size, self.dtype, name="mlp_out")(ACTIVATIONS[config.activation](inner))
        states = layer_norm(config.layer_norm_epsilon, self.dtype, "mlp_norm")(states + dropout(outer))
        return states, states if self.emit else None


class SelfAttention(nn.Module):
    """Multi-head scaled dot-product attention over the valid tokens; softmax in float32."""

    config: TextTransformerConfig
    dtype: Any
    train: bool

    @nn.compact
    def __call__(self, states: Float[Array, "B L D"], mask: Bool[Array, "B L"]) -> Float[Array, "B L D"]:
        """Attended values after the output projection."""
        config = self.config
        batch, length, _ = states.shape

        def project(name: str) -> Float[Array, "B H L F"]:
            projected = Linear(config.hidden_size, self.dtype, name=name)(states).astype(self.dtype)
            return projected.reshape(batch, length, config.num_heads, -1).swapaxes(1, 2)

        query, key, value = project("query"), project("key"), project("value")
        logits = jnp.einsum("bhlf,bhmf->bhlm", query, key, preferred_element_type=wide(self.dtype))
        logits = logits * query.shape[-1] ** -0.5
        # A finite floor instead of -inf: rows without any valid token stay free of NaN.
        logits = jnp.where(mask[:, None, None, :], logits, jnp.finfo(logits.dtype).min)
        weights = jax.nn.softmax(logits, axis=-1).astype(self.dtype)
        weights = nn.Dropout(config.attention_dropout, deterministic=not self.train)(weights)
        attended = jnp.einsum("bhlm,bhmf->bhlf", weights, value, preferred_element_type=wide(self.dtype))
        return Linear(config.hidden_size, self.dtype, name="output")(attended.swapaxes(1, 2).reshape(states.shape))
