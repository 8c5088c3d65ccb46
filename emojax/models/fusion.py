"""Several modalities of one utterance to one embedding, and what happens where a modality is missing."""

from collections.abc import Mapping
from typing import Annotated, Any, Literal

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from emojax.errors import ConfigError
from emojax.schema import Ge, Le, Lt, settings


@settings
class FusionConfig:
    """How several modalities are fused."""

    kind: Annotated[
        Literal["early", "late", "gated", "cross_attention"],
        '"early": embeddings concatenated, then a dense layer; "late": predictions of each, combined linearly; '
        '"gated": '
        'a weighted sum, weights per utterance; "cross_attention": frames of each attend to those of the others, then '
        'as "early".',
    ] = "early"
    size: Annotated[int, Ge(1), Le(16_384), "Units of the joint embedding and of the attention."] = 128
    attention_heads: Annotated[int, Ge(1), Le(1024), 'Attention heads of "cross_attention"; divides size.'] = 4
    modality_dropout: Annotated[
        float,
        Ge(0),
        Lt(1),
        "Probability that training drops a modality of an utterance, never all of them: the model then works without a "
        "transcript or without sound.",
    ] = 0.1

    def __post_init__(self):
        """Checks rules between fields."""
        if self.size % self.attention_heads:
            raise ConfigError(
                f"fusion.attention_heads must divide fusion.size ({self.size}), got {self.attention_heads}"
            )


class Presence(nn.Module):
    """Stands in for modalities that are missing: a learned embedding per modality takes the place of theirs.

    In training each modality of each utterance is dropped with probability `modality_dropout`, unless that would leave
    none, so that the model learns to do without.

    Attributes:
      modality_dropout: the probability.
    """

    modality_dropout: float

    @nn.compact
    def __call__(
        self, embeddings: Mapping[str, Float[Array, "B E"]], present: Mapping[str, Bool[Array, "B"]], train: bool
    ) -> tuple[dict[str, Float[Array, "B E"]], dict[str, Bool[Array, "B"]]]:
        """Embeddings with substitutes, and which of them are real."""
        kept = drop_modalities(self.make_rng("dropout"), present, self.modality_dropout) if train else dict(present)
        substituted = {}
        for name, embedding in embeddings.items():
            missing = self.param(name, nn.initializers.zeros, embedding.shape[1:])
            substituted[name] = jnp.where(kept[name][:, None], embedding, missing)
        return substituted, kept


def drop_modalities(key: Array, present: Mapping[str, Bool[Array, "B"]], rate: float) -> dict[str, Bool[Array, "B"]]:
    """Leaves out modalities at random, row by row; a row that would lose all keeps those it has."""
    stacked = jnp.stack([present[name] for name in present])
    kept = stacked & jax.random.bernoulli(key, 1.0 - rate, stacked.shape)
    kept = jnp.where(kept.any(axis=0), kept, stacked)
    return dict(zip(present, kept, strict=True))


class Concatenation(nn.Module):
    """Early fusion of the papers: embeddings side by side, then a dense layer with ReLU.

    Attributes:
      size: units of the dense layer.
      dtype: of the products.
    """

    size: int
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, embeddings: Mapping[str, Float[Array, "B _"]]) -> Float[Array, "B E"]:
        """The joint embedding, float32."""
        joint = jnp.concatenate([embeddings[name] for name in embeddings], axis=-1)
        return nn.relu(nn.Dense(self.size, dtype=self.dtype, name="dense")(joint)).astype(jnp.float32)


class GatedSum(nn.Module):
    """A sum of the projected modalities, weighted per utterance by a softmax over the modalities that are there.

    Attributes:
      size: units of the joint embedding.
      dtype: of the products.
    """

    size: int
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(
        self, embeddings: Mapping[str, Float[Array, "B _"]], present: Mapping[str, Bool[Array, "B"]]
    ) -> Float[Array, "B E"]:
        """The joint embedding, float32."""
        joint = jnp.concatenate([embeddings[name] for name in embeddings], axis=-1)
        scores = nn.Dense(len(embeddings), name="gate")(jnp.tanh(nn.Dense(self.size, dtype=self.dtype)(joint)))
        there = jnp.stack([present[name] for name in embeddings], axis=-1)
        there = there | ~there.any(axis=-1, keepdims=True)  # without any modality, all substitutes count
        weights = nn.softmax(jnp.where(there, scores.astype(jnp.float32), jnp.finfo(jnp.float32).min), axis=-1)
        projected = [
            nn.tanh(nn.Dense(self.size, dtype=self.dtype, name=f"project_{name}")(embeddings[name]))
            for name in embeddings
        ]
        return jnp.einsum("bv,vbe->be", weights, jnp.stack(projected).astype(jnp.float32))


class CrossAttention(nn.Module):
    """Frames of each modality look at the frames of the others: residual multi-head attention, then layer norm.

    Attributes:
      size: width that all modalities are projected to.
      heads: divides `size`.
      dtype: of the products.
    """

    size: int
    heads: int
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(
        self, frames: Mapping[str, Float[Array, "B _ _"]], masks: Mapping[str, Bool[Array, "B _"]]
    ) -> dict[str, Float[Array, "B _ E"]]:
        """The modalities' frames, each informed by the others; a modality without frames tells the others nothing."""
        projected = {
            name: nn.Dense(self.size, dtype=self.dtype, name=f"project_{name}")(frames[name]) for name in frames
        }
        informed = {}
        for name in frames:
            others = [other for other in frames if other != name]
            memory = jnp.concatenate([projected[other] for other in others], axis=1)
            mask = jnp.concatenate([masks[other] for other in others], axis=1)
            attended = nn.MultiHeadDotProductAttention(
                num_heads=self.heads, qkv_features=self.size, dtype=self.dtype, name=f"attention_{name}"
            )(projected[name], memory, mask=mask[:, None, None, :])
            attended = jnp.where(mask.any(axis=1)[:, None, None], attended, 0)
            informed[name] = nn.LayerNorm(name=f"norm_{name}")((projected[name] + attended).astype(jnp.float32))
        return informed
