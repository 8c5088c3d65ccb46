"""Power spectra of frames, summed over mel bands: by a Fourier transform on CPUs, by products on accelerators."""

import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.custom_batching import custom_vmap
from jax.experimental.custom_partitioning import custom_partitioning
from jax.sharding import NamedSharding, PartitionSpec
from jaxtyping import Array, Float

from emojax.audio.mel_scale import MelBands, mel_filterbank


def mel_energies(frames: Float[Array, "B T W"], bands: MelBands) -> Float[Array, "B T K"]:
    """Computes power spectra of windowed frames, summed over mel bands.

    On CPUs the spectrum is a fast Fourier transform, elsewhere `mel_energies_by_products`; both differ by rounding. The
    gradient is that of the products. Rows stay on their devices.

    Args:
      frames: at most fft_size samples, an even number; the first sample has weight 0, as in a periodic Hann window.
      bands: filterbank.
    """
    return lax.platform_dependent(
        frames,
        cpu=functools.partial(_by_transform, bands),
        default=functools.partial(mel_energies_by_products, bands=bands),
    )


def mel_energies_by_products(frames: Float[Array, "*B T W"], bands: MelBands) -> Float[Array, "*B T K"]:
    """Computes `mel_energies` by products with cosines and sines, reduced to a quarter by their symmetries.

    Relative to the frame's middle, cosines are even and sines odd, so that samples m and -m can be added before the
    products; so can m and fft_size/2 - m, where cosines are equal for even bins and opposite for odd ones. Shifting
    the origin changes phases only, not powers.
    """
    even_bins, odd_bins = _tables(bands)
    middle, quarter = frames.shape[-1] // 2, bands.fft_size // 4
    later, earlier = frames[..., middle + 1 :], jnp.flip(frames[..., 1:middle], -1)  # m = 1 .. middle - 1
    missing = 2 * quarter - middle
    if missing:
        padding = [(0, 0)] * (frames.ndim - 1) + [(0, missing)]
        later, earlier = jnp.pad(later, padding), jnp.pad(earlier, padding)
    even, odd = later + earlier, later - earlier
    even_near, even_far = even[..., :quarter], jnp.flip(even[..., quarter - 1 :], -1)
    odd_near, odd_far = odd[..., :quarter], jnp.flip(odd[..., quarter - 1 :], -1)
    at_middle = frames[..., middle : middle + 1]

    def energies(cosine_side, sine_side, bins):
        power = jnp.square(_product(cosine_side, bins.cosines) + at_middle)
        return _product(power + jnp.square(_product(sine_side, bins.sines)), bins.mel)

    return energies(even_near + even_far, odd_near - odd_far, even_bins) + energies(
        even_near - even_far, odd_near + odd_far, odd_bins
    )


# XLA does not partition Fourier transforms: it would gather the whole batch on every device.
@functools.partial(custom_partitioning, static_argnums=(1,))
def _power_spectrum(frames: Any, fft_size: int) -> Any:
    spectrum = jnp.fft.rfft(frames, fft_size)
    return jnp.square(spectrum.real) + jnp.square(spectrum.imag)


def _rows(mesh: Any, operands: Any) -> NamedSharding:
    spec = operands[0].sharding.spec
    return NamedSharding(mesh, PartitionSpec(spec[0] if spec else None, None, None))


def _partition(fft_size: int, mesh: Any, operands: Any, result: Any) -> Any:
    rows = _rows(mesh, operands)
    return mesh, functools.partial(_power_spectrum.fun, fft_size=fft_size), rows, (rows,)


_power_spectrum.def_partition(
    partition=_partition,
    infer_sharding_from_operands=lambda fft_size, mesh, operands, result: _rows(mesh, operands),
    sharding_rule="b t w -> b t k",
    need_replication_factors=("t", "w", "k"),
)


# A partitioned function has neither a rule for vmap nor a gradient of its own.
def _power_spectra(frames: Array, fft_size: int) -> Array:
    spectra = custom_vmap(lambda frames: _power_spectrum(frames, fft_size))

    @spectra.def_vmap
    def _mapped(axis_size, in_batched, frames):
        powers = _power_spectra(frames.reshape(-1, *frames.shape[2:]), fft_size)
        return powers.reshape(*frames.shape[:3], -1), True

    return spectra(frames)


@functools.partial(jax.custom_vjp, nondiff_argnums=(0,))
def _by_transform(bands: MelBands, frames: Array) -> Array:
    return _product(_power_spectra(frames, bands.fft_size), mel_filterbank(bands))


def _forward(bands: MelBands, frames: Array) -> tuple[Array, Array]:
    return _by_transform(bands, frames), frames


def _backward(bands: MelBands, frames: Array, cotangent: Array) -> tuple[Array]:
    return jax.vjp(functools.partial(mel_energies_by_products, bands=bands), frames)[1](cotangent)


_by_transform.defvjp(_forward, _backward)


def _product(left: Array, table: np.ndarray) -> Array:
    return jnp.matmul(left, table.astype(left.dtype), precision=lax.Precision.HIGHEST)


class _Bins(NamedTuple):
    """Tables for even or odd bins, float64: cosines, sines (quarter, bins) of m = 1 .. quarter; mel weights."""

    cosines: np.ndarray
    sines: np.ndarray
    mel: np.ndarray


@functools.lru_cache(maxsize=16)
def _tables(bands: MelBands) -> tuple[_Bins, _Bins]:
    mel = mel_filterbank(bands)
    used = np.flatnonzero(mel.any(axis=1))
    quarter = bands.fft_size // 4
    # Sample m = quarter is its own mirror image and occurs twice in the sums.
    share = np.where(np.arange(1, quarter + 1) == quarter, 0.5, 1.0)[:, None]

    def bins(numbers):
        angle = 2 * np.pi * np.outer(np.arange(1, quarter + 1), numbers) / bands.fft_size
        return _Bins(share * np.cos(angle), share * np.sin(angle), mel[numbers])

    return bins(used[used % 2 == 0]), bins(used[used % 2 == 1])
