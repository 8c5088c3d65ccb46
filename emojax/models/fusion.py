"""Fusion of several modalities of one utterance: each kind is a `Fusion` with an entry in `FUSIONS`."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated, Any, Literal

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from emojax.errors import ConfigError
from emojax.models.heads import EmotionHeads, Fusion, ModalityFrames, drop_modalities
from emojax.models.rating_head import logit_scale, rating_output
from emojax.schema import Ge, Le, Lt, settings
from emojax.types import NUM_ATTRIBUTES, EmotionOutput


class EarlyFusion(Fusion):
    """Early fusion of the papers: embeddings concatenated, then a dense layer with ReLU."""

    @nn.compact
    def __call__(self, modalities: Mapping[str, ModalityFrames], train: bool) -> EmotionOutput:
        """Predicts from the joint embedding (B, size)."""
        embeddings, _ = self.embed(modalities, train)
        joint = Concatenation(self.config.size, self.dtype, name="fusion")(embeddings)
        return EmotionHeads(self.num_categories, self.dtype, self.rating_bins, name="heads")(joint)


class LateFusion(Fusion):
    """Late fusion: every modality predicts by itself, then one linear layer combines the predictions."""

    @nn.compact
    def __call__(self, modalities: Mapping[str, ModalityFrames], train: bool) -> EmotionOutput:
        """Predicts; the joint embedding is that of all modalities, concatenated."""
        embeddings, _ = self.embed(modalities, train)
        return LateHeads(self.num_categories, self.dtype, self.rating_bins, name="heads")(embeddings)


class GatedFusion(Fusion):
    """Gated fusion: a sum of the embeddings with weights per utterance."""

    @nn.compact
    def __call__(self, modalities: Mapping[str, ModalityFrames], train: bool) -> EmotionOutput:
        """Predicts from the joint embedding (B, size)."""
        embeddings, present = self.embed(modalities, train)
        joint = GatedSum(self.config.size, self.dtype, name="fusion")(embeddings, present)
        return EmotionHeads(self.num_categories, self.dtype, self.rating_bins, name="heads")(joint)


class CrossAttentionFusion(Fusion):
    """Cross-attention between the frames of the modalities, then as `EarlyFusion`."""

    @nn.compact
    def __call__(self, modalities: Mapping[str, ModalityFrames], train: bool) -> EmotionOutput:
        """Predicts from the joint embedding (B, size); a dropped modality is not attended to."""
        present = {name: each.present for name, each in modalities.items()}
        if train:
            present = drop_modalities(self.make_rng("dropout"), present, self.config.modality_dropout)
        masks = {name: each.mask & present[name][:, None] for name, each in modalities.items()}
        attention = CrossAttention(self.config.size, self.config.attention_heads, self.dtype, name="cross_attention")
        attended = attention({name: each.frames for name, each in modalities.items()}, masks)
        joined = {name: ModalityFrames(attended[name], masks[name], each.embed) for name, each in modalities.items()}
        embeddings, _ = self.embed(joined, train=False)  # modalities have been dropped above
        joint = Concatenation(self.config.size, self.dtype, name="fusion")(embeddings)
        return EmotionHeads(self.num_categories, self.dtype, self.rating_bins, name="heads")(joint)


FUSIONS: dict[str, type[Fusion]] = {
    "early": EarlyFusion,
    "late": LateFusion,
    "gated": GatedFusion,
    "cross_attention": CrossAttentionFusion,
}
"""Fusion kinds by name."""

if TYPE_CHECKING:
    FusionName = str
else:
    FusionName = Literal[tuple(FUSIONS)]


@settings
class FusionConfig:
    """How several modalities are fused."""

    kind: Annotated[
        FusionName,
        '"early": embeddings concatenated, then a dense layer; "late": predictions of each, combined linearly; '
        '"gated": a weighted sum, weights per utterance; "cross_attention": frames of each attend to those of the '
        'others, then as "early".',
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


class Concatenation(nn.Module):
    """Embeddings concatenated, then a dense layer with ReLU.

    Attributes:
      size: units of the dense layer.
      dtype: dtype of the factors of products.
    """

    size: int
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, embeddings: Mapping[str, Float[Array, "B _"]]) -> Float[Array, "B E"]:
        """The joint embedding, float32."""
        joint = jnp.concatenate([embeddings[name] for name in embeddings], axis=-1)
        return nn.relu(nn.Dense(self.size, dtype=self.dtype, name="dense")(joint)).astype(jnp.float32)


class GatedSum(nn.Module):
    """A sum of the projected embeddings, weighted per utterance by a softmax over the modalities that are present.

    Attributes:
      size: units of the joint embedding.
      dtype: dtype of the factors of products.
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
        counted = jnp.stack([present[name] for name in embeddings], axis=-1)
        counted = counted | ~counted.any(axis=-1, keepdims=True)  # without any modality, all replacements count
        weights = nn.softmax(jnp.where(counted, scores.astype(jnp.float32), jnp.finfo(jnp.float32).min), axis=-1)
        projected = [
            nn.tanh(nn.Dense(self.size, dtype=self.dtype, name=f"project_{name}")(embeddings[name]))
            for name in embeddings
        ]
        return jnp.einsum("bv,vbe->be", weights, jnp.stack(projected).astype(jnp.float32))


