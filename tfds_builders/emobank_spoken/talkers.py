"""Talkers: base voices changed in vocal tract length, F0, spectral tilt and breathiness, each in one split."""

import dataclasses

from tfds_builders.emobank_spoken.sentences import Sentence, uniform

TEST_OTHER = "test_other"
"""Split whose talkers are made from `OTHER_VOICE`."""

VOICE, OTHER_VOICE = "heart", "joe"
"""Base voices: of hibari-tts (female) and of Piper (male)."""


@dataclasses.dataclass(frozen=True)
class Talker:
    """A talker.

    Attributes:
      id: unique speaker id.
      split: split of the talker.
      gender: gender that tract length and F0 are typical of.
      tract: length of the vocal tract relative to the base voice; formants are divided by it.
      f0: median F0 (Hz) of neutral speech.
      tilt: spectral tilt added to the base voice (dB per octave).
      breath: level of the noise in voiced frames relative to the base voice (dB).
    """

    id: str
    split: str
    gender: str
    tract: float
    f0: float
    tilt: float
    breath: float

    @property
    def voice(self) -> str:
        """Base voice."""
        return OTHER_VOICE if self.split == TEST_OTHER else VOICE


def _talkers(split: str, gender: str, *changes: tuple[float, float, float, float]) -> tuple[Talker, ...]:
    name = f"{split}_{gender}"
    return tuple(Talker(f"{name}_{number}", split, gender, *row) for number, row in enumerate(changes, 1))


# (tract, f0, tilt, breath). Chosen from random ones: each next talker is the farthest from those before it.
TALKERS = (
    *_talkers(
        "train",
        "female",
        (0.84, 247, -1.1, -2),
        (0.86, 165, 2.1, 7),
        (0.86, 258, 1.7, 7),
        (0.90, 264, -2.1, 7),
        (0.93, 240, 0.0, -5),
        (0.95, 208, 3.6, -6),
        (0.95, 263, -0.6, 7),
        (0.98, 227, 1.7, -1),
        (0.99, 180, -3.2, 5),
        (0.99, 254, -1.4, -4),
        (1.01, 230, 3.0, 6),
        (1.03, 162, 3.1, -7),
    ),
    *_talkers(
        "train",
        "male",
        (1.06, 130, -1.0, -6),
        (1.07, 92, 3.3, -2),
        (1.08, 125, 3.6, 8),
        (1.09, 109, 2.0, 9),
        (1.10, 96, 1.6, 5),
        (1.13, 102, 4.0, -2),
        (1.15, 100, 4.1, -5),
        (1.15, 115, 4.3, 6),
        (1.19, 98, 2.1, 7),
        (1.24, 141, 1.2, -4),
        (1.30, 93, 4.4, -7),
        (1.30, 105, 2.4, 10),
    ),
    *_talkers(
        "dev",
        "female",
        (0.83, 250, 4.3, 9),
        (0.87, 258, -3.6, -8),
        (0.95, 258, 2.8, -8),
        (1.03, 219, -4.1, 5),
    ),
    *_talkers(
        "dev",
        "male",
        (1.09, 115, -3.6, -5),
        (1.15, 87, 4.4, 9),
        (1.27, 76, 1.1, 3),
        (1.30, 141, -2.9, 7),
    ),
    *_talkers(
        "test",
        "female",
        (0.85, 157, 0.7, -5),
        (0.93, 202, -0.7, 3),
        (0.98, 177, 4.2, 4),
        (1.04, 158, -3.9, -7),
    ),
    *_talkers(
        "test",
        "male",
        (1.13, 115, 1.3, -4),
        (1.22, 77, -3.5, -5),
        (1.29, 94, -2.3, 6),
        (1.32, 136, 3.4, 1),
    ),
    *_talkers(
        "test_other",
        "female",
        (0.77, 217, 4.1, -9),
        (0.79, 224, -2.4, -8),
        (0.84, 179, -1.1, -10),
        (0.87, 229, 0.7, -9),
    ),
    *_talkers(
        "test_other",
        "male",
        (0.94, 128, 1.2, 2),
        (1.10, 91, 0.2, 2),
        (1.13, 94, -3.7, -2),
        (1.14, 138, -4.5, -9),
    ),
)
"""All talkers."""


def draw_talker(sentence: Sentence, split: str, seed: int) -> Talker:
    """Draws one of the talkers of a split, with equal probability."""
    talkers = [talker for talker in TALKERS if talker.split == split]
    return talkers[int(uniform(seed, "speaker", sentence.id) * len(talkers))]
