"""Prosody of a sentence: four cues that depend on its activation and dominance ratings, with noise.

With zA, zD the ratings in standard deviations (clipped to ±3), every cue k in (rate, pitch, range, level) is

    c_k = activation_k * zA + dominance_k * zD + SPEAKER_NOISE * u_k(speaker) + UTTERANCE_NOISE * v_k(utterance)

with u, v standard normal, and becomes

    rate = 165 * exp(0.20 * c)  words per minute        pitch = 50 + 10 * c   (about 2.4 semitones per unit)
    range = 50 + 15 * c         (50: the voice's own)   level = -32 + 3.5 * c dBFS of the active speech

clipped to the range of espeak-ng. Valence has no effect on the prosody.
"""

import dataclasses
import math

from tfds_builders.emobank_spoken.espeak import PITCH, RANGE, RATE_WPM
from tfds_builders.emobank_spoken.sentences import Sentence, normal, uniform
from tfds_builders.emobank_spoken.voices import SPEAKERS, Speaker

# Rounded mean and standard deviation of the ratings; constants, so that sentences are independent.
_ACTIVATION_MEAN, _ACTIVATION_STD = 2.98, 0.35
_DOMINANCE_MEAN, _DOMINANCE_STD = 3.06, 0.21
_MAX_STDS = 3.0

SPEAKER_NOISE = 0.25
UTTERANCE_NOISE = 0.65

# Cue: (weight of activation, weight of dominance).
WEIGHTS = {"rate": (0.9, -0.2), "pitch": (0.75, -0.35), "range": (0.7, 0.2), "level": (0.65, 0.55)}


@dataclasses.dataclass(frozen=True)
class Prosody:
    """Prosody drawn for an utterance.

    Attributes:
      rate: words per minute.
      pitch: pitch for espeak-ng; 50 is the voice's default.
      pitch_range: pitch range for espeak-ng; 50 is the voice's default.
      level_db: level of the active speech (dB relative to full scale).
    """

    rate: int
    pitch: int
    pitch_range: int
    level_db: float


def draw_speaker(sentence: Sentence, seed: int) -> Speaker:
    """Draws one of the speakers of the sentence's split, with equal probability."""
    speakers = [speaker for speaker in SPEAKERS if speaker.split == sentence.split]
    return speakers[int(uniform(seed, "speaker", sentence.id) * len(speakers))]


def draw_prosody(sentence: Sentence, speaker: Speaker, seed: int) -> Prosody:
    """Draws the prosody, which depends on sentence, speaker and seed only."""
    activation, _, dominance = sentence.attributes
    z_activation = _clip((activation - _ACTIVATION_MEAN) / _ACTIVATION_STD, -_MAX_STDS, _MAX_STDS)
    z_dominance = _clip((dominance - _DOMINANCE_MEAN) / _DOMINANCE_STD, -_MAX_STDS, _MAX_STDS)

    def cue(name: str) -> float:
        activation_weight, dominance_weight = WEIGHTS[name]
        signal = activation_weight * z_activation + dominance_weight * z_dominance
        offset = SPEAKER_NOISE * normal(seed, name, speaker.variant)
        return signal + offset + UTTERANCE_NOISE * normal(seed, name, sentence.id)

    return Prosody(
        rate=round(_clip(165 * math.exp(0.20 * cue("rate")), *RATE_WPM)),
        pitch=round(_clip(50 + 10 * cue("pitch"), *PITCH)),
        pitch_range=round(_clip(50 + 15 * cue("range"), *RANGE)),
        level_db=round(-32 + 3.5 * cue("level"), 2),
    )


def _clip(value: float, low: float, high: float) -> float:
    return min(max(value, low), high)
