"""HuBERT, wav2vec 2.0 and WavLM as one Linen module, and the families `load_encoder` knows them by."""

from collections.abc import Mapping
from typing import Any

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from emojax.encoders.encoder_output import EncoderOutput
from emojax.encoders.family import ComputeOptions, Family
from emojax.encoders.mixed_precision import Linear, layer_norm, wide
from emojax.encoders.speech_config import PublishedSpeechConfig, SpeechEncoderConfig, read_speech_config
from emojax.encoders.speech_features import FeatureEncoder, num_frames
from emojax.encoders.speech_tensors import SPEECH_AXES, speech_tensor_table
from emojax.encoders.speech_transformer import SpeechTransformer
from emojax.encoders.time_masking import mask_states


class SpeechEncoder(nn.Module):
    """HuBERT (Hsu et al. 2021), wav2vec 2.0 (Baevski et al. 2020) or WavLM (Chen et al. 2022) without a task head.

    The states of a clip do not depend on what it is batched with, in all variants.
    """

    config: SpeechEncoderConfig
    dtype: Any = jnp.float32
    remat: bool = False
    scan_layers: bool = False

    @property
    def min_samples(self) -> int:
        """Fewest samples at 16 kHz that give one frame: the receptive field of the convolutions (400 as published)."""
        return self.config.convolution.receptive_field

    @nn.compact
    def __call__(
        self,
        waveform: Float[Array, "B S"],
        num_samples: Int[Array, "B"],
        *,
        masked: Bool[Array, "B T"] | None = None,
        train: bool = False,
        hidden_states: bool = False,
    ) -> EncoderOutput:
        """States every 20 ms, each seeing 25 ms before the transformer.

        Args:
          waveform: 16 kHz mono, pre-processed as the checkpoint asks for; what stands after `num_samples` never
            matters.
          num_samples: valid samples per row; fewer than the receptive field (400) give an all-False mask row.
          masked: frames hidden from the transformer; None leaves the choice to the checkpoint's config, in training.
          train: dropout, layer drop and masking are on; needs the rng stream `dropout`.
          hidden_states: whether to keep the states of every layer.

        Raises:
          AudioError: S is below the receptive field.
        """
        config = self.config
        # Zeros, because padding that is not finite would reach the gradients through the masked statistics.
        waveform = jnp.where(jnp.arange(waveform.shape[1]) < num_samples[:, None], waveform, 0.0)
        # In bfloat16 the convolutions alone would bring an error of 4e-2 into states of unit scale, all else 2e-2.
        waveform = waveform.astype(wide(self.dtype))
        features = FeatureEncoder(config.convolution, self.remat, name="feature_encoder")(waveform, num_samples)
        lengths = num_frames(num_samples, config.convolution)
        mask = jnp.arange(features.shape[1]) < lengths[:, None]
        states = FeatureProjection(config, self.dtype, train, name="feature_projection")(features)
        states = self._mask(states, lengths, masked, train)
        transformer = SpeechTransformer(config, self.dtype, self.remat, self.scan_layers, name="transformer")
        last, kept = transformer(states, mask, train=train, hidden_states=hidden_states)
        return EncoderOutput(last, mask, kept)

    def _mask(
        self, states: Float[Array, "B T D"], lengths: Int[Array, "B"], masked: Bool[Array, "B T"] | None, train: bool
    ) -> Float[Array, "B T D"]:
        config = self.config
        embedding = jnp.zeros(config.hidden_size)
        if config.mask_embedding:
            embedding = self.param("mask_embedding", nn.initializers.uniform(1.0), (config.hidden_size,))
        if masked is not None:
            return jnp.where(masked[..., None], embedding.astype(states.dtype), states)
        if not train or max(config.masking.time_probability, config.masking.feature_probability) == 0:
            return states
        return mask_states(self.make_rng("dropout"), states, lengths, embedding, config.masking)


def min_samples(module: nn.Module) -> int:
    """Fewest samples at 16 kHz that give an encoder's module one frame; 0 for one that takes no waveform."""
    return module.min_samples if isinstance(module, SpeechEncoder) else 0


class FeatureProjection(nn.Module):
    """Normalised features, projected to the width of the transformer."""

    config: SpeechEncoderConfig
    dtype: Any
    train: bool

    @nn.compact
    def __call__(self, features: Float[Array, "B T C"]) -> Float[Array, "B T D"]:
        """Input of the transformer, before masking."""
        config = self.config
        if config.projection_norm:
            features = layer_norm(config.layer_norm_epsilon, self.dtype, "norm")(features)
        states = Linear(config.hidden_size, self.dtype, name="dense")(features)
        return nn.Dropout(config.projection_dropout, deterministic=not self.train)(states)


def _build_module(config: Mapping[str, Any], names: frozenset[str], options: ComputeOptions) -> SpeechEncoder:
    sizes = read_speech_config(config, mask_embedding="masked_spec_embed" in names)
    return SpeechEncoder(sizes, options.dtype, options.remat, options.scan_layers)


def _family(model_type: str, architecture: str) -> Family:
    return Family(
        model_type=model_type,
        modality="speech",
        architecture=architecture,
        build_module=_build_module,
        tensor_table=speech_tensor_table,
        axes=SPEECH_AXES,
        settings=PublishedSpeechConfig,
    )


SPEECH_FAMILIES = {
    "hubert": _family("hubert", "HubertModel"),
    "wav2vec2": _family("wav2vec2", "Wav2Vec2Model"),
    "wavlm": _family("wavlm", "WavLMModel"),
}
"""`model_type` -> family of each speech encoder."""
