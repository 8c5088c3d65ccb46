"""Log-mel filterbank energies, computed inside jit."""

from typing import Annotated, Any, Literal

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, Bool, Float, Int

from emojax.audio.mel_energies import mel_energies, mel_energies_by_products
from emojax.audio.mel_scale import MelBands, mel_filterbank
from emojax.errors import ConfigError
from emojax.schema import Ge, Gt, Le, Lt, settings
from emojax.types import SAMPLE_RATE

_FRAMES_PER_STEP = 2048
"""Frames of the batch transformed at a time; their samples and spectra fit into the cache of a CPU core."""

_MIN_FRAMES_PER_ROW_AND_STEP = 32

_FRAMES_PER_SYMBOLIC_STEP = 128
"""Frames of each row transformed at a time where the number of rows is not fixed; the last step is padded to them."""


@settings
class LogMelConfig:
    """Log-mel filterbank energies."""

    num_bands: Annotated[int, Ge(1), Le(512), "Mel bands K."] = 40
    window_ms: Annotated[float, Gt(0), Le(1000), "Length of a frame (ms); an even number of samples at 16 kHz."] = 25.0
    hop_ms: Annotated[float, Gt(0), Le(1000), "Frame shift (ms); a whole number of samples at 16 kHz."] = 10.0
    fft_size: Annotated[
        int,
        Ge(4),
        Le(32_768),
        "Size of the discrete Fourier transform, a multiple of 4; frames are zero-padded to it.",
    ] = 512
    low_hz: Annotated[float, Ge(0), Lt(8000), "Lower edge of the first band (Hz)."] = 20.0
    high_hz: Annotated[float, Gt(0), Le(8000), "Upper edge of the last band (Hz)."] = 8000.0
    mel_scale: Annotated[Literal["htk", "slaney"], "Formula of the mel scale."] = "htk"
    mel_norm: Annotated[
        Literal["none", "slaney"], '"none": triangles of height 1; "slaney": triangles of equal area.'
    ] = "none"
    floor: Annotated[
        float,
        Gt(0),
        "Lower limit of energies before the logarithm; quantisation noise of 16-bit audio is near 1e-8.",
    ] = 1e-8

    def __post_init__(self):
        """Checks rules between fields.

        Raises:
          ConfigError: naming the field and what is allowed.
        """
        for field in ("window_ms", "hop_ms"):
            samples = getattr(self, field) * SAMPLE_RATE / 1000
            if not samples >= 1 or abs(samples - round(samples)) > 1e-6:
                raise _field_error(field, f"a whole number of samples at {SAMPLE_RATE} Hz, >= 1", getattr(self, field))
        if self.window_samples % 2:
            raise _field_error("window_ms", f"an even number of samples at {SAMPLE_RATE} Hz", self.window_ms)
        if self.fft_size < self.window_samples or self.fft_size % 4:
            raise _field_error("fft_size", f"a multiple of 4, >= {self.window_samples} (the frame)", self.fft_size)
        if not self.low_hz < self.high_hz:
            raise _field_error("low_hz", f"< high_hz ({self.high_hz})", self.low_hz)
        empty = np.flatnonzero(~mel_filterbank(self.bands).any(axis=0))
        if empty.size:
            raise _field_error("num_bands", f"smaller, or fft_size larger: band {empty[0]} is empty", self.num_bands)

    @property
    def window_samples(self) -> int:
        """Number of samples of a frame."""
        return round(self.window_ms * SAMPLE_RATE / 1000)

    @property
    def hop_samples(self) -> int:
        """Frame shift in samples."""
        return round(self.hop_ms * SAMPLE_RATE / 1000)

    @property
    def bands(self) -> MelBands:
        """The filterbank."""
        return MelBands(self.num_bands, self.fft_size, self.low_hz, self.high_hz, self.mel_scale, self.mel_norm)


