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


# (tract, f0, tilt, breath), drawn at random and kept if the distance of benchmarks/talkers.py is at least 5 between
# splits and 2.8 between training talkers, and if F0 and tilt are uncorrelated in training.
TALKERS = (
    *_talkers(
        "train",
        "female",
        (0.84, 236, 1.0, -7),
        (0.87, 220, 4.1, 5),
        (0.89, 201, 4.2, 0),
        (0.93, 260, -0.0, 0),
        (0.95, 220, 3.1, -5),
        (0.97, 185, -4.1, -8),
        (0.97, 197, 4.5, 10),
        (1.01, 174, 3.2, 8),
        (1.01, 227, -2.3, 9),
        (1.02, 245, -1.0, 0),
        (1.04, 158, -3.9, -7),
        (1.05, 218, 4.4, 7),
    ),
    *_talkers(
        "train",
        "male",
        (1.07, 94, -3.9, -7),
        (1.08, 125, 3.6, 8),
        (1.10, 136, 0.0, 9),
        (1.12, 143, -3.8, -5),
        (1.14, 129, -4.3, -6),
        (1.15, 87, 4.4, 9),
        (1.16, 96, 4.2, 4),
        (1.22, 77, -3.5, -5),
        (1.22, 124, 3.6, 3),
        (1.23, 91, -3.3, -6),
        (1.29, 141, 1.3, -1),
        (1.32, 136, 3.4, 1),
    ),
    *_talkers(
        "dev",
        "female",
        (0.84, 235, -3.7, -1),
        (0.85, 157, 0.7, -5),
        (0.93, 243, -2.4, -7),
        (0.96, 165, -1.0, -7),
    ),
    *_talkers(
        "dev",
        "male",
        (1.09, 119, -2.1, -1),
        (1.12, 107, 0.2, -6),
        (1.13, 136, -1.6, 1),
        (1.33, 105, -2.9, 6),
    ),
    *_talkers(
        "test",
        "female",
        (0.86, 258, 1.7, 7),
        (0.91, 201, 0.4, -6),
        (0.95, 180, 2.5, -5),
        (0.97, 264, 4.0, 0),
    ),
    *_talkers(
        "test",
        "male",
        (1.06, 86, 2.8, -2),
        (1.10, 82, -0.4, -2),
        (1.20, 103, 2.6, 0),
        (1.33, 77, -1.2, -2),
    ),
    *_talkers(
        "test_other",
        "female",
        (0.77, 229, -4.4, -5),
        (0.78, 193, -0.0, -4),
        (0.82, 167, -0.8, -4),
        (0.85, 168, -2.9, -6),
    ),
    *_talkers(
        "test_other",
        "male",
        (0.91, 120, -4.4, -9),
        (0.93, 104, 0.1, -2),
        (1.05, 89, -2.6, 2),
        (1.10, 87, 3.3, 0),
    ),
)
"""All talkers."""


def draw_talker(sentence: Sentence, split: str, seed: int) -> Talker:
    """Draws one of the talkers of a split, with equal probability."""
    talkers = [talker for talker in TALKERS if talker.split == split]
    return talkers[int(uniform(seed, "speaker", sentence.id) * len(talkers))]
