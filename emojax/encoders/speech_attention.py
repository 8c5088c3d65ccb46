"""Multi-head self-attention over the valid frames, one head at a time where that is faster."""

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from emojax.encoders.mixed_precision import Linear, wide
from emojax.encoders.speech_config import SpeechEncoderConfig
from emojax.encoders.wavlm_attention import RelativePositionGate


class SelfAttention(nn.Module):
    """Scaled dot-product attention (Vaswani et al. 2017), with WavLM's gated position bias if one is given."""

    config: SpeechEncoderConfig
    dtype: Any
    train: bool

    @nn.compact
    def __call__(
        self, states: Float[Array, "B T D"], mask: Bool[Array, "B T"], position_bias: Float[Array, "H T T"] | None
    ) -> Float[Array, "B T D"]:
        """Attended values after the output projection."""
        config = self.config
        batch, frames, _ = states.shape

        def project(name: str) -> Float[Array, "H B T F"]:
            projected = Linear(config.hidden_size, self.dtype, name=name)(states)
            return projected.astype(self.dtype).reshape(batch, frames, config.num_heads, -1).transpose(2, 0, 1, 3)

        query, key, value = project("query"), project("key"), project("value")
        gate = None
        if position_bias is not None:
            gate = RelativePositionGate(config, self.dtype, name="gate")(states)
        rate = config.attention_dropout if self.train else 0.0
        dropout_keys = jax.random.split(self.make_rng("dropout"), config.num_heads) if rate else None
        attended = attend(query, key, value, mask, position_bias, gate, rate, dropout_keys)
        attended = attended.transpose(1, 2, 0, 3).reshape(batch, frames, config.hidden_size)
        return Linear(config.hidden_size, self.dtype, name="output")(attended)


def attend(
    query: Float[Array, "H B T F"],
    key: Float[Array, "H B T F"],
    value: Float[Array, "H B T F"],
    mask: Bool[Array, "B T"],
    position_bias: Float[Array, "H T T"] | None = None,
    gate: Float[Array, "H B T"] | None = None,
    dropout_rate: float = 0.0,
    dropout_keys: jax.Array | None = None,
) -> Float[Array, "H B T F"]:
    """Softmax-weighted sums of the values of valid frames, in at least float32.

    Weights are never stored for the backward pass but computed again, so memory grows with T, not with T squared. On
    CPU the heads follow one another, so that the weights of one head stay in the cache; elsewhere they run together.

    Args:
      query: queries of H heads with F features each.
      key: keys.
      value: values.
      mask: True on valid frames; a row without any gets the mean of all values.
      position_bias: added to the logits of each head.
      gate: factor of `position_bias` per query frame; None together with it.
      dropout_rate: share of weights left out.
      dropout_keys: one random key per head; None where the rate is 0.
    """

    def head(operands: tuple[Any, ...]) -> Float[Array, "B T F"]:
        return _one_head(operands, mask, dropout_rate)

    def one_by_one(operands: tuple[Any, ...]) -> Float[Array, "H B T F"]:
        # A loop already keeps XLA from merging the second computation of the weights with the first.
        return jax.lax.map(jax.checkpoint(head, prevent_cse=False), operands)

    operands = (query, key, value, position_bias, gate, dropout_keys)
    return jax.lax.platform_dependent(operands, cpu=one_by_one, default=jax.vmap(jax.checkpoint(head)))


def _one_head(operands: tuple[Any, ...], mask: Bool[Array, "B T"], dropout_rate: float) -> Float[Array, "B T F"]:
    """`attend` for one head, whose operands are those of `attend` without the axis H."""
    query, key, value, position_bias, gate, dropout_key = operands
    dtype = wide(query.dtype)
    logits = jnp.einsum("btf,bsf->bts", query, key, preferred_element_type=dtype) * query.shape[-1] ** -0.5
    if position_bias is not None and gate is not None:
        logits = logits + gate[:, :, None] * position_bias
    # A finite floor instead of -inf: rows without any valid frame stay free of NaN.
    logits = jnp.where(mask[:, None, :], logits, jnp.finfo(dtype).min)
    weights = jnp.exp(logits - jax.lax.stop_gradient(logits.max(axis=-1, keepdims=True)))
    total = weights.sum(axis=-1, keepdims=True)
    if dropout_key is not None:
        kept = jax.random.bernoulli(dropout_key, 1.0 - dropout_rate, weights.shape)
        weights = jnp.where(kept, weights / (1.0 - dropout_rate), 0.0)
    # Dividing F features instead of T weights by the total is the same and cheaper.
    attended = jnp.einsum("bts,bsf->btf", weights.astype(value.dtype), value, preferred_element_type=dtype)
    return attended / total
