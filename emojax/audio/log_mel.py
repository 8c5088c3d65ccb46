"""Log-mel filterbank energies, computed inside jit, and mel scales."""

import functools
from typing import Annotated, Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, Bool, Float, Int

from emojax.errors import ConfigError
from emojax.schema import Ge, Gt, Le, Lt, settings
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


def mel_filterbank(
    num_bands: int, fft_size: int, low_hz: float, high_hz: float, scale: str, norm: str
) -> Float[np.ndarray, "bins K"]:
    """Computes the triangular weights (float64) of the fft_size // 2 + 1 power spectrum bins in each band."""
    edges = mel_edges(num_bands, low_hz, high_hz, scale)
    bins = np.arange(fft_size // 2 + 1)[:, None] * SAMPLE_RATE / fft_size
    low, centre, high = edges[:-2], edges[1:-1], edges[2:]
    weights = np.maximum(np.minimum((bins - low) / (centre - low), (high - bins) / (high - centre)), 0.0)
    return weights * 2.0 / (high - low) if norm == "slaney" else weights


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
        "Size of the discrete Fourier transform, a multiple of 4; frames are zero-padded to it. Sizes with large prime "
        "factors are equally fast.",
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
        empty = np.flatnonzero(~_mel_filterbank(self).any(axis=0))
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


def log_mel(waveform: Float[Array, "B S"] | Int[Array, "B S"], config: LogMelConfig) -> Float[Array, "B T K"]:
    """Computes log-mel energies: the natural logarithm of the power spectrum summed over mel bands.

    Frame t covers the samples [t * hop, t * hop + window), without centring or look-ahead, so that streaming gives the
    same frames. The window is the periodic Hann window, as in librosa, torch and Whisper.

    A clip shorter than one frame is zero-padded to one frame. Valid frames (see `frame_mask`) do not depend on the
    amount of zero padding.

    The transform is computed for a few frames of all rows at a time, since spectra of the whole batch would not fit
    into the cache (several times slower on CPU). It is a product with cosines and sines, reduced to a quarter by their
    symmetries: on two CPU cores about as fast as an FFT, which XLA would gather on every device of a sharded batch.

    Args:
      waveform: 16 kHz; integers are scaled by their full scale, floating point has full scale 1.0.
      config: parameters of the features.

    Returns:
      Log energies, float32 (float64 for a float64 waveform), T = `num_frames(S, config)`.
    """
    tables = _tables(config)
    scale = 1.0
    dtype = jnp.promote_types(waveform.dtype, jnp.float32)
    if jnp.issubdtype(waveform.dtype, jnp.integer):
        scale, dtype = 1 / (float(jnp.iinfo(waveform.dtype).max) + 1.0), jnp.dtype(jnp.float32)
    window = (tables.window * scale).astype(dtype)
    batch, samples = waveform.shape
    total = num_frames(samples, config)
    hop, runs = config.hop_samples, -(-config.window_samples // config.hop_samples)

    def energies(start, frames_per_row):
        chunk = lax.dynamic_slice_in_dim(waveform, start * hop, (frames_per_row + runs - 1) * hop, axis=1)
        frames = _frames(chunk.astype(dtype), config) * window
        bands = _mel_energies(frames, tables, config.fft_size)
        return jnp.log(jnp.maximum(bands, jnp.asarray(config.floor, dtype)))

    if not (isinstance(batch, int) and isinstance(samples, int)):  # symbolic, in an export
        waveform = jnp.pad(waveform, ((0, 0), (0, (_FRAMES_PER_SYMBOLIC_STEP + runs) * hop)))
        steps = -(-total // _FRAMES_PER_SYMBOLIC_STEP)
        starts = _FRAMES_PER_SYMBOLIC_STEP * jnp.arange(steps)
        chunks = lax.map(lambda start: energies(start, _FRAMES_PER_SYMBOLIC_STEP), starts)
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


def _mel_energies(frames: Array, tables: "_Tables", fft_size: int) -> Array:
    """Computes power spectra of windowed frames (B, T, window), summed over mel bands.

    Relative to the frame's middle, cosines are even and sines odd, so that samples m and -m can be added before the
    products; so can m and fft_size/2 - m, where cosines are equal for even bins and opposite for odd ones. Shifting
    the origin changes phases only, not powers. The first sample has weight 0 in the periodic Hann window.
    """
    middle, quarter = frames.shape[-1] // 2, fft_size // 4
    later, earlier = frames[..., middle + 1 :], jnp.flip(frames[..., 1:middle], -1)  # m = 1 .. middle - 1
    missing = 2 * quarter - middle
    if missing:
        later, earlier = (jnp.pad(half, ((0, 0), (0, 0), (0, missing))) for half in (later, earlier))
    even, odd = later + earlier, later - earlier
    even_near, even_far = even[..., :quarter], jnp.flip(even[..., quarter - 1 :], -1)
    odd_near, odd_far = odd[..., :quarter], jnp.flip(odd[..., quarter - 1 :], -1)
    at_middle = frames[..., middle : middle + 1]

    def product(left, table):
        return jnp.matmul(left, table.astype(frames.dtype), precision=lax.Precision.HIGHEST)

    def energies(cosine_side, sine_side, bins):
        power = jnp.square(product(cosine_side, bins.cosines) + at_middle)
        return product(power + jnp.square(product(sine_side, bins.sines)), bins.mel)

    return energies(even_near + even_far, odd_near - odd_far, tables.even_bins) + energies(
        even_near - even_far, odd_near + odd_far, tables.odd_bins
    )


class _Bins(NamedTuple):
    """Tables for even or odd bins: cosines, sines (quarter, bins) of m = 1 .. quarter, mel weights (bins, K)."""

    cosines: np.ndarray
    sines: np.ndarray
    mel: np.ndarray


class _Tables(NamedTuple):
    """Constants of a config, float64."""

    window: np.ndarray
    even_bins: _Bins
    odd_bins: _Bins


@functools.lru_cache(maxsize=16)
def _tables(config: LogMelConfig) -> _Tables:
    phase = 2 * np.pi * np.arange(config.window_samples) / config.window_samples
    mel = _mel_filterbank(config)
    used = np.flatnonzero(mel.any(axis=1))
    # Sample m = quarter is its own mirror image and occurs twice in the sums.
    share = np.where(np.arange(1, config.fft_size // 4 + 1) == config.fft_size // 4, 0.5, 1.0)[:, None]

    def bins(numbers):
        angle = 2 * np.pi * np.outer(np.arange(1, config.fft_size // 4 + 1), numbers) / config.fft_size
        return _Bins(share * np.cos(angle), share * np.sin(angle), mel[numbers])

    return _Tables(0.5 - 0.5 * np.cos(phase), bins(used[used % 2 == 0]), bins(used[used % 2 == 1]))


def _mel_filterbank(config: LogMelConfig) -> np.ndarray:
    return mel_filterbank(
        config.num_bands, config.fft_size, config.low_hz, config.high_hz, config.mel_scale, config.mel_norm
    )


def _field_error(field: str, constraint: str, value: object) -> ConfigError:
    return ConfigError(f"filterbank.{field} must be {constraint}, got {value}")
