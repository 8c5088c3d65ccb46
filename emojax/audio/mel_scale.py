"""Mel scales, and triangular filterbanks on them."""

from typing import NamedTuple

import numpy as np
from jaxtyping import Float

from emojax.types import SAMPLE_RATE

MEL_SCALES = ("htk", "slaney")
"""`htk`: 2595 log10(1 + f/700). `slaney`: linear below 1 kHz, logarithmic above (Slaney 1998, Auditory Toolbox)."""

MEL_NORMS = ("none", "slaney")
"""`none`: every triangle has height 1. `slaney`: every triangle has area 1 per Hz."""

# Slaney's scale: 200/3 Hz per mel up to 1 kHz (mel 15), then 27 mels for each factor of 6.4.
_LINEAR_HZ_PER_MEL = 200.0 / 3
_BREAK_HZ = 1000.0
_BREAK_MEL = _BREAK_HZ / _LINEAR_HZ_PER_MEL
_MELS_PER_E = 27.0 / np.log(6.4)


def hz_to_mel(frequency: Float[np.ndarray, "N"], scale: str) -> Float[np.ndarray, "N"]:
    """Converts frequencies in Hz to mels."""
    if scale == "htk":
        return 2595.0 * np.log10(1.0 + frequency / 700.0)
    above = _BREAK_MEL + _MELS_PER_E * np.log(np.maximum(frequency, _BREAK_HZ) / _BREAK_HZ)
    return np.where(frequency < _BREAK_HZ, frequency / _LINEAR_HZ_PER_MEL, above)


def mel_to_hz(mel: Float[np.ndarray, "N"], scale: str) -> Float[np.ndarray, "N"]:
    """Converts mels to frequencies in Hz."""
    if scale == "htk":
        return 700.0 * (10.0 ** (mel / 2595.0) - 1.0)
    above = _BREAK_HZ * np.exp((np.maximum(mel, _BREAK_MEL) - _BREAK_MEL) / _MELS_PER_E)
    return np.where(mel < _BREAK_MEL, mel * _LINEAR_HZ_PER_MEL, above)


def mel_edges(num_bands: int, low_hz: float, high_hz: float, scale: str) -> Float[np.ndarray, "edges"]:
    """Computes the band edges in Hz: band k rises from edge k to its centre k + 1 and falls to edge k + 2."""
    low, high = hz_to_mel(np.array([low_hz, high_hz], np.float64), scale)
    return mel_to_hz(np.linspace(low, high, num_bands + 2), scale)


class MelBands(NamedTuple):
    """Filterbank of triangles from `low_hz` to `high_hz`, over the bins of an `fft_size`-point transform."""

    num_bands: int
    fft_size: int
    low_hz: float
    high_hz: float
    scale: str
    norm: str


def mel_filterbank(bands: MelBands) -> Float[np.ndarray, "bins K"]:
    """Computes the triangular weights (float64) of the fft_size // 2 + 1 power spectrum bins in each band."""
    edges = mel_edges(bands.num_bands, bands.low_hz, bands.high_hz, bands.scale)
    bins = np.arange(bands.fft_size // 2 + 1)[:, None] * SAMPLE_RATE / bands.fft_size
    low, centre, high = edges[:-2], edges[1:-1], edges[2:]
    weights = np.maximum(np.minimum((bins - low) / (centre - low), (high - bins) / (high - centre)), 0.0)
    return weights * 2.0 / (high - low) if bands.norm == "slaney" else weights
