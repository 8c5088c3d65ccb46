"""Music-like noise: chords, bass, melody and percussion drawn at random, for tests without recorded music."""

import functools

import numpy as np
from jaxtyping import Float32

from emojax.types import SAMPLE_RATE

_SCALES = ((0, 2, 4, 5, 7, 9, 11), (0, 2, 3, 5, 7, 8, 10))
"""Semitones of the major and the natural minor scale."""

_LOUDNESS = {"chord": 0.25, "bass": 0.5, "melody": 0.4, "drum": 0.6, "cymbal": 0.15}
"""Amplitudes of the parts."""


def music_like(samples: int, random: np.random.Generator) -> Float32[np.ndarray, "S"]:
    """Synthesises harmonic sounds with the rhythm of music: four-four time at 80 to 140 beats a minute.

    Every bar has a chord of a major or minor key, a bass note on each beat, a melody in quaver notes, a drum on the
    first and third beat and a cymbal between beats. Notes are harmonic and decay; the spectrum falls to high
    frequencies as that of instruments does.

    Args:
      samples: length at 16 kHz.
      random: generator of all choices.

    Returns:
      Waveform with peak 1.
    """
    beat = round(60 / random.uniform(80, 140) * SAMPLE_RATE)
    scale = _SCALES[int(random.integers(len(_SCALES)))]
    root = int(random.integers(45, 57))  # MIDI number of the tonic
    music = np.zeros(samples + 4 * beat, np.float32)
    for bar in range(0, samples, 4 * beat):
        degree = int(random.integers(7))
        for third in (0, 2, 4):
            _add(music, bar, _note(_pitch(root, scale, degree + third), 4 * beat, 1.5, "chord"))
        for quarter in range(4):
            at = bar + quarter * beat
            _add(music, at, _note(_pitch(root - 12, scale, degree), beat, 4.0, "bass"))
            if quarter % 2 == 0:
                _add(music, at, _drum(beat))
            _add(music, at + beat // 2, _cymbal(beat // 2, random))
            for half in (0, 1):
                if random.random() < 0.7:
                    pitch = _pitch(root + 12, scale, degree + int(random.integers(-3, 6)))
                    _add(music, at + half * beat // 2, _note(pitch, beat, 5.0, "melody"))
    music = music[:samples]
    return (music / max(float(np.abs(music).max(initial=0.0)), 1e-9)).astype(np.float32)


def _pitch(root: int, scale: tuple[int, ...], degree: int) -> float:
    """Frequency of a degree of a scale (Hz)."""
    octave, step = divmod(degree, len(scale))
    return 440.0 * 2 ** ((root + 12 * octave + scale[step] - 69) / 12)


@functools.lru_cache(maxsize=64)  # a bar repeats its notes
def _note(hertz: float, samples: int, decay: float, part: str) -> np.ndarray:
    """Harmonics with amplitudes 1/k^1.5 that decay by exp(-decay t), with an attack of 10 ms."""
    time = np.arange(samples, dtype=np.float32) / np.float32(SAMPLE_RATE)
    wave = np.zeros(samples, np.float32)
    for k in range(1, min(8, int(0.45 * SAMPLE_RATE / hertz)) + 1):
        wave += np.sin(np.float32(2 * np.pi * k * hertz) * time) * np.float32(k**-1.5)
    return _LOUDNESS[part] * wave * np.exp(-decay * time) * np.minimum(time / 0.01, 1.0)


def _drum(samples: int) -> np.ndarray:
    time = np.arange(samples) / SAMPLE_RATE
    return _LOUDNESS["drum"] * np.sin(2 * np.pi * 60 * time) * np.exp(-12 * time)


def _cymbal(samples: int, random: np.random.Generator) -> np.ndarray:
    time = np.arange(samples) / SAMPLE_RATE
    bright = np.diff(random.standard_normal(samples + 1))  # rises by 6 dB per octave
    return _LOUDNESS["cymbal"] * bright * np.exp(-40 * time)


def _add(music: np.ndarray, start: int, part: np.ndarray) -> None:
    part = part[: len(music) - start]
    music[start : start + len(part)] += part
