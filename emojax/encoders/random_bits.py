"""Random bits for dropout from a hash of positions: a few integer operations, the same on every platform and sharding.

`jax.random` computes a block cipher of about a hundred operations per value, whose bits compilers write to memory
before they use them. A hash is computed where it is used, in a fused loop or inside a kernel, and again in the backward
pass. It is good enough to drop activations, and for nothing else.
"""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

# Multipliers and shifts of lowbias32 (Wellons 2018, "Prospecting for Hash Functions"), as signed 32-bit integers.
_FIRST, _SECOND = (int(np.uint32(each).astype(np.int32)) for each in (0x7FEB352D, 0x846CA68B))
_STEP = int(np.uint32(0x9E3779B1).astype(np.int32))
"""2^32 divided by the golden ratio, odd: neighbouring positions become distant ones."""


def mix(values: Any) -> Any:
    """Hashes int32 to int32, one to one."""
    values = values ^ jax.lax.shift_right_logical(values, jnp.int32(16))
    values = values * jnp.int32(_FIRST)
    values = values ^ jax.lax.shift_right_logical(values, jnp.int32(15))
    values = values * jnp.int32(_SECOND)
    return values ^ jax.lax.shift_right_logical(values, jnp.int32(16))


def stream(*numbers: Any) -> Any:
    """Joins int32 numbers, such as a seed and the number of a row, to the number of a stream of bits."""
    joined = jnp.int32(0)
    for number in numbers:
        joined = mix(joined * jnp.int32(_STEP) + number)
    return joined


def kept(base: Any, positions: Any, rate: float) -> Any:
    """True with probability 1 - `rate`, at each position of a stream.

    Args:
      base: from `stream`.
      positions: int32.
      rate: probability of False, rounded to 2^-24.
    """
    bits = jax.lax.shift_right_logical(mix(positions * jnp.int32(_STEP) + base), jnp.int32(8))
    return bits >= jnp.int32(round(rate * 2**24))


def seeds(key: jax.Array) -> jax.Array:
    """Two int32 numbers of a random key."""
    return jax.lax.bitcast_convert_type(jax.random.bits(key, (2,), jnp.uint32), jnp.int32)