def log_mel(waveform: Float[Array, "B S"] | Int[Array, "B S"], config: LogMelConfig) -> Float[Array, "B T K"]:
    """Computes log-mel energies: the natural logarithm of the power spectrum summed over mel bands.

    Frame t covers the samples [t * hop, t * hop + window), without centring or look-ahead, so that streaming gives the
    same frames. The window is the periodic Hann window, as in librosa, torch and Whisper.

    A clip shorter than one frame is zero-padded to one frame. Valid frames (see `frame_mask`) do not depend on the
    amount of zero padding.

    The transform (`mel_energies`) is computed for a few frames of all rows at a time, since spectra of the whole batch
    would not fit into the cache (several times slower on CPU).

    Args:
      waveform: 16 kHz; integers are scaled by their full scale, floating point has full scale 1.0.
      config: parameters of the features.

    Returns:
      Log energies, float32 (float64 for a float64 waveform), T = `num_frames(S, config)`.
    """
    scale = 1.0
    dtype = jnp.promote_types(waveform.dtype, jnp.float32)
    if jnp.issubdtype(waveform.dtype, jnp.integer):
        scale, dtype = 1 / (float(jnp.iinfo(waveform.dtype).max) + 1.0), jnp.dtype(jnp.float32)
    phase = 2 * np.pi * np.arange(config.window_samples) / config.window_samples
    window = (scale * (0.5 - 0.5 * np.cos(phase))).astype(dtype)
    batch, samples = waveform.shape
    total = num_frames(samples, config)
    hop, runs = config.hop_samples, -(-config.window_samples // config.hop_samples)

    def energies(start, frames_per_row, energies_of_bands=mel_energies):
        chunk = lax.dynamic_slice_in_dim(waveform, start * hop, (frames_per_row + runs - 1) * hop, axis=1)
        frames = _frames(chunk.astype(dtype), config) * window
        return jnp.log(jnp.maximum(energies_of_bands(frames, config.bands), jnp.asarray(config.floor, dtype)))

    if not (isinstance(batch, int) and isinstance(samples, int)):  # symbolic, in an export
        waveform = jnp.pad(waveform, ((0, 0), (0, (_FRAMES_PER_SYMBOLIC_STEP + runs) * hop)))
        steps = -(-total // _FRAMES_PER_SYMBOLIC_STEP)
        starts = _FRAMES_PER_SYMBOLIC_STEP * jnp.arange(steps)
        # Products alone: other runtimes have no choice by platform, and not all have Fourier transforms.
        chunks = lax.map(lambda start: energies(start, _FRAMES_PER_SYMBOLIC_STEP, mel_energies_by_products), starts)
        rows = (batch, steps * _FRAMES_PER_SYMBOLIC_STEP, config.num_bands)
        return jnp.moveaxis(chunks, 0, 1).reshape(rows)[:, :total]
    if batch == 0 or total == 0:
        return jnp.zeros((batch, total, config.num_bands), dtype)
    missing = (total + runs - 1) * hop - samples  # The last frame's end, rounded up to whole hops.
    if missing > 0:
        waveform = jnp.pad(waveform, ((0, 0), (0, missing)))
    per_step = max(_FRAMES_PER_STEP // batch, _MIN_FRAMES_PER_ROW_AND_STEP)
    steps = -(-total // per_step)
    if steps == 1:
        return energies(0, total)
    # The last step ends with the last frame and overlaps the step before it, so that no padding is needed.
    starts = jnp.minimum(jnp.arange(steps) * per_step, total - per_step)
    chunks = lax.map(lambda start: energies(start, per_step), starts)
    body = jnp.moveaxis(chunks[:-1], 0, 1).reshape(batch, (steps - 1) * per_step, config.num_bands)
    return jnp.concatenate([body, chunks[-1][:, steps * per_step - total :]], axis=1)


def num_frames(num_samples, config: LogMelConfig):
    """Returns the number of complete frames of clips, at least one for a clip with at least one sample.

    Args:
      num_samples: int, also a symbolic one, or an integer array (NumPy, JAX) of any shape.
      config: config with window and hop.

    Returns:
      Value of the same type and shape as `num_samples`.
    """
    inside = 1 + (num_samples - config.window_samples) // config.hop_samples
    if not hasattr(num_samples, "shape"):
        return max(inside, min(num_samples, 1))
    if isinstance(num_samples, jax.Array):
        return jnp.maximum(inside, jnp.minimum(num_samples, 1))
    return np.maximum(inside, np.minimum(num_samples, 1))


def frame_mask(num_samples: Int[Array, "B"], total_frames: Any, config: LogMelConfig) -> Bool[Array, "B T"]:
    """Returns a mask that is True on the first `num_frames(num_samples, config)` of `total_frames` frames."""
    return jnp.arange(total_frames) < num_frames(num_samples, config)[:, None]


def _frames(waveform: Array, config: LogMelConfig) -> Array:
    """Divides (B, S) into overlapping frames (B, T, window) by concatenating shifted hops, without a gather."""
    window, hop = config.window_samples, config.hop_samples
    runs = -(-window // hop)
    hops = waveform.reshape(waveform.shape[0], -1, hop)
    count = hops.shape[1] - runs + 1
    return jnp.concatenate([hops[:, i : i + count, : min(hop, window - i * hop)] for i in range(runs)], axis=-1)


def _field_error(field: str, constraint: str, value: object) -> ConfigError:
    return ConfigError(f"filterbank.{field} must be {constraint}, got {value}")
