"""The emotion model: one modality or several, their networks, fusion and heads, composed from a config."""

import dataclasses
import functools
from collections.abc import Mapping
from typing import Annotated, Any, Literal

import flax.linen as nn
import jax.numpy as jnp

from emojax.encoders import resolve_layers
from emojax.errors import ConfigError
from emojax.models.encoder_input import AcousticInputConfig, EncoderInput, EncoderPart, LexicalInputConfig
from emojax.models.fusion import FUSIONS, FusionConfig
from emojax.models.heads import EmotionHeads, ModalityFrames, clip_attributes
from emojax.models.log_mel_input import LogMelInput, LogMelInputConfig
from emojax.models.tcgru import TCGRU, TCGRUConfig
from emojax.schema import Ge, Le, MinLen, settings
from emojax.types import Batch, EmotionOutput

ModalityName = Literal["log_mel", "acoustic", "lexical"]

ENCODER_MODALITIES: tuple[str, ...] = ("acoustic", "lexical")
"""Modalities that are hidden states of a pre-trained encoder: of the waveform, of the transcript."""


@settings
class EmotionModelConfig:
    """Inputs of the model, their networks and fusion."""

    modalities: Annotated[
        tuple[ModalityName, ...],
        MinLen(1),
        'Inputs, fused if several: "log_mel" (filterbank energies), "acoustic" (hidden states of a speech encoder), '
        '"lexical" (hidden states of a text encoder on the transcript).',
    ] = ("log_mel",)
    log_mel: LogMelInputConfig = LogMelInputConfig()
    acoustic: AcousticInputConfig = AcousticInputConfig()
    lexical: LexicalInputConfig = LexicalInputConfig()
    fusion: FusionConfig = FusionConfig()
    init_from: Annotated[
        str,
        "Workdir whose parameters and statistics are the initial values where name and shape are the same, encoders "
        "included; WORKDIR/init_from.json lists the others. A run that continues does not read it again. Empty: none.",
    ] = ""
    keep_stored_encoders: Annotated[
        bool,
        "Whether the workdir also keeps the weights of encoders whose hidden states come from a store, so that it "
        "predicts new audio wherever it is moved; if not, that needs the checkpoint, which is compared with the one of "
        "the store. Weights of encoders that compute in training are always kept.",
    ] = False
    clip_attributes: Annotated[
        bool,
        "Whether attributes outside of the corpus's scale are set to its end in validation, evaluation and prediction; "
        "in training they are not, where a clipped one would have no gradient.",
    ] = True
    rating_bins: Annotated[
        int,
        Ge(0),
        Le(101),
        "Values of the rating scale, lowest to highest, over which the model predicts a distribution of ratings per "
        "attribute, e.g. 7 for ratings from 1 to 7; the attribute is its expectation. 0: attributes alone. "
        "See docs/raters.md.",
    ] = 0
    dtype: Annotated[
        Literal["float32", "bfloat16"],
        "Type of matrix products; parameters, statistics, losses and outputs are always float32.",
    ] = "float32"

    def __post_init__(self):
        """Checks rules between fields."""
        if len(set(self.modalities)) != len(self.modalities):
            raise ConfigError(f"model.modalities must name each modality once, got {self.modalities}")
        if self.rating_bins == 1:
            raise ConfigError("model.rating_bins must be 0 or >= 2, got 1")
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
    """Predicts attributes and categories of a batch.

    `apply({"params": …, "statistics": …}, batch, train=…, rngs={"dropout": …, "augment": …})`. Parameters of the
    encoder of modality M are under `M/encoder`, those of its network under `M_network`.

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
        """Fewest samples at 16 kHz that give every modality of the waveform a frame; 0 without such a modality."""
        own = [self.config.log_mel.min_samples] if "log_mel" in self.config.modalities else []
        return max([*own, *(part.min_samples for part in self.encoders.values())], default=0)

    @property
    def max_samples(self) -> int | None:
        """Longest input of the speech encoder in samples at 16 kHz; None: no limit."""
        acoustic = self.encoders.get("acoustic")
        return acoustic.inputs.longest if acoustic else None

    @property
    def num_concatenated_layers(self) -> int:
        """Layers of an encoder whose pooled rows are the embedding, one after the other; else 1."""
        (modality, *others) = self.config.modalities
        settings = getattr(self.config, modality)
        if others or modality not in self.encoders or settings.pooling == "none" or settings.combine != "concatenate":
            return 1
        return len(resolve_layers(settings.layers, self.encoders[modality].num_layers, f"model.{modality}.layers"))

    @nn.compact
    def __call__(self, batch: Batch, train: bool = False) -> EmotionOutput:
        """Predicts every row of a batch; padding and filler rows have no influence on others.

        Args:
          batch: see `Batch`; a modality that a row lacks (no audio, no transcript) is replaced by a learned embedding.
          train: whether to augment and apply dropout.
        """
        output = self._predict(batch, train)
        return clip_attributes(output) if self.config.clip_attributes and not train else output

    def _predict(self, batch: Batch, train: bool) -> EmotionOutput:
        config, dtype = self.config, jnp.dtype(self.config.dtype)
        modalities: dict[str, ModalityFrames] = {}
        for name in config.modalities:
            features, mask = input_module(self, name)(batch, train)
            network = TCGRU(config.network(name), dtype, name=f"{name}_network")
            embed = functools.partial(network.embed, train=train)
            modalities[name] = ModalityFrames(network.frames(features, mask, train), mask, embed)
        if len(modalities) == 1:
            (only,) = modalities.values()
            heads = EmotionHeads(self.num_categories, dtype, config.rating_bins, name="heads")
            return heads(only.embed(only.frames, only.mask))
        fusion = FUSIONS[config.fusion.kind](self.num_categories, config.fusion, dtype, config.rating_bins)
        nn.share_scope(self, fusion)  # `heads` is at the same path with and without fusion
        return fusion(modalities, train)


def input_module(model: EmotionModel, name: str) -> Any:
    """Module of a modality's frames; its variables are those of the model under `name`.

    Called in a method of the model it is a part of it, else a module of its own.
    """
    if name == "log_mel":
        return LogMelInput(model.config.log_mel, name=name)
    return EncoderInput(getattr(model.config, name), model.encoders[name], name, name=name)
