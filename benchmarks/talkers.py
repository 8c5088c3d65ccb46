"""How far the talkers of emobank_spoken are from each other, and those of each split from the training talkers.

    python -m benchmarks.talkers

The distance of two talkers who speak the same sentence without cues is sqrt(L^2 + P^2). L is the root mean square
difference of their long-term spectra in 19 bands of a third of an octave from 100 Hz (dB, mean removed), P is the
difference of their median F0 in semitones.
"""

import itertools

import numpy as np
from scipy import signal

from emojax.types import SAMPLE_RATE
from tfds_builders.emobank_spoken.analysis import track_f0
from tfds_builders.emobank_spoken.prosody import Prosody
from tfds_builders.emobank_spoken.speech import speak
from tfds_builders.emobank_spoken.talkers import TALKERS

TEXT = "We were away a year ago, but the first thing she shows me is a picture of both cats."
_NEUTRAL = Prosody(1.0, 0.0, 1.0, 0.0)
_BANDS = 19


def main() -> None:
    points = np.array([position(speak(TEXT, talker, _NEUTRAL, 0)) for talker in TALKERS])
    splits = np.array([talker.split for talker in TALKERS])
    apart, spectral = distances(points), distances(points[:, :-1])
    hibari = splits != "test_other"
    pairs = np.triu_indices(hibari.sum(), 1)
    for name, table in (("distance", apart), ("long-term spectra alone (dB)", spectral)):
        print(f"{name}: median pair of train, dev and test {np.median(table[np.ix_(hibari, hibari)][pairs]):.1f}")
        for split in ("dev", "test", "test_other"):
            nearest = np.sort(table[np.ix_(splits == split, splits == "train")].min(axis=1))
            print(f"  {split}, to the nearest training talker: median {np.median(nearest):.1f}, {nearest.round(1)}")


def position(waveform: np.ndarray) -> np.ndarray:
    """Coordinates of a talker whose Euclidean distance is the distance of talkers."""
    hertz, power = signal.welch(waveform, SAMPLE_RATE, nperseg=1024)
    edges = 100 * 2 ** (np.arange(_BANDS + 1) / 3)
    bands = [power[(hertz >= low) & (hertz < high)].sum() for low, high in itertools.pairwise(edges)]
    decibel = 10 * np.log10(np.array(bands) + 1e-12)
    f0 = track_f0(waveform, SAMPLE_RATE)
    return np.append((decibel - decibel.mean()) / np.sqrt(_BANDS), 12 * np.log2(np.median(f0[f0 > 0])))


def distances(points: np.ndarray) -> np.ndarray:
    return np.sqrt(((points[:, None] - points[None]) ** 2).sum(axis=-1))


if __name__ == "__main__":
    main()
