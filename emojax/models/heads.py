"""Output heads that read the utterance embedding."""

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
