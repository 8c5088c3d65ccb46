"""Output heads: from the embedding of an utterance, or from its modalities, to attributes and categories."""

import abc
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from emojax.models.rating_head import logit_scale, maximum_entropy_logits, rating_output
from emojax.types import NUM_ATTRIBUTES, EmotionOutput


class EmotionHeads(nn.Module):
    """Three attributes by linear regression, C categories by linear classification.

    With `rating_bins`, an attribute is the expectation of a distribution over so many values of the rating scale, a
    softmax of linear logits (`emojax.models.rating_head`).

    The attributes start around 0.5, the middle of their [0, 1] scale; training starts at the means of its corpus: see
    `start_heads`.

    Attributes:
      num_categories: C; 0 for attributes alone.
      dtype: dtype of the factors of products; outputs are float32.
      rating_bins: K; 0 for attributes without distributions.
    """

    num_categories: int
    dtype: Any = jnp.float32
    rating_bins: int = 0

    @nn.compact
    def __call__(self, embedding: Float[Array, "B E"]) -> EmotionOutput:
        """Predicts from the embedding, which is returned with the predictions."""
        logits = jnp.zeros((embedding.shape[0], 0), jnp.float32)
        if self.num_categories:
            categories = nn.Dense(self.num_categories, dtype=self.dtype, name="categories")
            logits = categories(embedding).astype(jnp.float32)
        if self.rating_bins:
            ratings = nn.Dense(NUM_ATTRIBUTES * self.rating_bins, dtype=self.dtype, name="ratings")
            return rating_output(ratings(embedding), self.rating_bins, logits, embedding)
        middle = nn.initializers.constant(0.5)
        attributes = nn.Dense(NUM_ATTRIBUTES, dtype=self.dtype, bias_init=middle, name="attributes")(embedding)
        return EmotionOutput(attributes=attributes.astype(jnp.float32), emotion_logits=logits, embedding=embedding)


def start_heads(
    heads: Mapping[str, Any], attributes: Float[Array, "3"], log_priors: Float[Array, "C"]
) -> dict[str, Any]:
    """Changes initial parameters of output heads, so that their first predictions are close to constants.

    Biases are the constants, and kernels a hundredth of what they were: no prediction starts outside of the scale, and
    the first steps do not go into moving the mean, which CCC punishes. Kernels are not 0, where the gradient of CCC
    with respect to the bias is 0, and Adam would follow the sign of its rounding error.

    Args:
      heads: parameters of `EmotionHeads`, or of several and a layer that combines them (late fusion), which is kept.
      attributes: means of the training labels, in [0, 1].
      log_priors: logarithms of the categories' shares.
    """
    parts = {name: part for name, part in heads.items() if name not in _OUTPUTS}
    if parts:
        return {**heads, **{name: start_heads(part, attributes, log_priors) for name, part in parts.items()}}
    constants = {"attributes": attributes, "categories": log_priors}
    if "ratings" in heads:
        bins = heads["ratings"]["bias"].shape[0] // NUM_ATTRIBUTES
        constants["ratings"] = maximum_entropy_logits(attributes, bins).reshape(-1) / logit_scale(bins)
    return {
        name: {"kernel": _FIRST_SCALE * layer["kernel"], "bias": constants[name].astype(layer["bias"].dtype)}
        for name, layer in heads.items()
    }


_OUTPUTS = ("attributes", "ratings", "categories")

_FIRST_SCALE = 0.01
"""Of the kernels of output heads, relative to an initialisation that gives predictions the spread of the embedding."""


def clip_attributes(output: EmotionOutput) -> EmotionOutput:
    """Limits the attributes to [0, 1], the scale of the corpus."""
    return output.replace(attributes=jnp.clip(output.attributes, 0.0, 1.0))  # type: ignore[attr-defined]


class ModalityFrames(NamedTuple):
    """Frames of one modality, and how they are embedded.

    Attributes:
      frames: output of the modality's frame-level layers.
      mask: True on valid frames; a modality that an utterance lacks has none.
      embed: pools frames (B, T, any width) under a mask (B, T) and returns the modality's embedding (B, E), float32.
    """

    frames: Float[Array, "B T H"]
    mask: Bool[Array, "B T"]
    embed: Callable[[Float[Array, "B T H"], Bool[Array, "B T"]], Float[Array, "B E"]]

    @property
    def present(self) -> Bool[Array, "B"]:
        """True for utterances that have the modality."""
        return self.mask.any(axis=1)


class Fusion(nn.Module, abc.ABC):
    """Interface of a fusion kind: the head of a model of several modalities.

    Attributes:
      num_categories: C; 0 for attributes alone.
      config: `emojax.models.fusion.FusionConfig`.
      dtype: dtype of the factors of products; outputs are float32.
      rating_bins: values of the rating scale; 0 for attributes without distributions.
    """

    num_categories: int
    config: Any
    dtype: Any = jnp.float32
    rating_bins: int = 0

    @abc.abstractmethod
    def __call__(self, modalities: Mapping[str, ModalityFrames], train: bool) -> EmotionOutput:
        """Predicts from all modalities; the frames of one that is missing have no influence.

        Args:
          modalities: by name, at least two, in the order of the config.
          train: whether to drop modalities, with the rng `dropout`.
        """

    def embed(
        self, modalities: Mapping[str, ModalityFrames], train: bool
    ) -> tuple[dict[str, Float[Array, "B _"]], dict[str, Bool[Array, "B"]]]:
        """Embeds every modality; for use in the compact `__call__` of a kind.

        Returns:
          Embeddings, learned ones for modalities that are missing or dropped, and True where a modality is neither.
        """
        embeddings = {name: each.embed(each.frames, each.mask) for name, each in modalities.items()}
        present = {name: each.present for name, each in modalities.items()}
        return MissingModalities(self.config.modality_dropout, name="missing")(embeddings, present, train)


class MissingModalities(nn.Module):
    """Modality dropout, and a learned embedding for each modality in place of a missing one.

    Attributes:
      modality_dropout: probability that training drops a modality of an utterance, never all of them.
    """

    modality_dropout: float

    @nn.compact
    def __call__(
        self, embeddings: Mapping[str, Float[Array, "B _"]], present: Mapping[str, Bool[Array, "B"]], train: bool
    ) -> tuple[dict[str, Float[Array, "B _"]], dict[str, Bool[Array, "B"]]]:
        """Embeddings with replacements, and which of them are not replaced."""
        kept = drop_modalities(self.make_rng("dropout"), present, self.modality_dropout) if train else dict(present)
        replaced = {}
        for name, embedding in embeddings.items():
            missing = self.param(name, nn.initializers.zeros, embedding.shape[1:])
            replaced[name] = jnp.where(kept[name][:, None], embedding, missing)
        return replaced, kept


def drop_modalities(key: Array, present: Mapping[str, Bool[Array, "B"]], rate: float) -> dict[str, Bool[Array, "B"]]:
    """Drops modalities at random, row by row; a row that would lose all keeps those it has.

    Args:
      key: random key.
      present: rows that have the modality, by name.
      rate: probability of each modality of each row.
    """
    stacked = jnp.stack([present[name] for name in present])
    kept = stacked & jax.random.bernoulli(key, 1.0 - rate, stacked.shape)
    kept = jnp.where(kept.any(axis=0), kept, stacked)
    return dict(zip(present, kept, strict=True))
