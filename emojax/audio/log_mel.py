"""Log-mel filterbank energies of waveforms, computed inside jit."""

import dataclasses
import functools
import math

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, Bool, Float, Int

from emojax.audio.mel_scale import MEL_NORMS, MEL_SCALES, mel_filterbank
from emojax.errors import ConfigError
from emojax.types import SAMPLE_RATE

_FRAMES_PER_STEP = 2048
"""Frames of all rows together that are transformed at once: their samples and spectra stay in a CPU core's cache."""

_MIN_FRAMES_PER_ROW_AND_STEP = 32


@dataclasses.dataclass(frozen=True)
class LogMelConfig:
    """Log-mel filterbank energies; every field is documented in configs/default.py.

    Attributes:
      num_bands: mel bands K.
      window_ms, hop_ms: length of a frame and distance between two (ms); whole numbers of samples.
      fft_size: samples of the discrete Fourier transform, the frame is zero-padded to it; not smaller than the frame.
      low_hz, high_hz: lower edge of the first and upper edge of the last band (Hz), 0 <= low < high <= 8000.
      mel_scale: `htk` or `slaney`.
      mel_norm: `none` (triangles of height 1) or `slaney` (triangles of equal area).
      floor: energies below it are raised to it before the logarithm; > 0. The quantisation noise of 16-bit audio
        lies near 1e-8.
    """

    num_bands: int
    window_ms: float
    hop_ms: float
    fft_size: int
    low_hz: float
    high_hz: float
    mel_scale: str
    mel_norm: str
    floor: float

    def __post_init__(self):
        """Checks the values.

        Raises:
          ConfigError: naming the field and what is allowed.
        """
        if self.num_bands < 1:
            raise _not_allowed("num_bands", self.num_bands, "an integer >= 1")
        for field in ("window_ms", "hop_ms"):
            samples = getattr(self, field) * SAMPLE_RATE / 1000
            if samples < 1 or abs(samples - round(samples)) > 1e-6:
                raise _not_allowed(field, getattr(self, field), f"a whole number of samples at {SAMPLE_RATE} Hz, >= 1")
        if self.fft_size < self.window_samples:
            raise _not_allowed("fft_size", self.fft_size, f"an integer >= {self.window_samples} (the frame)")
        if not 0 <= self.low_hz < self.high_hz:
            raise _not_allowed("low_hz", self.low_hz, f"0 <= low_hz < high_hz = {self.high_hz}")
        if self.high_hz > SAMPLE_RATE / 2:
            raise _not_allowed("high_hz", self.high_hz, f"at most {SAMPLE_RATE // 2} (half the sample rate)")
        if self.mel_scale not in MEL_SCALES:
            raise _not_allowed("mel_scale", repr(self.mel_scale), ", ".join(MEL_SCALES))
        if self.mel_norm not in MEL_NORMS:
            raise _not_allowed("mel_norm", repr(self.mel_norm), ", ".join(MEL_NORMS))
        if not (math.isfinite(self.floor) and self.floor > 0):
            raise _not_allowed("floor", self.floor, "a number > 0")
        empty = np.flatnonzero(~_tables(self)[1].any(axis=0))
        if empty.size:
            raise _not_allowed(
                "num_bands", self.num_bands, f"fewer bands or a larger fft_size: band {empty[0]} is empty"
            )

    @property
    def window_samples(self) -> int:
        """Samples of a frame."""
        return round(self.window_ms * SAMPLE_RATE / 1000)

    @property
    def hop_samples(self) -> int:
        """Samples from the start of a frame to the start of the next."""
        return round(self.hop_ms * SAMPLE_RATE / 1000)


