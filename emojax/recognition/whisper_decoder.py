"""Whisper's decoder (Radford et al. 2023): a pre-norm transformer over tokens that attends to the encoder's states."""

import dataclasses
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from emojax.encoders.layers import ACTIVATIONS
from emojax.encoders.mixed_precision import Linear, wide
from emojax.encoders.norms import layer_norm

_EPSILON = 1e-5
"""PyTorch's default, which the published models keep in every layer norm."""

Heads = tuple[tuple[int, int], ...]
"""(layer, head) of chosen attention heads."""


@dataclasses.dataclass(frozen=True)
class WhisperDecoderConfig:
    """Sizes of one Whisper decoder.

    Attributes:
      vocab_size: V, tokens, special ones and time stamps included.
      max_tokens: positions, prompt included; 448 in all published models.
      hidden_size: D, the encoder's too.
      num_layers: transformer layers.
      num_heads: H, attention heads.
      intermediate_size: units of the feed-forward part.
      activation: key of `ACTIVATIONS`.
    """

    vocab_size: int
    max_tokens: int
    hidden_size: int
    num_layers: int
    num_heads: int
    intermediate_size: int
    activation: str


class KeysValues(NamedTuple):
    """Keys and values of one attention, float (N, H, T, F) each; open because JAX rebuilds this tree."""

    keys: Any
    values: Any


class DecoderInputs(NamedTuple):
    """What the decoder attends to: keys and values of every layer, and which of the T frames are valid.

    Attributes:
      layers: one `KeysValues` (B, H, T, F) per layer.
      mask: bool (B, T).
    """

    layers: tuple[KeysValues, ...]
    mask: Any


class DecoderOutput(NamedTuple):
    """Output for the tokens of one call.

    Attributes:
      states: (N, L, D) after the final norm; `WhisperDecoder.logits` takes them.
      cache: keys and values of all tokens so far, per layer.
      weights: attention weights (heads, N, L, T) over the encoder's frames, of the heads that were asked for.
    """

    states: Any
    cache: tuple[KeysValues, ...]
    weights: Any


