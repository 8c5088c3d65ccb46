"""Speech of hibari-tts: phonemes of a text, and frames of its American English voice "heart"."""

import functools
from typing import Any

import numpy as np

from emojax.synthesis.source_filter import Frames

NATURAL_F0 = 190.0
"""Median F0 of the voice (Hz)."""

SPEED_LIMITS = (0.5, 2.0)
"""Range of the speaking rate relative to the voice's own, as documented by hibari-tts."""


def phonemize(text: str) -> list[str]:
    """Returns the phonemes of each sentence of a text, in the alphabet of hibari-tts; [] without words."""
    return _hibari().phonemize(text)


def speak(phonemes: str, speed: float) -> Frames:
    """Computes the frames of a sentence.

    Args:
      phonemes: from `phonemize`.
      speed: speaking rate relative to the voice's own, within `SPEED_LIMITS`.
    """
    hibari = _hibari()
    inputs = {"ids": np.asarray([hibari.ids(phonemes)], np.int64), "speed": np.asarray([speed], np.float32)}
    harmonic, phase, noise, free, free_phase, f0 = (output[0] for output in hibari.sess.run(None, inputs))
    return Frames(f0, harmonic, phase, noise, free, free_phase)


@functools.cache
def _hibari() -> Any:
    from hibari import Hibari

    return Hibari(threads=1)
