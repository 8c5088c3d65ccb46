"""Analysis of a waveform into source-filter frames, in the manner of the WORLD vocoder (Morise et al., 2016).

F0: the path of highest normalised autocorrelation, with a cost of jumps. Envelope: a spectrum of three periods,
smoothed over 2/3 F0 and liftered, as in CheapTrick (Morise, 2015). Noise: one minus the coherence of two windows that
are one period apart, in bands of 500 Hz.
"""

import numpy as np
import soxr
from jaxtyping import Float32, Float64

from emojax.synthesis.source_filter import (
    BIN_HERTZ,
    BINS,
    FRAME_RATE,
    SILENT,
    SYNTHESIS_RATE,
    Frames,
    Spectrum,
)

_HOP = SYNTHESIS_RATE // FRAME_RATE
_WINDOW = 2 * (BINS - 1)

_F0_RATE = 8000
_F0_RANGE = (60.0, 320.0)
_F0_WINDOW = 320
_JUMP_COST = 4.0  # Per octave and frame, in units of the normalised autocorrelation.
_LONG_LAG_COST = 0.05  # Per octave: a multiple of the period correlates as well as the period.
_VOICED_CORRELATION = 0.5
_VOICED_RANGE_DB = 40.0

_UNVOICED_F0 = 160.0  # Sets window and smoothing of unvoiced frames.
_LIFTER = -0.15  # CheapTrick's q1.
_COHERENCE_BINS = 25
_NOISE_EXPONENT = 1.5  # Changes of F0 lower the coherence, too; fitted to frames of hibari-tts, whose noise is known.

# Magnitudes of `hibari.dsp.synth`: a cosine of amplitude 1 has 300; noise with unit variance has 30.
_HARMONIC_SCALE = _WINDOW / 4
_NOISE_SCALE = 30.0
_FLOOR = 1e-10


def analyse(waveform: Float32[np.ndarray, "S"], sample_rate: int) -> Frames:
    """Computes the frames of a waveform.

    Args:
      waveform: mono speech.
      sample_rate: its sample rate (Hz).
    """
    f0 = track_f0(waveform, sample_rate)
    waveform = soxr.resample(waveform, sample_rate, SYNTHESIS_RATE)
    voiced = f0 > 0
    f0 = np.where(voiced, f0, _UNVOICED_F0)
    envelope = _envelope(waveform, f0)
    noisy = np.where(voiced[:, None], _noise_share(waveform, f0), 1.0)
    harmonic = envelope * (1 - noisy) * (4 * f0 / SYNTHESIS_RATE)[:, None]
    silent = np.full((BINS, len(f0)), SILENT, np.float32)
    return Frames(
        f0=np.where(voiced, f0, 0).astype(np.float32),
        harmonic=_log_magnitude(harmonic * _HARMONIC_SCALE**2),
        phase=_minimum_phase(envelope),
        noise=_log_magnitude(envelope * noisy * _NOISE_SCALE**2),
        free=silent,
        free_phase=np.zeros_like(silent),
    )


