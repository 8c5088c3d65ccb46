"""How a sentence is delivered: its activation and dominance ratings move four prosodic cues, buried in noise.

With zA, zD the ratings in standard deviations (clipped to ±3), every cue k in (rate, pitch, range, level) is

    c_k = activation_k * zA + dominance_k * zD + SPEAKER_NOISE * u_k(speaker) + UTTERANCE_NOISE * v_k(utterance)

with u, v standard normal, and becomes

    rate = 165 * exp(0.20 * c)  words per minute        pitch = 50 + 10 * c   (about 2.4 semitones per unit)
    range = 50 + 15 * c         (50: the voice's own)   level = -32 + 3.5 * c dBFS of the active speech

limited to what espeak-ng takes. Valence moves nothing: it is in the words alone.
"""

import dataclasses
import math

from tfds_builders.emobank_spoken.draws import normal, uniform
from tfds_builders.emobank_spoken.espeak import PITCH, RANGE, RATE_WPM
from tfds_builders.emobank_spoken.sentences import Sentence
from tfds_builders.emobank_spoken.voices import SPEAKERS, Speaker

# Mean and standard deviation of the ratings, rounded: constants, so that no sentence depends on another.
_ACTIVATION_MEAN, _ACTIVATION_STD = 2.98, 0.35
_DOMINANCE_MEAN, _DOMINANCE_STD = 3.06, 0.21
_MAX_STDS = 3.0

SPEAKER_NOISE = 0.25
UTTERANCE_NOISE = 0.65

# Cue: (weight of activation, weight of dominance).
WEIGHTS = {"rate": (0.9, -0.2), "pitch": (0.75, -0.35), "range": (0.7, 0.2), "level": (0.65, 0.55)}


@dataclasses.dataclass(frozen=True)
class Prosody:
    """What is drawn for an utterance.

    Attributes:
      rate: words per minute.
      pitch: espeak-ng's value; 50 is the voice's own.
      pitch_range: espeak-ng's value; 50 is the voice's own.
      level_db: level of the active speech (dB relative to full scale).
    """

    rate: int
    pitch: int
    pitch_range: int
    level_db: float


def draw_speaker(sentence: Sentence, seed: int) -> Speaker:
    """One of the speakers of the sentence's split, each equally likely."""
    speakers = [speaker for speaker in SPEAKERS if speaker.split == sentence.split]
    return speakers[int(uniform(seed, "speaker", sentence.id) * len(speakers))]


def draw_prosody(sentence: Sentence, speaker: Speaker, seed: int) -> Prosody:
    """Draws the delivery; the same for the same sentence, speaker and seed, whatever else is drawn."""
    activation, _, dominance = sentence.attributes
    z_activation = _limited((activation - _ACTIVATION_MEAN) / _ACTIVATION_STD, -_MAX_STDS, _MAX_STDS)
    z_dominance = _limited((dominance - _DOMINANCE_MEAN) / _DOMINANCE_STD, -_MAX_STDS, _MAX_STDS)

    def cue(name: str) -> float:
        of_activation, of_dominance = WEIGHTS[name]
        signal = of_activation * z_activation + of_dominance * z_dominance
        offset = SPEAKER_NOISE * normal(seed, name, speaker.variant)
        return signal + offset + UTTERANCE_NOISE * normal(seed, name, sentence.id)

    return Prosody(
        rate=round(_limited(165 * math.exp(0.20 * cue("rate")), *RATE_WPM)),
        pitch=round(_limited(50 + 10 * cue("pitch"), *PITCH)),
        pitch_range=round(_limited(50 + 15 * cue("range"), *RANGE)),
        level_db=round(-32 + 3.5 * cue("level"), 2),
    )


def _limited(value: float, low: float, high: float) -> float:
    return min(max(value, low), high)
