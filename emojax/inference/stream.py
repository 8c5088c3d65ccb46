"""Streaming prediction: chunks of audio of any length in, running predictions out."""

import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Float32

from emojax.audio import check_samples, log_mel, normalise_with
from emojax.errors import AudioError, ConfigError
from emojax.inference.predictor import Prediction, Predictor
from emojax.models import TCGRU, EmotionHeads, LogMelInputConfig, clip_attributes, stack_frames
from emojax.models.tcgru import StreamState
from emojax.parallel import check_not_forked
from emojax.types import SAMPLE_RATE, EmotionOutput

_ANY_UP_TO, _MOST_STACKS = 8, 256
"""Stacked frames per call: any number up to 8, or a power of two up to 256, so that few shapes are compiled."""


class Stream:
    """Running predictions of one stream.

    After any chunk the prediction equals, to rounding, the model's prediction for all samples since the start. The
    state has a small constant size: less than one frame of samples, and `state`, a tree of small arrays.

    Models that can stream have log-mel as their only input, normalised by the corpus or not at all, without deltas, and
    causal convolutions (`network.causal`).
    """

    def __init__(self, model: Predictor):
        """Starts a stream.

        Args:
          model: model from `emojax.load`.

        Raises:
          ConfigError: the model cannot stream; the message gives the reason.
        """
        self._model = model
        trained = model.trained
        self._settings = check_streaming(trained.config.model.modalities, trained.config.model.log_mel)
        self._network = TCGRU(self._settings.network, jnp.dtype(trained.config.model.dtype))
        settings = trained.config.model
        self._heads = EmotionHeads(trained.model.num_categories, jnp.dtype(settings.dtype), settings.rating_bins)
        clip = trained.config.model.clip_attributes
        self._advance = functools.partial(_advance, self._settings, self._network, self._heads, clip)
        self._variables = {
            "network": {"params": trained.variables["params"].get("log_mel_network", {})},
            "heads": {"params": trained.variables["params"]["heads"]},
            "statistics": trained.variables.get("statistics", {}).get("log_mel", {}),
        }
        self.reset()

    def reset(self) -> None:
        """Resets the state; the next chunk starts a new stream."""
        features = jnp.zeros((1, 1, self._settings.filterbank.num_bands * self._settings.stack))
        self.state: StreamState = self._network.apply(self._variables["network"], features, method="start")  # type: ignore[assignment]
        self._waiting = np.zeros(0, np.float32)
        self._output: EmotionOutput | None = None

    def advance(self, samples: Float[Array, "1 S"], state: StreamState) -> tuple[EmotionOutput, StreamState]:
        """Computes outputs and the next state from whole stacks of frames; a pure function for use in programs."""
        return self._advance(self._variables, samples, state)

    def __call__(self, chunk: Float32[np.ndarray, "S"]) -> Prediction | None:
        """Adds a chunk and returns the updated prediction.

        Args:
          chunk: 16 kHz mono samples, float with full scale 1.0 or int16; any length, 0 included.

        Returns:
          The prediction for all samples since the start; None until the first frames are complete (25 ms, or longer
          with `log_mel.stack`).

        Raises:
          AudioError: the chunk is not a mono waveform, or has samples that are not finite or above `MAX_MAGNITUDE`; the
            state of the stream is unchanged.
        """
        check_not_forked()
        self._waiting = np.concatenate([self._waiting, _waveform(chunk)])
        hop, window = self._settings.filterbank.hop_samples, self._settings.filterbank.window_samples
        stack = hop * self._settings.stack
        while True:
            # Number of complete stacks of frames.
            complete = (len(self._waiting) - window + hop) // stack if len(self._waiting) >= window else 0
            if complete < 1:
                break
            stacks = complete if complete <= _ANY_UP_TO else min(1 << (complete.bit_length() - 1), _MOST_STACKS)
            samples = self._waiting[: stacks * stack - hop + window]
            self._output, self.state = self._advance(self._variables, samples[None], self.state)
            self._waiting = self._waiting[stacks * stack :]
        return None if self._output is None else self._model.named(jax.device_get(self._output), 0)


def check_streaming(modalities: tuple[str, ...], settings: LogMelInputConfig) -> LogMelInputConfig:
    """Checks that a model can run on a stream; returns its settings of the log-mel input.

    Raises:
      ConfigError: it cannot; the message names the field.
    """
    if modalities != ("log_mel",):
        raise ConfigError(f"model.modalities must be ('log_mel',) for streaming, got {modalities}")
    if settings.normalisation == "utterance":
        raise ConfigError("model.log_mel.normalisation must be 'corpus' or 'none' for streaming, got 'utterance'")
    if settings.deltas.order:
        raise ConfigError(
            f"model.log_mel.deltas.order must be 0 for streaming (deltas look ahead), got {settings.deltas.order}"
        )
    if settings.network.conv_channels and not settings.network.causal:
        raise ConfigError("model.log_mel.network.causal must be True for streaming, got False")
    return settings


@functools.partial(jax.jit, static_argnums=(0, 1, 2, 3))
def _advance(
    settings: LogMelInputConfig,
    network: TCGRU,
    heads: EmotionHeads,
    clip: bool,
    variables: dict[str, Any],
    waveform: Float[Array, "1 S"],
    state: StreamState,
) -> tuple[EmotionOutput, StreamState]:
    """Computes the prediction and the new state from whole stacks of frames."""
    features = log_mel(waveform, settings.filterbank)
    mask = jnp.ones(features.shape[:2], bool)
    if settings.normalisation == "corpus":
        statistics = variables["statistics"]
        features = normalise_with(features, mask, statistics["mean"], statistics["std"])
    stacked, _ = stack_frames(features, mask, settings.stack)
    advanced: Any = network.apply(variables["network"], stacked, state, method="advance")
    output: Any = heads.apply(variables["heads"], advanced[0])
    return clip_attributes(output) if clip else output, advanced[1]


def _waveform(chunk: Any) -> Float32[np.ndarray, "S"]:
    samples = np.asarray(chunk)
    if samples.ndim != 1 or samples.dtype.kind not in "fi":
        raise AudioError(
            f"chunk must be mono samples at {SAMPLE_RATE} Hz, got {samples.dtype} of shape {samples.shape}"
        )
    if samples.dtype.kind == "i":
        if samples.dtype != np.int16:
            raise AudioError(f"chunk must be int16 or floating point, got {samples.dtype}")
        return samples.astype(np.float32) / 2**15
    check_samples(samples, "chunk")
    return samples.astype(np.float32)
