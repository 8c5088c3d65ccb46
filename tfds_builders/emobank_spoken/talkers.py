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
        (0.84, 169, 1.5, 7),
        (0.84, 247, -1.1, -1),
        (0.86, 258, 1.7, 11),
        (0.92, 255, -4.1, 11),
        (0.93, 240, 0.0, -4),
        (0.97, 197, 4.5, 15),
        (0.97, 264, 4.0, 3),
        (1.01, 230, 3.0, 9),
        (1.01, 255, 1.0, 9),
        (1.02, 182, -3.2, 7),
        (1.02, 245, -1.0, 3),
        (1.03, 162, 3.1, -6),
    ),
    *_talkers(
        "train",
        "male",
        (1.15, 139, 1.9, 0),
        (1.17, 100, -4.1, 15),
        (1.21, 89, -3.8, 13),
        (1.24, 141, 1.7, 0),
        (1.29, 94, -2.3, 10),
        (1.29, 141, 1.3, 0),
        (1.30, 95, -0.8, 4),
        (1.30, 137, 0.4, 8),
        (1.31, 98, -1.6, -7),
        (1.31, 133, 3.2, -6),
        (1.31, 140, 2.7, 1),
        (1.33, 124, 3.7, -8),
    ),
    *_talkers(
        "dev",
        "female",
        (0.83, 250, 4.3, 14),
        (0.85, 157, 0.7, -4),
        (0.87, 258, -3.6, -8),
        (1.03, 211, -3.1, -3),
    ),
    *_talkers(
        "dev",
        "male",
        (1.07, 132, 3.7, 9),
        (1.09, 115, -3.6, -5),
        (1.22, 83, 3.4, 14),
        (1.26, 134, -3.3, 9),
    ),
    *_talkers(
        "test",
        "female",
        (0.85, 191, 3.8, 3),
        (0.93, 202, -0.7, 5),
        (0.95, 258, 2.8, -8),
        (1.04, 158, -3.9, -7),
    ),
    *_talkers(
        "test",
        "male",
        (1.13, 115, 1.3, -3),
        (1.15, 76, -0.2, 6),
        (1.22, 77, -3.5, -4),
        (1.32, 94, 1.4, 9),
    ),
    *_talkers(
        "test_other",
        "female",
        (0.79, 224, -2.4, -5),
        (0.81, 166, -4.0, 8),
        (0.86, 233, -3.4, 12),
        (0.87, 222, 2.2, -1),
    ),
    *_talkers(
        "test_other",
        "male",
        (1.12, 87, 0.2, 14),
        (1.13, 94, -4.0, 13),
        (1.14, 98, 3.8, 8),
        (1.15, 129, 0.9, 13),
    ),
)
"""All talkers."""


def draw_talker(sentence: Sentence, split: str, seed: int) -> Talker:
    """Draws one of the talkers of a split, with equal probability."""
    talkers = [talker for talker in TALKERS if talker.split == split]
    return talkers[int(uniform(seed, "speaker", sentence.id) * len(talkers))]
