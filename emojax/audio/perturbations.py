"""Small changes of one waveform at 16 kHz: level, ends, clipping, filters, dynamics, codecs; pure NumPy functions.

Levels in dB are relative to full scale 1.0. Every function returns a new array; none is used inside jit.
"""

import importlib.util
import io
from typing import Any, Literal

import numpy as np
from jaxtyping import Float32

from emojax.errors import AudioError
from emojax.types import SAMPLE_RATE

Waveform = Float32[np.ndarray, "S"]
Resized = Float32[np.ndarray, "N"]


def change_gain(waveform: Waveform, gain_db: int | float) -> Waveform:
    """Scales a waveform by a gain (dB); samples beyond full scale are kept, as float files keep them."""
    return (waveform * 10 ** (gain_db / 20)).astype(np.float32)


def crop(waveform: Waveform, start: int, end: int) -> Resized:
    """Removes samples from both ends.

    Args:
      waveform: 16 kHz.
      start: samples removed at the start.
      end: samples removed at the end.

    Raises:
      AudioError: nothing would be left.
    """
    if start + end >= len(waveform):
        raise AudioError(f"a waveform must be longer than the {start + end} samples removed, got {len(waveform)}")
    return waveform[start : len(waveform) - end].copy()


def pad(waveform: Waveform, start: int, end: int) -> Resized:
    """Adds silence (zeros) at both ends.

    Args:
      waveform: 16 kHz.
      start: samples added at the start.
      end: samples added at the end.
    """
    return np.pad(waveform, (start, end))


def clip_samples(waveform: Waveform, share: float) -> Waveform:
    """Clips a waveform so that a share of its samples is at the limit.

    Args:
      waveform: 16 kHz.
      share: share of the samples whose magnitude exceeds the limit, in [0, 1).
    """
    limit = np.quantile(np.abs(waveform), 1 - share)
    return np.clip(waveform, -limit, limit).astype(np.float32)


def filter_ends(
    waveform: Waveform, kind: Literal["lowpass", "highpass"], hertz: int | float, order: int = 1
) -> Waveform:
    """Filters a waveform by a Butterworth filter.

    Args:
      waveform: 16 kHz.
      kind: frequencies that pass.
      hertz: frequency at which the attenuation is 3 dB (Hz), below 8000.
      order: order of the filter; the attenuation grows by 6 dB per octave and order.
    """
    from scipy import signal

    sections = signal.butter(order, hertz, kind, fs=SAMPLE_RATE, output="sos")
    return signal.sosfilt(sections, waveform).astype(np.float32)


def tilt_spectrum(waveform: Waveform, db_per_octave: float, pivot_hertz: float = 1000.0) -> Waveform:
    """Tilts the spectrum around a frequency and preserves the energy.

    Args:
      waveform: 16 kHz.
      db_per_octave: slope of the added gain; below 0 highs are attenuated, above 0 lows. The gain is constant below
        50 Hz.
      pivot_hertz: frequency of gain 0 dB before the energy is restored (Hz).
    """
    size = 2 * len(waveform)
    frequencies = np.maximum(np.fft.rfftfreq(size, 1 / SAMPLE_RATE), 50.0)
    gains = 10 ** (db_per_octave * np.log2(frequencies / pivot_hertz) / 20)
    tilted = np.fft.irfft(np.fft.rfft(waveform.astype(np.float64), size) * gains, size)[: len(waveform)]
    energy = np.square(tilted).sum()
    scale = np.sqrt(np.square(waveform.astype(np.float64)).sum() / energy) if energy > 0 else 1.0
    return (scale * tilted).astype(np.float32)


def compress_dynamics(waveform: Waveform, threshold_db: float = -20.0, ratio: float = 4.0) -> Waveform:
    """Compresses the dynamic range above a threshold, with release in 50 ms, and restores the peak.

    Args:
      waveform: 16 kHz.
      threshold_db: level above which the gain falls (dB relative to the waveform's peak).
      ratio: input change in dB per dB of output above the threshold, >= 1.
    """
    from scipy import signal

    peak = np.abs(waveform).max()
    if peak == 0:
        return waveform.copy()
    decay = np.exp(-1 / (0.05 * SAMPLE_RATE))
    envelope = signal.lfilter([1 - decay], [1, -decay], np.abs(waveform) / peak)
    above = np.maximum(20 * np.log10(np.maximum(envelope, 1e-6)) - threshold_db, 0.0)
    compressed = waveform * 10 ** (-above * (1 - 1 / ratio) / 20)
    return (compressed * (peak / np.abs(compressed).max())).astype(np.float32)


