"""Source-filter frames of speech, from which talkers and prosody are made, and their synthesis.

A frame of 12.5 ms has a source (F0) and a filter: log magnitudes of a harmonic part, whose excitation is a pulse train,
and of a noise part, on 601 frequencies from 0 to 12 kHz. hibari-tts computes them from text; `analysis` computes them
from a waveform.
"""

import dataclasses
import functools

import numpy as np
from jaxtyping import Float32

FRAME_RATE = 80
"""Frames per second."""

SYNTHESIS_RATE = 24_000
"""Sample rate of the synthesis (Hz)."""

BINS = 601
BIN_HERTZ = 20.0

VOICED_F0 = 50.0
"""Lowest F0 of a voiced frame (Hz); unvoiced frames have a lower one."""

F0_LIMITS = (60.0, 500.0)
"""Range that F0 is limited to (Hz)."""

SILENT = -30.0
"""Natural logarithm of the magnitude of an absent part."""

_TILT_LIMITS = (200.0, 8000.0)
_TILT_CENTRE = 1000.0

Spectrum = Float32[np.ndarray, "601 F"]


@dataclasses.dataclass(frozen=True)
class Frames:
    """Source and filter of F frames; magnitudes are natural logarithms.

    Attributes:
      f0: fundamental frequency (Hz); below `VOICED_F0` in unvoiced frames.
      harmonic: magnitude of the harmonic part.
      phase: phase of the harmonic part, as atanh(radians / pi).
      noise: magnitude of the noise part with random phase.
      free: magnitude of the noise part with given phase.
      free_phase: its phase (radians).
    """

    f0: Float32[np.ndarray, "F"]
    harmonic: Spectrum
    phase: Spectrum
    noise: Spectrum
    free: Spectrum
    free_phase: Spectrum


def scale_tract(frames: Frames, length: float) -> Frames:
    """Scales the vocal tract: a magnitude at frequency f moves to f / `length`.

    Magnitudes are interpolated linearly; phases, which are periodic, take the nearest frequency.
    """
    low, weight, nearest = _source_bins(length)

    def interpolate(magnitude: Spectrum) -> Spectrum:
        return magnitude[low] * (1 - weight) + magnitude[low + 1] * weight

    return dataclasses.replace(
        frames,
        harmonic=interpolate(frames.harmonic),
        noise=interpolate(frames.noise),
        free=interpolate(frames.free),
        phase=frames.phase[nearest],
        free_phase=frames.free_phase[nearest],
    )


def add_tilt(frames: Frames, decibel_per_octave: float) -> Frames:
    """Tilts the spectrum of all parts around 1 kHz, between 200 Hz and 8 kHz."""
    hertz = np.clip(np.arange(BINS) * BIN_HERTZ, *_TILT_LIMITS)
    tilt = _nepers(decibel_per_octave * np.log2(hertz / _TILT_CENTRE))[:, None]
    return dataclasses.replace(
        frames, harmonic=frames.harmonic + tilt, noise=frames.noise + tilt, free=frames.free + tilt
    )


def add_breath(frames: Frames, decibel: float) -> Frames:
    """Changes the level of the noise parts of voiced frames."""
    gain = np.where(frames.f0 >= VOICED_F0, _nepers(np.array(decibel)), np.float32(0))
    return dataclasses.replace(frames, noise=frames.noise + gain, free=frames.free + gain)


def change_pitch(frames: Frames, natural_f0: float, f0: float, spread: float) -> Frames:
    """Moves F0 from around `natural_f0` to around `f0` (Hz), and scales its excursions in semitones by `spread`."""
    voiced = frames.f0 >= VOICED_F0
    moved = f0 * (np.where(voiced, frames.f0, natural_f0) / natural_f0) ** spread
    return dataclasses.replace(frames, f0=np.where(voiced, np.clip(moved, *F0_LIMITS), 0).astype(np.float32))


def change_rate(frames: Frames, rate: float) -> Frames:
    """Plays frames faster by a factor `rate`: magnitudes are interpolated linearly, F0 and phases take the nearest."""
    position = np.arange(max(1, round(len(frames.f0) / rate))) * rate
    position = np.minimum(position, len(frames.f0) - 1)
    low = position.astype(np.int64)
    high = np.minimum(low + 1, len(frames.f0) - 1)
    weight = (position - low).astype(np.float32)
    nearest = np.rint(position).astype(np.int64)

    def interpolate(magnitude: Spectrum) -> Spectrum:
        return magnitude[:, low] * (1 - weight) + magnitude[:, high] * weight

    return Frames(
        f0=frames.f0[nearest],
        harmonic=interpolate(frames.harmonic),
        phase=frames.phase[:, nearest],
        noise=interpolate(frames.noise),
        free=interpolate(frames.free),
        free_phase=frames.free_phase[:, nearest],
    )


def render(frames: Frames, seed: int) -> Float32[np.ndarray, "S"]:
    """Synthesises frames at `SYNTHESIS_RATE`; the noise depends on `seed` only."""
    from hibari import dsp

    generator = np.random.default_rng(seed)
    return dsp.synth(frames.harmonic, frames.phase, frames.noise, frames.free, frames.free_phase, frames.f0, generator)


@functools.lru_cache(maxsize=64)
def _source_bins(length: float) -> tuple[np.ndarray, Float32[np.ndarray, "601 1"], np.ndarray]:
    position = np.minimum(np.arange(BINS) * length, BINS - 1.001)
    low = position.astype(np.int64)
    nearest = np.rint(position).astype(np.int64)
    return low, (position - low).astype(np.float32)[:, None], nearest


def _nepers(decibel: np.ndarray) -> np.ndarray:
    return (decibel * np.log(10) / 20).astype(np.float32)
