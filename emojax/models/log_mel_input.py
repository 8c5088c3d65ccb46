"""Log-mel input: filterbank energies of the waveform, normalised and, in training, augmented."""

from typing import Annotated, Literal

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from emojax.audio import (
    LogMelConfig,
    SpecAugmentConfig,
    TimeStretchConfig,
    VTLPConfig,
    add_deltas,
    frame_mask,
    log_mel,
    normalise_utterance,
    perturb_vocal_tract,
    spec_augment,
    stretch_time,
)
from emojax.errors import ConfigError
from emojax.models.normalisation import CorpusNormalisation
from emojax.models.tcgru import TCGRUConfig
from emojax.schema import Ge, Le, settings
from emojax.types import Batch


@settings
class DeltasConfig:
    """Slopes over time, appended to the features."""

    order: Annotated[Literal[0, 1, 2], "0: none; 1: slopes; 2: slopes and slopes of slopes."] = 0
    width: Annotated[int, Ge(3), Le(1001), "Frames that a slope is fitted to; odd."] = 9

    def __post_init__(self):
        """Checks rules between fields."""
        if self.width % 2 == 0:
            raise ConfigError(f"deltas.width must be odd, got {self.width}")


@settings
class LogMelInputConfig:
    """Log-mel filterbank energies, their augmentation in training, and the network on them."""

    filterbank: LogMelConfig = LogMelConfig()
    normalisation: Annotated[
        Literal["none", "utterance", "corpus"],
        '"utterance": each utterance to mean 0 and variance 1 per band, which removes its level; "corpus": by the '
        "training corpus's mean and standard deviation, which keeps differences of level.",
    ] = "corpus"
    deltas: DeltasConfig = DeltasConfig()
    vtlp: VTLPConfig = VTLPConfig()
    time_stretch: TimeStretchConfig = TimeStretchConfig()
    spec_augment: SpecAugmentConfig = SpecAugmentConfig()
    stack: Annotated[
        int, Ge(1), Le(100), "Neighbouring frames concatenated into one, so that the network runs that much less often."
    ] = 1
    network: TCGRUConfig = TCGRUConfig()

    @property
    def min_samples(self) -> int:
        """Fewest samples at 16 kHz that give one frame.

        1 without stacking, because a clip shorter than a frame is extended by zeros; else enough for a whole stack.
        """
        if self.stack == 1:
            return 1
        return self.filterbank.window_samples + (self.stack - 1) * self.filterbank.hop_samples


class LogMelInput(nn.Module):
    """Log-mel frames of waveforms, normalised and, in training, augmented.

    With `corpus` normalisation the variable collection `statistics` holds `mean` and `std` (K,): see
    `CorpusNormalisation`.

    Attributes:
      config: see `LogMelInputConfig`.
    """

    config: LogMelInputConfig

    @nn.compact
    def __call__(self, batch: Batch, train: bool = False) -> tuple[Float[Array, "B T D"], Bool[Array, "B T"]]:
        """Computes frames and their mask; in training with the rng `augment`."""
        config = self.config
        features, mask = raw_log_mel(batch, config.filterbank)
        if train:
            features, mask = self._augment_voice(features, mask)
        if config.normalisation == "utterance":
            features = normalise_utterance(features, mask)
        elif config.normalisation == "corpus":
            normalisation = CorpusNormalisation()
            nn.share_scope(self, normalisation)
            features = normalisation(features, mask)
        features = add_deltas(features, mask, config.deltas.width, config.deltas.order)
        if train and (config.spec_augment.num_time_masks or config.spec_augment.num_frequency_masks):
            features = spec_augment(self.make_rng("augment"), features, mask, config.spec_augment)
        return stack_frames(features, mask, config.stack)

    def _augment_voice(self, features: Array, mask: Array) -> tuple[Array, Array]:
        config = self.config
        if config.vtlp.max_warp:
            features = perturb_vocal_tract(self.make_rng("augment"), features, config.filterbank, config.vtlp)
        if config.time_stretch.max_stretch:
            features, mask = stretch_time(self.make_rng("augment"), features, mask, config.time_stretch)
        return features, mask


def stack_frames(
    features: Float[Array, "B T D"], mask: Bool[Array, "B T"], count: int
) -> tuple[Float[Array, "B U E"], Bool[Array, "B U"]]:
    """Concatenates every `count` frames into one, U = T // count; an incomplete last stack is dropped."""
    if count == 1:
        return features, mask
    stacks = features.shape[1] // count
    kept = features[:, : stacks * count]
    valid = mask.sum(axis=1) // count
    return kept.reshape(features.shape[0], stacks, count * features.shape[2]), jnp.arange(stacks) < valid[:, None]


def raw_log_mel(batch: Batch, config: LogMelConfig) -> tuple[Float[Array, "B T K"], Bool[Array, "B T"]]:
    """Log-mel energies before normalisation, and the mask of frames that lie inside the clips."""
    waveform = jnp.where(batch.sample_mask, batch.waveform, 0)
    features = log_mel(waveform, config)
    # No gradient with respect to the waveform is needed: the backward pass ends here.
    return jax.lax.stop_gradient(features), frame_mask(batch.num_samples, features.shape[1], config)
