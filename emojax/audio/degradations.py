"""Changes of a waveform inside jit: noise at a signal-to-noise ratio over active speech, rooms, speed."""

import functools
from typing import Any

import jax
import jax.numpy as jnp
from jax.experimental.custom_partitioning import custom_partitioning
from jax.sharding import NamedSharding, PartitionSpec
from jaxtyping import Array, Bool, Float, Int

FRAME_SAMPLES = 320
"""20 ms."""

RANGE_DB = 35.0
"""Frames this far below the loudest one of the clip are taken to be pauses."""


def speech_activity(waveform: Float[Array, "B S"], num_samples: Int[Array, "B"]) -> Bool[Array, "B S"]:
    """Marks the samples of frames of 20 ms whose energy is within 35 dB of the clip's loudest frame.

    A simple stand-in for the active speech level of ITU-T P.56, good for clips recorded without much noise. The last
    frame may be shorter; its energy is per valid sample. A silent clip has no active sample.

    Args:
      waveform: 16 kHz, any scale.
      num_samples: valid samples per row; what follows is never active.
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
    """Mean square over active samples; 0 without any."""
    return jnp.where(active, jnp.square(waveform), 0.0).sum(axis=1) / jnp.maximum(active.sum(axis=1), 1)


_LEAST_NOISE_POWER = 1e-20
"""Below it there is nothing to scale: silent speech or silent noise leaves the clip as it is."""


def add_noise(
    waveform: Float[Array, "B S"],
    num_samples: Int[Array, "B"],
    noise: Float[Array, "B S"],
    snr_db: Float[Array, "B"],
) -> Float[Array, "B S"]:
    """Adds noise so that speech is `snr_db` above it over the samples where there is speech.

    Both powers are taken over the same samples, those of `speech_activity`: pauses do not make speech look quieter
    than it is. Padding stays zero.

    Args:
      waveform: 16 kHz, full scale 1.0.
      num_samples: valid samples per row.
      noise: as long as the waveforms, any level.
      snr_db: ratio per row, in dB; infinity adds nothing.
    """
    active = speech_activity(waveform, num_samples)
    speech, disturbance = active_power(waveform, active), active_power(noise, active)
    usable = (speech > _LEAST_NOISE_POWER) & (disturbance > _LEAST_NOISE_POWER)
    wanted = jnp.sqrt(speech / jnp.where(usable, disturbance, 1.0) * 10.0 ** (-snr_db / 10.0))
    scale = jnp.where(usable, wanted, 0.0)
    valid = jnp.arange(waveform.shape[1]) < num_samples[:, None]
    return jnp.where(valid, waveform + scale[:, None] * noise, 0.0)


_LEAST_POWER = 1e-20


def convolve(waveform: Float[Array, "B S"], response: Float[Array, "B R"]) -> Float[Array, "B N"]:
    """The full linear convolution of every row with its response, N = S + R - 1 (`scipy.signal.fftconvolve`).

    Rows stay on their devices. It has no gradient: it is meant for augmentation.
    """
    full = waveform.shape[1] + response.shape[1] - 1
    return _circular(waveform, response, fast_length(full))[:, :full]


# XLA does not divide a Fourier transform over devices: left to itself it gathers the whole batch on each of them.
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
    """Lets every clip sound in a room: as loud as before, its words where they were.

    The response's strongest sample, the direct sound, is placed at delay 0; what rings on after a clip's end is cut
    off. The result has the energy of the original over its valid samples. A response of zeros changes nothing.

    Args:
      waveform: 16 kHz; what lies beyond `num_samples` has no influence, and is zero in the result.
      num_samples: valid samples per row.
      response: impulse responses, zero-padded.
    """
    samples = waveform.shape[1]
    valid = jnp.arange(samples) < num_samples[:, None]
    dry = jnp.where(valid, waveform, 0.0)
    direct = jnp.argmax(jnp.abs(response), axis=1)
    full = jnp.pad(convolve(dry, response), ((0, 0), (0, 1)))
    wet = jnp.take_along_axis(full, jnp.minimum(jnp.arange(samples) + direct[:, None], full.shape[1] - 1), axis=1)
    wet = jnp.where(valid, wet, 0.0)
    before, after = jnp.square(dry).sum(axis=1), jnp.square(wet).sum(axis=1)
    usable = after > _LEAST_POWER
    scale = jnp.sqrt(before / jnp.where(usable, after, 1.0))
    return jnp.where(usable[:, None], scale[:, None] * wet, dry)


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
    """Plays every row `factor` times as fast, by interpolation with a windowed sinc of 12 samples.

    The static length stays: a slowed clip that no longer fits loses its end. Played faster, frequencies that would
    pass half the sample rate are attenuated by the filter, whose cut-off moves with the factor.

    Args:
      waveform: 16 kHz; what lies beyond `num_samples` has no influence.
      num_samples: valid samples per row.
      factor: above 0; 1 changes nothing, exactly.

    Returns:
      The waveforms, zero after their end, and the new numbers of valid samples.
    """
    samples = waveform.shape[1]
    valid = jnp.arange(samples) < num_samples[:, None]
    source = jnp.pad(jnp.where(valid, waveform, 0.0), ((0, 0), (HALF_WIDTH, HALF_WIDTH)))
    changed = jnp.minimum(jnp.floor(num_samples / factor).astype(num_samples.dtype), samples)
    changed = jnp.where(num_samples > 0, jnp.maximum(changed, 1), 0)
    # Positions in two parts, so that float32 keeps the fraction exact enough over a minute of samples.
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