def white_noise(samples: int, random: np.random.Generator) -> Waveform:
    """Gaussian noise of equal power at all frequencies, standard deviation 1."""
    return random.standard_normal(samples).astype(np.float32)


def pink_noise(samples: int, random: np.random.Generator) -> Waveform:
    """Gaussian noise whose power falls by 3 dB per octave, standard deviation about 1."""
    spectrum = np.fft.rfft(random.standard_normal(samples))
    shaped = np.fft.irfft(spectrum / np.sqrt(np.maximum(np.arange(len(spectrum)), 1.0)), samples)
    return (shaped / max(float(shaped.std()), 1e-12)).astype(np.float32)


def tone(samples: int, hertz: int | float) -> Waveform:
    """A sine of amplitude 1 and phase 0."""
    return np.sin(2 * np.pi * hertz / SAMPLE_RATE * np.arange(samples)).astype(np.float32)


def resample(waveform: Waveform, old: int, new: int) -> Resized:
    """Resamples a waveform (soxr, quality HQ).

    Args:
      waveform: any rate.
      old: its sample rate (Hz).
      new: wanted sample rate (Hz).
    """
    import soxr

    return np.asarray(soxr.resample(waveform, old, new, quality="HQ"), np.float32)


def through_rate(waveform: Waveform, rate: int) -> Waveform:
    """Resamples to a lower rate (Hz) and back, which removes everything above half of it; the length stays."""
    return _of_length(resample(resample(waveform, SAMPLE_RATE, rate), rate, SAMPLE_RATE), len(waveform))


CODECS = {
    "opus": ("OGG", "OPUS", SAMPLE_RATE, {"compression_level": 0.97}),
    "gsm": ("WAV", "GSM610", 8000, {}),
}
"""Codecs of libsndfile by name: container, codec, rate (Hz), options. Opus has about 15 kbit/s; GSM 06.10 has 13."""

AMR_NB = "amr_nb"
"""AMR narrow-band, 7.4 kbit/s at 8 kHz (3GPP TS 26.071), by FFmpeg's libraries in PyAV."""


def missing_codec(codec: str) -> str:
    """Reason why a codec is not available; "" if it is."""
    if codec == AMR_NB and importlib.util.find_spec("av") is None:
        return "AMR-NB needs PyAV (pip install av)"
    return ""


def through_codec(waveform: Waveform, codec: str) -> Waveform:
    """Encodes and decodes a waveform; the length stays, the codec's delay is kept.

    Samples beyond full scale are scaled down for the codec and up afterwards.

    Args:
      waveform: 16 kHz.
      codec: key of `CODECS`, or `AMR_NB`.

    Raises:
      AudioError: the codec is not available.
    """
    if missing_codec(codec):
        raise AudioError(missing_codec(codec))
    scale = max(float(np.abs(waveform).max(initial=0.0)), 1.0)
    rate = 8000 if codec == AMR_NB else CODECS[codec][2]
    narrow = resample(waveform / np.float32(scale), SAMPLE_RATE, rate)
    decoded = _amr_nb(narrow) if codec == AMR_NB else _sndfile(narrow, codec)
    return _of_length(resample(decoded, rate, SAMPLE_RATE), len(waveform)) * np.float32(scale)


def _sndfile(waveform: Waveform, codec: str) -> Resized:
    import soundfile

    container, subtype, rate, options = CODECS[codec]
    file = io.BytesIO()
    soundfile.write(file, waveform, rate, format=container, subtype=subtype, **options)
    file.seek(0)
    return np.asarray(soundfile.read(file, dtype="float32")[0], np.float32)


def _amr_nb(waveform: Waveform) -> Resized:
    import av

    file = io.BytesIO()
    with av.open(file, "w", format="amr") as container:
        stream: Any = container.add_stream("libopencore_amrnb", rate=8000, layout="mono")
        stream.bit_rate = 7400
        frame = av.AudioFrame.from_ndarray(_pcm(waveform)[None], format="s16", layout="mono")
        frame.sample_rate = 8000
        for packet in (*stream.encode(frame), *stream.encode(None)):
            container.mux(packet)
    file.seek(0)
    with av.open(file, "r") as encoded:
        parts = [part.to_ndarray().reshape(-1) for part in encoded.decode(audio=0)]
    full_scale = 2.0**15 if parts[0].dtype == np.int16 else 1.0
    return np.concatenate(parts).astype(np.float32) / np.float32(full_scale)


def _pcm(waveform: Waveform) -> np.ndarray:
    return np.clip(np.round(waveform * 2.0**15), -(2**15), 2**15 - 1).astype(np.int16)


def _of_length(waveform: Waveform, samples: int) -> Resized:
    return np.pad(waveform[:samples], (0, max(0, samples - len(waveform))))
