"""The network of a pre-training: where it begins, and the encoder it becomes."""

import dataclasses
from typing import Any

from emojax.encoders import ComputeOptions, Encoder
from emojax.encoders.preprocess import WaveformPreprocess
from emojax.encoders.registry import family_of
from emojax.errors import ConfigError
from emojax.pretraining.config import PretrainConfig
from emojax.pretraining.masked_prediction import UnitPredictor
from emojax.types import SAMPLE_RATE

_PREPROCESS = WaveformPreprocess(
    normalize=True,
    settings={
        "feature_extractor_type": "Wav2Vec2FeatureExtractor",
        "do_normalize": True,
        "feature_size": 1,
        "padding_side": "right",
        "padding_value": 0.0,
        "return_attention_mask": True,
        "sampling_rate": SAMPLE_RATE,
    },
)


@dataclasses.dataclass(frozen=True)
class Network:
    """What is trained, and where it begins.

    Attributes:
      predictor: the encoder with its prediction head.
      published: content of the encoder's `config.json`.
      preprocess: of the encoder.
      start: parameters of the encoder to begin with; None for random ones.
    """

    predictor: UnitPredictor
    published: dict[str, Any]
    preprocess: WaveformPreprocess
    start: Any

    def encoder(self, params: Any) -> Encoder:
        """The encoder with these parameters, as `save_encoder` takes it."""
        return Encoder(_module(self.published, ComputeOptions()), params, self.published, self.preprocess)


def make_network(config: PretrainConfig, options: ComputeOptions, start: Encoder | None) -> Network:
    """Builds the network.

    Args:
      config: of the pre-training; its sizes count without `start`.
      options: how the encoder computes.
      start: encoder to go on from.

    Raises:
      CheckpointError: a size is not allowed.
      ConfigError: `start` is no speech encoder.
    """
    published, preprocess = config.encoder.published(), _PREPROCESS
    if start is not None:
        if not isinstance(start.preprocess, WaveformPreprocess):
            raise ConfigError(f"config.encoder.checkpoint: {config.encoder.checkpoint!r} is no speech encoder")
        published, preprocess = dict(start.config), start.preprocess
    sizes = _module(published, options).config
    predictor = UnitPredictor(sizes, config.prediction, config.units.clusters, options.dtype, options.remat)
    return Network(predictor, published, preprocess, None if start is None else start.params)


def _module(published: dict[str, Any], options: ComputeOptions) -> Any:
    return family_of(published).build_module(published, frozenset({"masked_spec_embed"}), options)
