"""The emotion model: one modality or several, their networks, fusion and heads, composed from a config."""

import dataclasses
from collections.abc import Mapping
from typing import Annotated, Any, Literal

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from emojax.errors import ConfigError
from emojax.models.encoder_input import EncoderInput, EncoderInputConfig, EncoderPart
from emojax.models.fusion import Concatenation, CrossAttention, FusionConfig, GatedSum, Presence, drop_modalities
from emojax.models.heads import EmotionHeads, LateHeads
from emojax.models.log_mel_input import LogMelInput, LogMelInputConfig
from emojax.models.tcgru import TCGRU, TCGRUConfig
from emojax.schema import MinLen, settings
from emojax.types import Batch, EmotionOutput

ViewName = Literal["log_mel", "acoustic", "lexical"]

ENCODER_MODALITIES: tuple[str, ...] = ("acoustic", "lexical")
"""Modalities that look through a pre-trained encoder: of the waveform, of the transcript."""


@settings
class EmotionModelConfig:
    """Inputs of the model, their networks and fusion."""

    modalities: Annotated[
        tuple[ViewName, ...],
        MinLen(1),
        'Inputs, fused if several: "log_mel" (filterbank energies), "acoustic" (hidden states of a speech encoder), '
        '"lexical" (hidden states of a text encoder on the transcript).',
    ] = ("log_mel",)
    log_mel: LogMelInputConfig = LogMelInputConfig()
    acoustic: EncoderInputConfig = EncoderInputConfig()
    lexical: EncoderInputConfig = EncoderInputConfig()
    fusion: FusionConfig = FusionConfig()
    keep_stored_encoders: Annotated[
        bool,
        "Whether the workdir also keeps the weights of encoders whose hidden states come from a store, so that it "
        "predicts new audio wherever it is moved; if not, that needs the checkpoint, which is compared with the one of "
        "the store. Weights of encoders that compute in training are always kept.",
    ] = False
    dtype: Annotated[
        Literal["float32", "bfloat16"],
        "Type of matrix products; parameters, statistics, losses and outputs are always float32.",
    ] = "float32"

    def __post_init__(self):
        """Checks rules between fields."""
        if len(set(self.modalities)) != len(self.modalities):
            raise ConfigError(f"model.modalities must name each modality once, got {self.modalities}")
        for modality in self.encoder_modalities:
            if not getattr(self, modality).checkpoint:
                raise ConfigError(
                    f"model.{modality}.checkpoint must be a folder or name when that modality is used, got ''"
                )

    @property
    def encoder_modalities(self) -> tuple[str, ...]:
        """Those of `modalities` that need an encoder."""
        return tuple(modality for modality in self.modalities if modality in ENCODER_MODALITIES)

    def network(self, modality: str) -> TCGRUConfig:
        """Network of a modality."""
        return getattr(self, modality).network


class EmotionModel(nn.Module):
    """From a batch to attributes and categories.

    `apply({"params": …, "statistics": …}, batch, train=…, rngs={"dropout": …, "augment": …})`. Parameters of modality V
    are under `V`: those of its encoder under `V/encoder`, those of its network under `V_network`.

    Attributes:
      config: see `EmotionModelConfig`.
      num_categories: C; 0 for attributes alone.
      encoders: for each of `config.encoder_modalities`.
    """

    config: EmotionModelConfig
    num_categories: int
    encoders: Mapping[str, EncoderPart] = dataclasses.field(default_factory=dict)

    @property
    def min_samples(self) -> int:
        """Fewest samples at 16 kHz with which every modality of the waveform has a frame; 0 if no modality takes it."""
        own = [self.config.log_mel.min_samples] if "log_mel" in self.config.modalities else []
        return max([*own, *(part.min_samples for part in self.encoders.values())], default=0)

    @nn.compact
    def __call__(self, batch: Batch, train: bool = False) -> EmotionOutput:
        """Predicts every row of a batch; padding and filler rows have no influence on others.

        Args:
          batch: see `Batch`; a modality that a row lacks (no audio, no transcript) is replaced by what was learned
            for that case.
          train: whether to augment and apply dropout.
        """
        config, dtype = self.config, jnp.dtype(self.config.dtype)
        networks: dict[str, TCGRU] = {}
        frames: dict[str, Array] = {}
        masks: dict[str, Array] = {}
        for name in config.modalities:
            features, masks[name] = self._modality(name)(batch, train)
            networks[name] = TCGRU(config.network(name), dtype, name=f"{name}_network")
            frames[name] = networks[name].frames(features, masks[name], train)
        present = {name: mask.any(axis=1) for name, mask in masks.items()}
        if len(networks) == 1:
            (name,) = config.modalities
            embedding = networks[name].embed(frames[name], masks[name], train)
            return EmotionHeads(self.num_categories, dtype, name="heads")(embedding)
        return self._fused(networks, frames, masks, present, train)

    def _modality(self, name: str) -> Any:
        if name == "log_mel":
            return LogMelInput(self.config.log_mel, name=name)
        return EncoderInput(getattr(self.config, name), self.encoders[name], name, name=name)

    def _fused(
        self,
        networks: Mapping[str, TCGRU],
        frames: Mapping[str, Float[Array, "B _ _"]],
        masks: Mapping[str, Bool[Array, "B _"]],
        present: Mapping[str, Bool[Array, "B"]],
        train: bool,
    ) -> EmotionOutput:
        fusion, dtype = self.config.fusion, jnp.dtype(self.config.dtype)
        if fusion.kind == "cross_attention":
            if train:
                present = drop_modalities(self.make_rng("dropout"), present, fusion.modality_dropout)
            masks = {name: masks[name] & present[name][:, None] for name in masks}
            attention = CrossAttention(fusion.size, fusion.attention_heads, dtype, name="cross_attention")
            frames = attention(frames, masks)
        embeddings = {name: networks[name].embed(frames[name], masks[name], train) for name in frames}
        rate = 0.0 if fusion.kind == "cross_attention" else fusion.modality_dropout
        embeddings, present = Presence(rate, name="missing")(embeddings, present, train)
        if fusion.kind == "late":
            return LateHeads(self.num_categories, dtype, name="heads")(embeddings)
        if fusion.kind == "gated":
            joint = GatedSum(fusion.size, dtype, name="fusion")(embeddings, present)
        else:
            joint = Concatenation(fusion.size, dtype, name="fusion")(embeddings)
        return EmotionHeads(self.num_categories, dtype, name="heads")(joint)