def log_mel(waveform: Float[Array, "B S"] | Int[Array, "B S"], config: LogMelConfig) -> Float[Array, "B T K"]:
    """Natural logarithm of the power spectrum summed over mel bands.

    Frame t covers the samples [t * hop, t * hop + window) and nothing else: no centring, no look-ahead, so that a
    stream gives the same frames. The window is the periodic Hann window, as in librosa, torch and Whisper, so that
    features of models made with those can be matched.

    A clip shorter than one frame gives one frame, as if followed by zeros. Hence frames that `frame_mask` calls valid
    do not depend on the amount of padding, provided that padding is zero.

    The transform runs over a few frames of all rows at a time: whole-batch spectra would leave the cache (four times
    slower on CPU). A real FFT is used since it is faster on CPU than the DFT as a matrix product, also when the
    symmetries of the DFT are used to quarter that product.

    Args:
      waveform: at 16 kHz; integers are scaled by their full scale, floating point has full scale 1.0.
      config: what to compute.

    Returns:
      Energies, float32 (float64 for a float64 waveform), T = `num_frames(S, config)`.
    """
    window, mel = _tables(config)
    if jnp.issubdtype(waveform.dtype, jnp.integer):
        window = window / (float(jnp.iinfo(waveform.dtype).max) + 1.0)
        dtype = jnp.dtype(jnp.float32)
    else:
        dtype = jnp.promote_types(waveform.dtype, jnp.float32)
    window, mel = window.astype(dtype), mel.astype(dtype)
    batch, samples = waveform.shape
    total = num_frames(samples, config)
    if batch == 0 or total == 0:
        return jnp.zeros((batch, total, config.num_bands), dtype)
    if samples < config.window_samples:
        waveform = jnp.pad(waveform, ((0, 0), (0, config.window_samples - samples)))

    def energies(start, frames_per_row):
        length = (frames_per_row - 1) * config.hop_samples + config.window_samples
        chunk = lax.dynamic_slice_in_dim(waveform, start * config.hop_samples, length, axis=1)
        spectrum = jnp.fft.rfft(_frames(chunk.astype(dtype), frames_per_row, config) * window, config.fft_size)
        power = jnp.square(spectrum.real) + jnp.square(spectrum.imag)
        bands = jnp.matmul(power, mel, precision=lax.Precision.HIGHEST)
        return jnp.log(jnp.maximum(bands, jnp.asarray(config.floor, dtype)))

    per_step = max(_FRAMES_PER_STEP // batch, _MIN_FRAMES_PER_ROW_AND_STEP)
    steps = -(-total // per_step)
    if steps == 1:
        return energies(0, total)
    # The last step ends with the last frame and repeats a part of the step before it: nothing is padded.
    starts = jnp.minimum(jnp.arange(steps) * per_step, total - per_step)
    chunks = lax.map(lambda start: energies(start, per_step), starts)
    body = jnp.moveaxis(chunks[:-1], 0, 1).reshape(batch, (steps - 1) * per_step, config.num_bands)
    return jnp.concatenate([body, chunks[-1][:, steps * per_step - total :]], axis=1)


def num_frames(num_samples, config: LogMelConfig):
    """Frames that lie entirely inside clips, at least one for a clip with at least one sample.

    Args:
      num_samples: int, or an integer array (NumPy, JAX) of any shape.
      config: gives window and hop.

    Returns:
      The same kind and shape as `num_samples`.
    """
    inside = 1 + (num_samples - config.window_samples) // config.hop_samples
    if isinstance(num_samples, int):
        return max(inside, min(num_samples, 1))
    if isinstance(num_samples, jax.Array):
        return jnp.maximum(inside, jnp.minimum(num_samples, 1))
    return np.maximum(inside, np.minimum(num_samples, 1))


def frame_mask(num_samples: Int[Array, "B"], total_frames: int, config: LogMelConfig) -> Bool[Array, "B T"]:
    """True on the first `num_frames(num_samples, config)` of `total_frames` frames."""
    return jnp.arange(total_frames) < num_frames(num_samples, config)[:, None]


def _frames(waveform: Array, count: int, config: LogMelConfig) -> Array:
    """(B, S) to `count` overlapping frames (B, T, window), as shifted runs of hops: contiguous copies, no gather."""
    window, hop = config.window_samples, config.hop_samples
    runs = -(-window // hop)
    length = (count + runs - 1) * hop
    waveform = jnp.pad(waveform, ((0, 0), (0, length - waveform.shape[1])))
    hops = waveform.reshape(waveform.shape[0], count + runs - 1, hop)
    return jnp.concatenate([hops[:, i : i + count, : min(hop, window - i * hop)] for i in range(runs)], axis=-1)


@functools.lru_cache(maxsize=16)
def _tables(config: LogMelConfig) -> tuple[np.ndarray, np.ndarray]:
    """The periodic Hann window and the mel filterbank (bins, bands), float64."""
    phase = 2 * np.pi * np.arange(config.window_samples) / config.window_samples
    return 0.5 - 0.5 * np.cos(phase), mel_filterbank(
        config.num_bands, config.fft_size, config.low_hz, config.high_hz, config.mel_scale, config.mel_norm
    )


def _not_allowed(field: str, value: object, allowed: str) -> ConfigError:
    return ConfigError(f"log_mel.{field}: {value} is not allowed; allowed: {allowed}")
