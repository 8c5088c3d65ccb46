"""Output heads that read the utterance embedding."""

from collections.abc import Mapping
from typing import Any

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Array, Float

from emojax.types import NUM_ATTRIBUTES, EmotionOutput


class EmotionHeads(nn.Module):
    """Three attributes by linear regression, C categories by linear classification.

    The attributes start at 0.5, the middle of their [0, 1] scale: from 0, the first steps would only move the mean,
    which CCC punishes.

    Attributes:
      num_categories: C; 0 leaves the category head out.
      dtype: of the products; outputs are float32.
    """

    num_categories: int
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, embedding: Float[Array, "B E"]) -> EmotionOutput:
        """Reads the embedding."""
        middle = nn.initializers.constant(0.5)
        attributes = nn.Dense(NUM_ATTRIBUTES, dtype=self.dtype, bias_init=middle, name="attributes")(embedding)
        logits = jnp.zeros((embedding.shape[0], 0), jnp.float32)
        if self.num_categories:
            logits = nn.Dense(self.num_categories, dtype=self.dtype, name="categories")(embedding)
        return EmotionOutput(
            attributes=attributes.astype(jnp.float32), emotion_logits=logits.astype(jnp.float32), embedding=embedding
        )


class LateHeads(nn.Module):
    """Late fusion: every modality predicts by itself, and one linear layer combines the predictions side by side.

    It starts as their mean.

    Attributes:
      num_categories: C; 0 leaves the category heads out.
      dtype: of the products; outputs are float32.
    """

    num_categories: int
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, embeddings: Mapping[str, Float[Array, "B _"]]) -> EmotionOutput:
        """Reads the modalities' embeddings; the joint embedding is all of them side by side."""
        outputs = [
            EmotionHeads(self.num_categories, self.dtype, name=name)(embedding)
            for name, embedding in embeddings.items()
        ]
        mean = _repeated_identity(len(outputs))
        attributes = jnp.concatenate([output.attributes for output in outputs], axis=-1)
        attributes = nn.Dense(NUM_ATTRIBUTES, kernel_init=mean, name="attributes")(attributes)
        logits = outputs[0].emotion_logits
        if self.num_categories:
            logits = jnp.concatenate([output.emotion_logits for output in outputs], axis=-1)
            logits = nn.Dense(self.num_categories, kernel_init=mean, name="categories")(logits)
        embedding = jnp.concatenate([output.embedding for output in outputs], axis=-1)
        return EmotionOutput(attributes=attributes, emotion_logits=logits, embedding=embedding)


def _repeated_identity(times: int) -> Any:
    """Initialiser of a kernel that takes the mean of so many predictions."""

    def make(_key: Any, shape: tuple[int, int], dtype: Any = jnp.float32) -> Array:
        return jnp.tile(jnp.eye(shape[1], dtype=dtype), (times, 1)) / times

    return make