class WhisperDecoder(nn.Module):
    """Whisper's decoder; its output layer is tied to the token embeddings.

    For inference: there is no dropout.

    Attributes:
      config: sizes.
      dtype: type of the operands of matrix products, and of keys and values.
    """

    config: WhisperDecoderConfig
    dtype: Any = jnp.float32

    def setup(self):
        """Declares the parameters."""
        config = self.config
        init = nn.initializers.normal(0.02)
        self.token_embedding = self.param("token_embedding", init, (config.vocab_size, config.hidden_size))
        self.position_embedding = self.param("position_embedding", init, (config.max_tokens, config.hidden_size))
        self.layer = [DecoderLayer(config, self.dtype) for _ in range(config.num_layers)]
        self.norm = layer_norm(_EPSILON, self.dtype)

    def __call__(
        self, tokens: Int[Array, "B L"], states: Float[Array, "B T D"], mask: Bool[Array, "B T"]
    ) -> Float[Array, "B L V"]:
        """Computes the logits of the token after each of `tokens`.

        Args:
          tokens: prompt and text, valid up to any position: later tokens do not matter to earlier logits.
          states: hidden states of the encoder.
          mask: True on valid frames.
        """
        output = self.decode(tokens, self.attend_to(states, mask), self.empty_cache(*tokens.shape), 0)
        return self.logits(output.states)

    def attend_to(self, states: Float[Array, "B T D"], mask: Bool[Array, "B T"]) -> DecoderInputs:
        """Computes keys and values of the encoder's hidden states, once for all tokens."""
        return DecoderInputs(tuple(layer.cross_attention.keys_values(states) for layer in self.layer), mask)

    def empty_cache(self, rows: int, length: int) -> tuple[KeysValues, ...]:
        """Makes the cache of `rows` rows of at most `length` tokens."""
        config = self.config
        shape = (rows, config.num_heads, length, config.hidden_size // config.num_heads)
        empty = jnp.zeros(shape, self.dtype)
        return (KeysValues(empty, empty),) * config.num_layers

    def decode(
        self,
        tokens: Int[Array, "N L"],
        inputs: DecoderInputs,
        cache: tuple[KeysValues, ...],
        start: int | Int[Array, ""],
        heads: Heads = (),
    ) -> DecoderOutput:
        """Computes hidden states of tokens that follow those in the cache.

        Args:
          tokens: ids; N is a multiple of B: rows 0 ... N/B - 1 belong to row 0 of the inputs (beams of one clip).
          inputs: from `attend_to`.
          cache: keys and values of `start` tokens, with room for L more.
          start: position of the first of `tokens`, equal in all rows.
          heads: heads whose attention weights over the encoder's frames are returned.
        """
        positions = jax.lax.dynamic_slice_in_dim(self.position_embedding, start, tokens.shape[1])
        states = (self.token_embedding[tokens] + positions).astype(wide(self.dtype))
        caches, weights = [], []
        for number, layer in enumerate(self.layer):
            states, cached, attended = layer(states, inputs.layers[number], inputs.mask, cache[number], start)
            caches.append(cached)
            weights.append(attended)
        chosen = jnp.stack([weights[layer][:, head] for layer, head in heads]) if heads else None
        return DecoderOutput(self.norm(states), tuple(caches), chosen)

    def logits(self, states: Float[Array, "*N D"]) -> Float[Array, "*N V"]:
        """Computes unnormalised log-probabilities of the next token, in at least float32."""
        operands = states.astype(self.dtype), self.token_embedding.astype(self.dtype)
        return jnp.einsum("...d,vd->...v", *operands, preferred_element_type=wide(self.dtype))


class DecoderLayer(nn.Module):
    """Self-attention, attention to the encoder's states and feed-forward part, each after a norm and added."""

    config: WhisperDecoderConfig
    dtype: Any

    def setup(self):
        """Declares the parts of the layer."""
        config = self.config
        self.attention_norm = layer_norm(_EPSILON, self.dtype)
        self.attention = Attention(config, self.dtype)
        self.cross_attention_norm = layer_norm(_EPSILON, self.dtype)
        self.cross_attention = Attention(config, self.dtype)
        self.mlp_norm = layer_norm(_EPSILON, self.dtype)
        self.mlp_in = Linear(config.intermediate_size, self.dtype)
        self.mlp_out = Linear(config.hidden_size, self.dtype)

    def __call__(
        self,
        states: Float[Array, "N L D"],
        inputs: KeysValues,
        mask: Bool[Array, "B T"],
        cache: KeysValues,
        start: int | Int[Array, ""],
    ) -> tuple[Float[Array, "N L D"], KeysValues, Float[Array, "N H L T"]]:
        """Computes the layer's output, the extended cache and the attention weights over the encoder's frames."""
        length, room = states.shape[1], cache.keys.shape[2]
        normed = self.attention_norm(states)
        new = self.attention.keys_values(normed)
        cache = KeysValues(
            jax.lax.dynamic_update_slice_in_dim(cache.keys, new.keys, start, axis=2),
            jax.lax.dynamic_update_slice_in_dim(cache.values, new.values, start, axis=2),
        )
        causal = jnp.arange(room) <= start + jnp.arange(length)[:, None]
        states = states + self.attention(normed, cache, causal)[0]
        attended, weights = self.cross_attention(self.cross_attention_norm(states), inputs, mask[:, None, None])
        states = states + attended
        inner = ACTIVATIONS[self.config.activation](self.mlp_in(self.mlp_norm(states)))
        return states + self.mlp_out(inner), cache, weights


class Attention(nn.Module):
    """Scaled dot-product attention (Vaswani et al. 2017) over given keys and values; keys have no bias."""

    config: WhisperDecoderConfig
    dtype: Any

    def setup(self):
        """Declares the projections."""
        size = self.config.hidden_size
        self.query, self.value = Linear(size, self.dtype), Linear(size, self.dtype)
        self.key = Linear(size, self.dtype, use_bias=False)
        self.output = Linear(size, self.dtype)

    def keys_values(self, states: Float[Array, "B T D"]) -> KeysValues:
        """Projects states to keys and values."""
        return KeysValues(self._heads(self.key(states)), self._heads(self.value(states)))

    def __call__(
        self, states: Float[Array, "N L D"], given: KeysValues, mask: Bool[Array, "..."]
    ) -> tuple[Float[Array, "N L D"], Float[Array, "N H L T"]]:
        """Computes attended values after the output projection, and the attention weights.

        Args:
          states: queries before their projection.
          given: keys and values (B, H, T, F); N is a multiple of B.
          mask: True where a query may attend, broadcast to (B, H, L, T).
        """
        rows, length, size = states.shape
        batch, heads, frames, width = given.keys.shape
        dtype = wide(self.dtype)
        # The rows of one clip are further queries to the same keys.
        query = self.query(states).astype(self.dtype).reshape(batch, -1, heads, width).transpose(0, 2, 1, 3)
        logits = jnp.einsum("bhqf,bhtf->bhqt", query, given.keys, preferred_element_type=dtype) * width**-0.5
        # A finite floor instead of -inf: rows without any valid frame stay free of NaN.
        weights = jax.nn.softmax(jnp.where(mask, logits, jnp.finfo(dtype).min), axis=-1)
        attended = jnp.einsum("bhqt,bhtf->bhqf", weights.astype(self.dtype), given.values, preferred_element_type=dtype)
        attended = attended.transpose(0, 2, 1, 3).reshape(rows, length, size)
        weights = weights.reshape(batch, heads, -1, length, frames).transpose(0, 2, 1, 3, 4)
        return self.output(attended), weights.reshape(rows, heads, length, frames)

    def _heads(self, projected: Float[Array, "B T D"]) -> Float[Array, "B H T F"]:
        batch, length, _ = projected.shape
        return projected.astype(self.dtype).reshape(batch, length, self.config.num_heads, -1).transpose(0, 2, 1, 3)
