"""Mean fundamental frequency of speech, by pYIN of librosa."""

import importlib.util

import numpy as np

from emojax.audio.perturbations import Waveform
from emojax.types import SAMPLE_RATE

LOWEST, HIGHEST = 60.0, 500.0
"""Range of the fundamental frequency (Hz)."""

_FRAME, _HOP = 1024, 256


def missing_estimator() -> str:
    """Reason why the fundamental frequency cannot be estimated; "" if it can."""
    if importlib.util.find_spec("librosa") is None:
        return "the fundamental frequency is estimated by librosa, which is not installed (pip install librosa)"
    return ""


def mean_f0(waveform: Waveform) -> float:
    """Mean fundamental frequency over voiced frames of 64 ms (Hz); NaN without any.

    pYIN (Mauch & Dixon 2014): candidates of YIN at several thresholds, and a hidden Markov model over them.

    Args:
      waveform: 16 kHz.
    """
    import librosa

    f0, voiced, _ = librosa.pyin(
        waveform, fmin=LOWEST, fmax=HIGHEST, sr=SAMPLE_RATE, frame_length=_FRAME, hop_length=_HOP
    )
    return float(np.mean(f0[voiced])) if voiced.any() else float("nan")
