"""The emotion model: a view, a temporal network, heads, composed from a config."""

import dataclasses
from typing import Literal

import flax.linen as nn
import jax.numpy as jnp

from emojax.models.heads import EmotionHeads
from emojax.models.tcgru import TCGRU, TCGRUConfig
from emojax.models.views import LogMelView, LogMelViewConfig
from emojax.types import Batch, EmotionOutput


@dataclasses.dataclass(frozen=True)
class EmotionModelConfig:
    """What the model is made of.

    Attributes:
      view: what it sees.
      temporal: the network over frames.
      dtype: of matrix products; parameters, statistics and outputs are float32.
    """

    view: LogMelViewConfig
    temporal: TCGRUConfig
    dtype: Literal["float32", "bfloat16"]


class EmotionModel(nn.Module):
    """From a batch to attributes and categories.

    `apply({"params": …, "statistics": …}, batch, train=…, rngs={"dropout": …, "augment": …})`.

    Attributes:
      config: see `EmotionModelConfig`.
      num_categories: C; 0 for attributes alone.
    """

    config: EmotionModelConfig
    num_categories: int

    @nn.compact
    def __call__(self, batch: Batch, train: bool = False) -> EmotionOutput:
        """Predicts every row of a batch; padding and filler rows have no influence on others.

        Args:
          batch: see `Batch`; only the audio is read.
          train: whether to augment and apply dropout.
        """
        dtype = jnp.dtype(self.config.dtype)
        features, mask = LogMelView(self.config.view, name="view")(batch, train)
        embedding = TCGRU(self.config.temporal, dtype, name="temporal")(features, mask, train)
        return EmotionHeads(self.num_categories, dtype, name="heads")(embedding)