class LateHeads(nn.Module):
    """Heads per modality, and a linear layer on their concatenated predictions, which starts as their mean.

    Distributions of ratings are combined by their logits.

    Attributes:
      num_categories: C; 0 for attributes alone.
      dtype: dtype of the factors of products; outputs are float32.
      rating_bins: values of the rating scale; 0 for attributes without distributions.
    """

    num_categories: int
    dtype: Any = jnp.float32
    rating_bins: int = 0

    @nn.compact
    def __call__(self, embeddings: Mapping[str, Float[Array, "B _"]]) -> EmotionOutput:
        """Predicts; the joint embedding is that of all modalities, concatenated."""
        outputs = [
            EmotionHeads(self.num_categories, self.dtype, self.rating_bins, name=name)(embedding)
            for name, embedding in embeddings.items()
        ]
        mean = _repeated_identity(len(outputs))
        logits = outputs[0].emotion_logits
        if self.num_categories:
            logits = jnp.concatenate([output.emotion_logits for output in outputs], axis=-1)
            logits = nn.Dense(self.num_categories, kernel_init=mean, name="categories")(logits)
        embedding = jnp.concatenate([output.embedding for output in outputs], axis=-1)
        if self.rating_bins:
            size = NUM_ATTRIBUTES * self.rating_bins
            flat = [output.rating_logits.reshape(-1, size) for output in outputs]  # type: ignore[union-attr]
            joined = jnp.concatenate(flat, axis=-1) / logit_scale(self.rating_bins)
            ratings = nn.Dense(size, kernel_init=mean, name="ratings")(joined)
            return rating_output(ratings, self.rating_bins, logits, embedding)
        attributes = jnp.concatenate([output.attributes for output in outputs], axis=-1)
        attributes = nn.Dense(NUM_ATTRIBUTES, kernel_init=mean, name="attributes")(attributes)
        return EmotionOutput(attributes=attributes, emotion_logits=logits, embedding=embedding)


def _repeated_identity(times: int) -> Any:
    """Initialiser of a kernel that computes the mean of `times` predictions."""

    def init(_key: Any, shape: tuple[int, int], dtype: Any = jnp.float32) -> Array:
        return jnp.tile(jnp.eye(shape[1], dtype=dtype), (times, 1)) / times

    return init


class CrossAttention(nn.Module):
    """Frames of each modality attend to the frames of the others: residual multi-head attention, then layer norm.

    Attributes:
      size: width that all modalities are projected to.
      heads: divides `size`.
      dtype: dtype of the factors of products.
    """

    size: int
    heads: int
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(
        self, frames: Mapping[str, Float[Array, "B _ _"]], masks: Mapping[str, Bool[Array, "B _"]]
    ) -> dict[str, Float[Array, "B _ E"]]:
        """Frames of each modality after attention; frames outside the masks are not attended to."""
        projected = {
            name: nn.Dense(self.size, dtype=self.dtype, name=f"project_{name}")(frames[name]) for name in frames
        }
        outputs = {}
        for name in frames:
            others = [other for other in frames if other != name]
            memory = jnp.concatenate([projected[other] for other in others], axis=1)
            mask = jnp.concatenate([masks[other] for other in others], axis=1)
            attended = nn.MultiHeadDotProductAttention(
                num_heads=self.heads, qkv_features=self.size, dtype=self.dtype, name=f"attention_{name}"
            )(projected[name], memory, mask=mask[:, None, None, :])
            attended = jnp.where(mask.any(axis=1)[:, None, None], attended, 0)
            outputs[name] = nn.LayerNorm(name=f"norm_{name}")((projected[name] + attended).astype(jnp.float32))
        return outputs