def track_f0(waveform: Float32[np.ndarray, "S"], sample_rate: int) -> Float64[np.ndarray, "F"]:
    """Estimates F0 (Hz) at `FRAME_RATE`; 0 in unvoiced frames."""
    signal = soxr.resample(waveform, sample_rate, _F0_RATE).astype(np.float64)
    hop = _F0_RATE // FRAME_RATE
    shortest, longest = int(_F0_RATE / _F0_RANGE[1]), int(_F0_RATE / _F0_RANGE[0]) + 1
    length = _F0_WINDOW + longest
    num_frames = len(signal) // hop + 1
    padded = np.pad(signal, (length // 2, length))
    segments = np.lib.stride_tricks.sliding_window_view(padded, length)[: num_frames * hop : hop]
    head = segments[:, :_F0_WINDOW]
    size = 2 ** int(np.ceil(np.log2(length + _F0_WINDOW)))
    product = np.fft.irfft(np.fft.rfft(segments, size) * np.fft.rfft(head, size).conj())
    total = np.cumsum(np.pad(segments**2, ((0, 0), (1, 0))), axis=1)
    lags = np.arange(shortest, longest + 1)
    energy = total[:, lags + _F0_WINDOW] - total[:, lags]
    correlation = product[:, lags] / np.sqrt(np.maximum(energy * energy_of(head)[:, None], 1e-12))
    octaves = np.log2(lags)
    path = _best_path(correlation - _LONG_LAG_COST * (octaves - octaves[0]), octaves)
    rows = np.arange(num_frames)
    level = energy_of(head)
    voiced = (correlation[rows, path] > _VOICED_CORRELATION) & (
        level > level.max(initial=0) * 10 ** (-_VOICED_RANGE_DB / 10)
    )
    return np.where(voiced, _F0_RATE / (lags[path] + _peak_offset(correlation, path)), 0.0)


def energy_of(frames: Float64[np.ndarray, "F N"]) -> Float64[np.ndarray, "F"]:
    """Sums squares of each frame."""
    return (frames**2).sum(axis=1)


def _best_path(score: Float64[np.ndarray, "F L"], octaves: Float64[np.ndarray, "L"]) -> np.ndarray:
    """Finds the sequence of lags with the highest sum of scores less the cost of jumps (Viterbi)."""
    cost = _JUMP_COST * np.abs(octaves[:, None] - octaves[None])
    best, previous = score[0], []
    for row in score[1:]:
        total = best[None] - cost
        origin = total.argmax(axis=1)
        previous.append(origin)
        best = row + total[np.arange(len(octaves)), origin]
    path = [int(best.argmax())]
    for origin in reversed(previous):
        path.append(int(origin[path[-1]]))
    return np.array(path[::-1])


def _peak_offset(correlation: Float64[np.ndarray, "F L"], path: np.ndarray) -> Float64[np.ndarray, "F"]:
    """Refines the lag by a parabola through its neighbours; at most half a sample."""
    rows, inner = np.arange(len(path)), np.clip(path, 1, correlation.shape[1] - 2)
    left, peak, right = (correlation[rows, inner + shift] for shift in (-1, 0, 1))
    bend = left - 2 * peak + right
    return np.where(bend < -1e-9, np.clip(0.5 * (left - right) / np.minimum(bend, -1e-9), -0.5, 0.5), 0.0)


def _windows(waveform: Float32[np.ndarray, "S"], num_frames: int, shift: np.ndarray) -> np.ndarray:
    """Cuts windows around each frame's centre, moved by `shift` samples (F,)."""
    margin = _WINDOW
    padded = np.pad(waveform, (margin, margin + _HOP * num_frames))
    view = np.lib.stride_tricks.sliding_window_view(padded, _WINDOW)
    return view[margin - _WINDOW // 2 + _HOP * np.arange(num_frames) + shift]


def _envelope(waveform: Float32[np.ndarray, "S"], f0: Float64[np.ndarray, "F"]) -> Float64[np.ndarray, "F 601"]:
    """Computes the power envelope, in units of a white noise's variance."""
    window = _hann(f0, periods=3)
    window /= np.sqrt((window**2).sum(axis=1, keepdims=True))
    power = np.abs(np.fft.rfft(_windows(waveform, len(f0), np.zeros(len(f0), np.int64)) * window)) ** 2
    log_power = np.log(_smooth(power, 2 / 3 * f0 / BIN_HERTZ) + _FLOOR)
    cepstrum = np.fft.irfft(log_power)
    quefrency = np.minimum(np.arange(_WINDOW), _WINDOW - np.arange(_WINDOW)) / SYNTHESIS_RATE * f0[:, None]
    lifter = np.sinc(quefrency) * (1 - 2 * _LIFTER + 2 * _LIFTER * np.cos(2 * np.pi * quefrency))
    return np.exp(np.fft.rfft(cepstrum * lifter).real)


def _hann(f0: Float64[np.ndarray, "F"], periods: int) -> Float64[np.ndarray, "F 1200"]:
    """Computes Hann windows of a number of periods."""
    time = (np.arange(_WINDOW) - _WINDOW / 2) / SYNTHESIS_RATE
    reach = np.abs(time[None] * f0[:, None]) / (periods / 2)
    return np.where(reach < 1, 0.5 + 0.5 * np.cos(np.pi * reach), 0)


def _smooth(power: Float64[np.ndarray, "F 601"], width: Float64[np.ndarray, "F"]) -> Float64[np.ndarray, "F 601"]:
    """Averages over `width` bins, a real number per frame; the spectrum is continued by reflection."""
    margin = 40
    wide = np.pad(power, ((0, 0), (margin, margin)), mode="reflect")
    integral = np.pad(np.cumsum(wide, axis=1), ((0, 0), (1, 0)))
    centre = np.arange(BINS) + margin + 0.5

    def at(position: np.ndarray) -> np.ndarray:
        low = np.floor(position).astype(np.int64)
        rows = np.arange(len(power))[:, None]
        part = position - low
        return integral[rows, low] * (1 - part) + integral[rows, low + 1] * part

    half = width[:, None] / 2
    return (at(centre + half) - at(centre - half)) / width[:, None]


def _noise_share(waveform: Float32[np.ndarray, "S"], f0: Float64[np.ndarray, "F"]) -> Float64[np.ndarray, "F 601"]:
    """Computes the share of noise in the power, 0 to 1: one minus the coherence of windows one period apart."""
    window = _hann(f0, periods=2)
    half = np.rint(SYNTHESIS_RATE / f0 / 2).astype(np.int64)
    period = np.rint(SYNTHESIS_RATE / f0).astype(np.int64)
    first = np.fft.rfft(_windows(waveform, len(f0), -half) * window)
    second = np.fft.rfft(_windows(waveform, len(f0), period - half) * window)
    width = np.full(len(f0), float(_COHERENCE_BINS))
    cross = first * second.conj()
    common = np.hypot(_smooth(cross.real, width), _smooth(cross.imag, width))
    powers = _smooth(np.abs(first) ** 2, width) * _smooth(np.abs(second) ** 2, width)
    return np.clip(1 - common / np.sqrt(np.maximum(powers, 1e-30)), 0.001, 1.0) ** _NOISE_EXPONENT


def _minimum_phase(envelope: Float64[np.ndarray, "F 601"]) -> Spectrum:
    """Computes the minimum phase of a power envelope, as atanh(radians / pi)."""
    cepstrum = np.fft.irfft(0.5 * np.log(envelope))
    cepstrum[:, 1 : _WINDOW // 2] *= 2
    cepstrum[:, _WINDOW // 2 + 1 :] = 0
    phase = np.angle(np.exp(1j * np.fft.rfft(cepstrum).imag))
    return np.arctanh(np.clip(phase / np.pi, -0.9999, 0.9999)).astype(np.float32).T


def _log_magnitude(power: Float64[np.ndarray, "F 601"]) -> Spectrum:
    return np.maximum(0.5 * np.log(power + 1e-30), SILENT).astype(np.float32).T
