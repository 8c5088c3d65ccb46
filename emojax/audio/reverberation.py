"""Reverberation: convolution with a room's impulse response, by fast Fourier transform."""

import functools
from typing import Any

import jax.numpy as jnp
from jax.experimental.custom_partitioning import custom_partitioning
from jax.sharding import NamedSharding, PartitionSpec
from jaxtyping import Array, Float, Int

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
