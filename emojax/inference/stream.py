"""A trained model on a stream: chunks of sound of any length in, running estimates out."""

import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Float32

from emojax.audio import check_samples, log_mel, normalise_with
from emojax.errors import AudioError, ConfigError
from emojax.inference.predictor import Prediction, Predictor
from emojax.models import TCGRU, EmotionHeads, LogMelInputConfig, stack_frames
from emojax.models.tcgru import StreamState
from emojax.parallel import check_not_forked
from emojax.types import SAMPLE_RATE, EmotionOutput

_ANY_UP_TO, _MOST_STACKS = 8, 256
"""Stacked frames computed by one call: up to 8, or a power of two up to 256, so that few shapes are compiled."""


class Stream:
    """Running estimates of one stream.

    After any chunk the estimate equals the model's prediction for everything heard so far, to rounding. What is kept is
    small and of constant size: less than a frame of samples, and `state`, a tree of small arrays.

    A model can run on a stream if log-mel is its only input, its filterbank is normalised by the corpus or not at all
    and has no slopes, and no convolution looks ahead (`network.causal`).
    """

    def __init__(self, model: Predictor):
        """Begins a stream.

        Args:
          model: from `emojax.load`.

        Raises:
          ConfigError: the model cannot run on a stream; the message says why.
        """
        self._model = model
        trained = model.trained
        self._settings = _streaming_settings(trained.config.model.modalities, trained.config.model.log_mel)
        self._network = TCGRU(self._settings.network, jnp.dtype(trained.config.model.dtype))
        self._heads = EmotionHeads(trained.model.num_categories, jnp.dtype(trained.config.model.dtype))
        self._advance = functools.partial(_advance, self._settings, self._network, self._heads)
        self._variables = {
            "network": {"params": trained.variables["params"]["log_mel_network"]},
            "heads": {"params": trained.variables["params"]["heads"]},
            "statistics": trained.variables.get("statistics", {}).get("log_mel", {}),
        }
        self.reset()

    def reset(self) -> None:
        """Forgets everything heard; the next chunk begins a new stream."""
        features = jnp.zeros((1, 1, self._settings.filterbank.num_bands * self._settings.stack))
        self.state: StreamState = self._network.apply(self._variables["network"], features, method="start")  # type: ignore[assignment]
        self._waiting = np.zeros(0, np.float32)
        self._output: EmotionOutput | None = None

    def __call__(self, chunk: Float32[np.ndarray, "S"]) -> Prediction | None:
        """Hears a chunk.

        Args:
          chunk: 16 kHz mono, float with full scale 1.0 or int16; of any length, also 0.

        Returns:
          The estimate for everything heard so far; None until the first frames are complete (25 ms, or so many more
          as `log_mel.stack` asks for).

        Raises:
          AudioError: the chunk is no mono waveform, or has samples that are not finite or above `MAX_MAGNITUDE`; the
            stream goes on as if it had not come.
        """
        check_not_forked()
        self._waiting = np.concatenate([self._waiting, _waveform(chunk)])
        hop, window = self._settings.filterbank.hop_samples, self._settings.filterbank.window_samples
        stack = hop * self._settings.stack
        while True:
            # So many stacks are complete.
            complete = (len(self._waiting) - window + hop) // stack if len(self._waiting) >= window else 0
            if complete < 1:
                break
            stacks = complete if complete <= _ANY_UP_TO else min(1 << (complete.bit_length() - 1), _MOST_STACKS)
            samples = self._waiting[: stacks * stack - hop + window]
            self._output, self.state = self._advance(self._variables, samples[None], self.state)
            self._waiting = self._waiting[stacks * stack :]
        return None if self._output is None else self._model.named(jax.device_get(self._output), 0)


def _streaming_settings(modalities: tuple[str, ...], settings: LogMelInputConfig) -> LogMelInputConfig:
    if modalities != ("log_mel",):
        raise ConfigError(f"model.modalities: {modalities} is not allowed in a stream; allowed: ('log_mel',)")
    if settings.normalisation == "utterance":
        raise ConfigError("log_mel.normalisation: 'utterance' is not allowed in a stream; allowed: 'corpus', 'none'")
    if settings.deltas.order:
        raise ConfigError("model.log_mel.deltas.order: slopes look ahead; allowed in a stream: 0")
    if settings.network.conv_channels and not settings.network.causal:
        raise ConfigError("model.log_mel.network.causal: False is not allowed in a stream; allowed: True")
    return settings


@functools.partial(jax.jit, static_argnums=(0, 1, 2))
def _advance(
    settings: LogMelInputConfig,
    network: TCGRU,
    heads: EmotionHeads,
    variables: dict[str, Any],
    waveform: Float[Array, "1 S"],
    state: StreamState,
) -> tuple[EmotionOutput, StreamState]:
    """Whole stacks of frames in, the estimate and the new state out."""
    features = log_mel(waveform, settings.filterbank)
    mask = jnp.ones(features.shape[:2], bool)
    if settings.normalisation == "corpus":
        statistics = variables["statistics"]
        features = normalise_with(features, mask, statistics["mean"], statistics["std"])
    stacked, _ = stack_frames(features, mask, settings.stack)
    advanced: Any = network.apply(variables["network"], stacked, state, method="advance")
    output: Any = heads.apply(variables["heads"], advanced[0])
    return output, advanced[1]


def _waveform(chunk: Any) -> Float32[np.ndarray, "S"]:
    samples = np.asarray(chunk)
    if samples.ndim != 1 or samples.dtype.kind not in "fi":
        raise AudioError(f"chunk: {samples.dtype} of shape {samples.shape}; allowed: mono samples at {SAMPLE_RATE} Hz")
    if samples.dtype.kind == "i":
        if samples.dtype != np.int16:
            raise AudioError(f"chunk: {samples.dtype} is not allowed; allowed: int16 or floating point")
        return samples.astype(np.float32) / 2**15
    check_samples(samples, "chunk")
    return samples.astype(np.float32)
