"""Mel-frequency cepstral coefficients of waveforms, computed inside jit."""

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from emojax.audio.deltas import add_deltas
from emojax.audio.log_mel import LogMelConfig, frame_mask, log_mel

MFCC_FILTERBANK = LogMelConfig(
    num_bands=23,
    window_ms=25.0,
    hop_ms=10.0,
    fft_size=512,
    low_hz=20.0,
    high_hz=8000.0,
    mel_scale="htk",
    mel_norm="none",
    floor=1e-8,
)
"""Bands of the coefficients, as in Kaldi."""

NUM_COEFFICIENTS = 13

_LIFTER = 22
_DELTA_WIDTH = 5


def mfcc(waveform: Float[Array, "B S"] | Int[Array, "B S"], num_samples: Int[Array, "B"]) -> Float[Array, "B T 39"]:
    """13 liftered coefficients with their slopes and slopes of slopes, every 10 ms.

    As HuBERT's first units are found from (Hsu et al. 2021, section IV-B), but for Kaldi's pre-emphasis, dither and
    window: orthonormal DCT-II of log-mel energies, coefficient n times 1 + 11 sin(pi n / 22).

    Args:
      waveform: 16 kHz.
      num_samples: valid samples per row; slopes do not see beyond them, and padded frames are zero.
    """
    energies = log_mel(waveform, MFCC_FILTERBANK)
    cepstra = energies @ _cosines(energies.dtype)
    return add_deltas(cepstra, frame_mask(num_samples, energies.shape[1], MFCC_FILTERBANK), _DELTA_WIDTH, 2)


def _cosines(dtype: np.dtype) -> Float[Array, "K 13"]:
    bands = MFCC_FILTERBANK.num_bands
    number = np.arange(NUM_COEFFICIENTS)
    cosines = np.sqrt(2 / bands) * np.cos(np.pi / bands * np.outer(np.arange(bands) + 0.5, number))
    cosines[:, 0] /= np.sqrt(2)
    return jnp.asarray(cosines * (1 + _LIFTER / 2 * np.sin(np.pi * number / _LIFTER)), dtype)
