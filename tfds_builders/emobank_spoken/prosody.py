"""Prosody of a sentence: four cues that depend on its activation and dominance ratings, with noise.

With zA, zD the ratings in standard deviations (clipped to ±3), every cue k in (rate, pitch, range, level) is

    c_k = activation_k * zA + dominance_k * zD + SPEAKER_NOISE * u_k(talker) + UTTERANCE_NOISE * v_k(sentence)

with u, v standard normal, and becomes

    rate = exp(0.20 * c)   relative to the voice       pitch = 2.4 * c   semitones relative to the talker's F0
    range = 1 + 0.30 * c   relative to the voice       level = -32 + 3.5 * c   dBFS of the active speech

clipped to `RATE`, `PITCH` and `RANGE`. Valence has no effect on the prosody.
"""

import dataclasses
import math

from tfds_builders.emobank_spoken.sentences import Sentence, normal
from tfds_builders.emobank_spoken.talkers import Talker

# Rounded mean and standard deviation of the ratings; constants, so that sentences are independent.
_ACTIVATION_MEAN, _ACTIVATION_STD = 2.98, 0.35
_DOMINANCE_MEAN, _DOMINANCE_STD = 3.06, 0.21
_MAX_STDS = 3.0

SPEAKER_NOISE = 0.25
UTTERANCE_NOISE = 0.65

# Cue: (weight of activation, weight of dominance).
WEIGHTS = {"rate": (0.9, -0.2), "pitch": (0.75, -0.35), "range": (0.7, 0.2), "level": (0.65, 0.55)}

RATE = (0.5, 2.0)
"""Limits of the rate: what hibari-tts supports."""

PITCH = (-12.0, 12.0)
RANGE = (0.0, 2.0)
"""Limits of pitch and pitch range."""


@dataclasses.dataclass(frozen=True)
class Prosody:
    """Prosody drawn for an utterance.

    Attributes:
      rate: speaking rate relative to the voice's own.
      pitch: F0 in semitones relative to the talker's.
      pitch_range: excursions of F0 in semitones relative to the voice's own; 0 is monotone.
      level_db: level of the active speech (dB relative to full scale).
    """

    rate: float
    pitch: float
    pitch_range: float
    level_db: float


def draw_prosody(sentence: Sentence, talker: Talker, seed: int) -> Prosody:
    """Draws the prosody, which depends on sentence, talker and seed only."""
    activation, _, dominance = sentence.attributes
    z_activation = _clip((activation - _ACTIVATION_MEAN) / _ACTIVATION_STD, -_MAX_STDS, _MAX_STDS)
    z_dominance = _clip((dominance - _DOMINANCE_MEAN) / _DOMINANCE_STD, -_MAX_STDS, _MAX_STDS)

    def cue(name: str) -> float:
        activation_weight, dominance_weight = WEIGHTS[name]
        signal = activation_weight * z_activation + dominance_weight * z_dominance
        offset = SPEAKER_NOISE * normal(seed, name, talker.id)
        return signal + offset + UTTERANCE_NOISE * normal(seed, name, sentence.id)

    return Prosody(
        rate=_clip(math.exp(0.20 * cue("rate")), *RATE),
        pitch=_clip(2.4 * cue("pitch"), *PITCH),
        pitch_range=_clip(1 + 0.30 * cue("range"), *RANGE),
        level_db=-32 + 3.5 * cue("level"),
    )


def _clip(value: float, low: float, high: float) -> float:
    return min(max(value, low), high)
