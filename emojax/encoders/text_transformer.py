"""Post-norm transformer over tokens: the network of BERT, RoBERTa and their relatives, and its logical axes."""

import dataclasses
from typing import Any, cast

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from emojax.encoders.families import EncoderOutput
from emojax.encoders.layers import ACTIVATIONS
from emojax.encoders.mixed_precision import Linear, product, wide
from emojax.encoders.norms import layer_norm
from emojax.encoders.parameters import AxesTable
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
      activation: key of `layers.ACTIVATIONS`.
      max_positions: rows of the position table.
      first_position: row of the position table for the first token: 0 in BERT, padding index + 1 in RoBERTa.
      num_token_types: rows of the token type table; 0: no such embedding.
      layer_norm_epsilon: added to the variance in every layer norm.
      hidden_dropout: rate after embeddings and after each sublayer, in training.
      attention_output_dropout: whether attention counts among these sublayers.
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
    attention_output_dropout: bool
    attention_dropout: float
    pooler: bool

    @property
    def max_tokens(self) -> int:
        """Longest sequence, special tokens included."""
        return self.max_positions - self.first_position


class TextTransformer(nn.Module):
    """BERT (Devlin et al. 2019), RoBERTa (Liu et al. 2019) or a relative of theirs, without a task head."""

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
        """Computes the layer's output, returned twice if `emit`, as `nn.scan` collects it."""
        config = self.config
        dropout = nn.Dropout(config.hidden_dropout, deterministic=not self.train)
        attended = SelfAttention(config, self.dtype, self.train, name="attention")(states, mask)
        attended = dropout(attended) if config.attention_output_dropout else attended
        states = layer_norm(config.layer_norm_epsilon, self.dtype, "attention_norm")(states + attended)
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
        """Computes attended values after the output projection."""
        config = self.config
        batch, length, _ = states.shape

        def project(name: str) -> Float[Array, "B H L F"]:
            projected = Linear(config.hidden_size, self.dtype, name=name)(states).astype(self.dtype)
            return projected.reshape(batch, length, config.num_heads, -1).swapaxes(1, 2)

        query, key, value = project("query"), project("key"), project("value")
        logits = product("bhlf,bhmf->bhlm", query, key)
        logits = logits * query.shape[-1] ** -0.5
        # A finite floor instead of -inf: rows without any valid token stay free of NaN.
        logits = jnp.where(mask[:, None, None, :], logits, jnp.finfo(logits.dtype).min)
        weights = jax.nn.softmax(logits, axis=-1).astype(self.dtype)
        weights = nn.Dropout(config.attention_dropout, deterministic=not self.train)(weights)
        attended = product("bhlm,bhmf->bhlf", weights, value)
        return Linear(config.hidden_size, self.dtype, name="output")(attended.swapaxes(1, 2).reshape(states.shape))


TEXT_AXES: AxesTable = (
    (r"embeddings/token/embedding", ("vocab", "embed")),
    (r"embeddings/(position|token_type)/embedding", (None, "embed")),
    (r".*norm/(scale|bias)", ("embed",)),
    (r".*/attention/(query|key|value)/kernel", ("embed", "heads")),
    (r".*/attention/(query|key|value)/bias", ("heads",)),
    (r".*/attention/output/kernel", ("heads", "embed")),
    (r".*/mlp_in/kernel", ("embed", "mlp")),
    (r".*/mlp_in/bias", ("mlp",)),
    (r".*/mlp_out/kernel", ("mlp", "embed")),
    (r".*/(attention/output|mlp_out)/bias", ("embed",)),
    (r"pooler/kernel", ("embed", None)),
    (r"pooler/bias", (None,)),
)
"""Logical axes of every parameter."""
