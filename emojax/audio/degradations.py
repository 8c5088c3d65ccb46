"""Degradations of waveforms inside jit: noise at an active-speech SNR, reverberation, band limits, change of speed."""

import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.experimental.custom_partitioning import custom_partitioning
from jax.sharding import NamedSharding, PartitionSpec
from jaxtyping import Array, Bool, Float, Int

from emojax.types import SAMPLE_RATE

FRAME_SAMPLES = 320
"""Frame length for activity detection: 20 ms."""

RANGE_DB = 35.0
"""Frames whose energy is this far below the loudest frame count as pauses (dB)."""


def speech_activity(waveform: Float[Array, "B S"], num_samples: Int[Array, "B"]) -> Bool[Array, "B S"]:
    """Marks samples in frames of 20 ms whose energy is within 35 dB of the clip's loudest frame.

    A simple approximation of the active speech level of ITU-T P.56 for clips with little noise. The last frame may be
    shorter; its energy is averaged over valid samples. A silent clip has no active samples.

    Args:
      waveform: 16 kHz, any scale.
      num_samples: valid samples per row; padding is never active.
    """
    samples = waveform.shape[1]
    frames = -(-samples // FRAME_SAMPLES)
    valid = jnp.arange(samples) < num_samples[:, None]
    squares = jnp.where(valid, jnp.square(waveform), 0.0)
    padding = ((0, 0), (0, frames * FRAME_SAMPLES - samples))
    by_frame = jnp.pad(squares, padding).reshape(-1, frames, FRAME_SAMPLES)
    counts = jnp.pad(valid, padding).reshape(-1, frames, FRAME_SAMPLES).sum(axis=2)
    energy = by_frame.sum(axis=2) / jnp.maximum(counts, 1)
    loudest = energy.max(axis=1, keepdims=True)
    active = (energy >= loudest * 10 ** (-RANGE_DB / 10)) & (energy > 0)
    return jnp.repeat(active, FRAME_SAMPLES, axis=1)[:, :samples] & valid


def active_power(waveform: Float[Array, "B S"], active: Bool[Array, "B S"]) -> Float[Array, "B"]:
    """Computes the mean square over active samples; 0 without any."""
    return jnp.where(active, jnp.square(waveform), 0.0).sum(axis=1) / jnp.maximum(active.sum(axis=1), 1)


_MIN_POWER = 1e-20
"""Power below which a signal counts as silent and is not scaled."""


def add_noise(
    waveform: Float[Array, "B S"],
    num_samples: Int[Array, "B"],
    noise: Float[Array, "B S"],
    snr_db: Float[Array, "B"],
) -> Float[Array, "B S"]:
    """Adds noise at a signal-to-noise ratio measured over active speech.

    Both powers are computed over the samples of `speech_activity`, so that pauses do not lower the speech level.
    Padding stays zero.

    Args:
      waveform: 16 kHz, full scale 1.0.
      num_samples: valid samples per row.
      noise: noise of the same length, any level; if speech or noise is silent, nothing is added.
      snr_db: signal-to-noise ratio per row (dB); infinity adds nothing.
    """
    active = speech_activity(waveform, num_samples)
    speech, disturbance = active_power(waveform, active), active_power(noise, active)
    usable = (speech > _MIN_POWER) & (disturbance > _MIN_POWER)
    wanted = jnp.sqrt(speech / jnp.where(usable, disturbance, 1.0) * 10.0 ** (-snr_db / 10.0))
    scale = jnp.where(usable, wanted, 0.0)
    valid = jnp.arange(waveform.shape[1]) < num_samples[:, None]
    return jnp.where(valid, waveform + scale[:, None] * noise, 0.0)


def convolve(waveform: Float[Array, "B S"], response: Float[Array, "B R"]) -> Float[Array, "B N"]:
    """Convolves each row with its response, N = S + R - 1 (`scipy.signal.fftconvolve`, mode "full").

    The batch stays sharded. No gradient is defined, since it is used for augmentation.
    """
    full = waveform.shape[1] + response.shape[1] - 1
    return _circular(waveform, response, fast_length(full))[:, :full]


# XLA does not partition Fourier transforms: it would gather the whole batch on every device.
@functools.partial(custom_partitioning, static_argnums=(2,))
def _circular(waveform: Any, response: Any, size: int) -> Any:
    return jnp.fft.irfft(jnp.fft.rfft(waveform, size) * jnp.fft.rfft(response, size), size)


def _by_rows(mesh: Any, operands: Any) -> NamedSharding:
    spec = operands[0].sharding.spec
    return NamedSharding(mesh, PartitionSpec(spec[0] if spec else None, None))


def _partition(size: int, mesh: Any, operands: Any, result: Any) -> Any:
    rows = _by_rows(mesh, operands)
    return mesh, functools.partial(_circular.fun, size=size), rows, (rows, rows)


_circular.def_partition(
    partition=_partition,
    infer_sharding_from_operands=lambda size, mesh, operands, result: _by_rows(mesh, operands),
    sharding_rule="b s, b r -> b n",
    need_replication_factors=("s", "r", "n"),
)


def reverberate(
    waveform: Float[Array, "B S"], num_samples: Int[Array, "B"], response: Float[Array, "B R"]
) -> Float[Array, "B S"]:
    """Convolves every clip with a room impulse response, preserving energy and timing.

    The response's strongest sample, the direct sound, has delay 0; reverberation after a clip's end is cut off. The
    result has the energy of the original over its valid samples. A response of zeros changes nothing.

    Args:
      waveform: 16 kHz; padding is ignored, and zero in the result.
      num_samples: valid samples per row.
      response: room impulse responses, zero-padded.
    """
    samples = waveform.shape[1]
    valid = jnp.arange(samples) < num_samples[:, None]
    dry = jnp.where(valid, waveform, 0.0)
    direct = jnp.argmax(jnp.abs(response), axis=1)
    full = jnp.pad(convolve(dry, response), ((0, 0), (0, 1)))
    wet = jnp.take_along_axis(full, jnp.minimum(jnp.arange(samples) + direct[:, None], full.shape[1] - 1), axis=1)
    wet = jnp.where(valid, wet, 0.0)
    before, after = jnp.square(dry).sum(axis=1), jnp.square(wet).sum(axis=1)
    usable = after > _MIN_POWER
    scale = jnp.sqrt(before / jnp.where(usable, after, 1.0))
    return jnp.where(usable[:, None], scale[:, None] * wet, dry)


_BAND_TAPS = 511
"""Taps of the filter of `band_pass`: transitions of about 150 Hz, 60 dB of attenuation."""


def band_pass(
    waveform: Float[Array, "B S"], num_samples: Int[Array, "B"], low_hertz: float, high_hertz: float
) -> Float[Array, "B S"]:
    """Filters each row by a linear-phase band-pass filter (windowed sinc), without delay.

    Args:
      waveform: 16 kHz; padding is ignored, and zero in the result.
      num_samples: valid samples per row.
      low_hertz: frequency below which the attenuation exceeds 6 dB (Hz).
      high_hertz: frequency above which it does (Hz).
    """
    offsets = np.arange(_BAND_TAPS) - _BAND_TAPS // 2
    ideal = [2 * hertz / SAMPLE_RATE * np.sinc(2 * hertz / SAMPLE_RATE * offsets) for hertz in (low_hertz, high_hertz)]
    taps = ((ideal[1] - ideal[0]) * np.kaiser(_BAND_TAPS, 6.0)).astype(np.float32)
    valid = jnp.arange(waveform.shape[1]) < num_samples[:, None]
    response = jnp.broadcast_to(jnp.asarray(taps), (waveform.shape[0], _BAND_TAPS))
    filtered = convolve(jnp.where(valid, waveform, 0.0), response)
    delay = _BAND_TAPS // 2
    return jnp.where(valid, filtered[:, delay : delay + waveform.shape[1]], 0.0)


def fast_length(least: int) -> int:
    """The smallest length that is at least `least` and has no prime factor beyond 5."""
    best = 1 << (least - 1).bit_length()
    fives = 1
    while fives < best:
        threes = fives
        while threes < best:
            twos = threes * (1 << max(0, (-(-least // threes) - 1).bit_length()))
            best = min(best, twos)
            threes *= 3
        fives *= 5
    return best


HALF_WIDTH = 6
"""Samples on either side that a new sample is made from."""

_KAISER_BETA = 6.0


def change_speed(
    waveform: Float[Array, "B S"], num_samples: Int[Array, "B"], factor: Float[Array, "B"]
) -> tuple[Float[Array, "B S"], Int[Array, "B"]]:
    """Changes the speed of each row by `factor`, by interpolation with a windowed sinc of 12 samples.

    The static length is unchanged: a slowed clip that no longer fits is truncated. For factors above 1 the filter's
    cut-off is lowered to prevent aliasing.

    Args:
      waveform: 16 kHz; padding is ignored.
      num_samples: valid samples per row.
      factor: speed factor, > 0; rows with factor 1 are unchanged.

    Returns:
      Waveforms with zero padding, and their numbers of valid samples.
    """
    samples = waveform.shape[1]
    valid = jnp.arange(samples) < num_samples[:, None]
    source = jnp.pad(jnp.where(valid, waveform, 0.0), ((0, 0), (HALF_WIDTH, HALF_WIDTH)))
    changed = jnp.minimum(jnp.floor(num_samples / factor).astype(num_samples.dtype), samples)
    changed = jnp.where(num_samples > 0, jnp.maximum(changed, 1), 0)
    # Positions are split into two terms, so that float32 keeps the fraction accurate over a minute of samples.
    steps = jnp.arange(samples)
    blocks, rest = steps // 4096, steps % 4096
    advance = blocks[None] * ((4096 * (factor - 1.0))[:, None]) + rest[None] * (factor - 1.0)[:, None]
    whole = jnp.floor(advance)
    fraction = advance - whole
    nearest = steps[None] + whole.astype(jnp.int32)
    cutoff = jnp.minimum(1.0, 1.0 / factor)[:, None]
    result = jnp.zeros_like(waveform)
    for tap in range(-HALF_WIDTH + 1, HALF_WIDTH + 1):
        distance = tap - fraction
        weight = cutoff * jnp.sinc(cutoff * distance) * _window(distance)
        index = jnp.clip(nearest + tap + HALF_WIDTH, 0, source.shape[1] - 1)
        result += weight * jnp.take_along_axis(source, index, axis=1)
    same = (factor == 1.0)[:, None]
    result = jnp.where(same, waveform, result)
    return jnp.where(jnp.arange(samples) < changed[:, None], result, 0.0), changed


def _window(distance: Float[Array, "B S"]) -> Float[Array, "B S"]:
    inside = jnp.maximum(1.0 - jnp.square(distance / HALF_WIDTH), 0.0)
    return (
        jax.scipy.special.i0e(_KAISER_BETA * jnp.sqrt(inside))
        * jnp.exp(_KAISER_BETA * (jnp.sqrt(inside) - 1.0))
        / jax.scipy.special.i0e(_KAISER_BETA)
    )
