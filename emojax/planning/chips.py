"""Chips, topologies and their peak figures; operations of a traced step."""

import dataclasses
import importlib.util
import math
import os
import re
from typing import Any

import jax

from emojax.errors import ConfigError


@dataclasses.dataclass(frozen=True)
class Chip:
    """One kind of chip.

    Attributes:
      flops: bfloat16 FLOP/s.
      hbm_bytes: memory.
      hbm_bandwidth: bytes/s.
      link_bandwidth: bytes/s that leave the chip over all its links together.
      torus_dimensions: dimensions of the network; the links are shared equally between them.
      settings: further arguments of the topology.
    """

    flops: float
    hbm_bytes: int
    hbm_bandwidth: float
    link_bandwidth: float
    torus_dimensions: int
    settings: tuple[tuple[str, str], ...] = ()


CHIPS = {
    "v4": Chip(275e12, 32 * 2**30, 1228e9, 300e9, 3, (("chip_config_name", "megacore"),)),
    "v5e": Chip(197e12, 16 * 2**30, 819e9, 200e9, 2),
    "v5p": Chip(459e12, 95 * 2**30, 2765e9, 600e9, 3),
    "v6e": Chip(918e12, 32 * 2**30, 1640e9, 448e9, 2),
}


def find_chip(topology: str) -> Chip:
    """The chip of a topology such as `v5e:4x4`.

    Raises:
      ConfigError: unknown name.
    """
    name, _, shape = topology.partition(":")
    if name not in CHIPS or not re.fullmatch(r"\d+(x\d+){1,2}", shape):
        allowed = f"CHIP:AxB or CHIP:AxBxC, CHIP of {', '.join(CHIPS)}"
        raise ConfigError(f"--topology must be {allowed}, got {topology!r}")
    return CHIPS[name]


def topology_devices(topology: str) -> list[Any]:
    """Returns the devices of a topology, for compiling; none of them needs to exist.

    Raises:
      ConfigError: libtpu is not installed, or has no such topology.
    """
    chip = find_chip(topology)
    if importlib.util.find_spec("libtpu") is None:
        raise ConfigError("--mode=plan: needs libtpu, which is not installed (pip install 'jax[tpu]')")
    os.environ.setdefault("TPU_SKIP_MDS_QUERY", "1")  # it would look for a TPU's metadata server
    os.environ.setdefault("ALLOW_MULTIPLE_LIBTPU_LOAD", "1")  # no chip is used that others could not share
    from jax.experimental import topologies

    try:
        described = topologies.get_topology_desc(platform="tpu", topology_name=topology, **dict(chip.settings))
    except Exception as error:  # libtpu raises several types
        line = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise ConfigError(f"--topology: {topology!r} is not known to libtpu ({line[:200]})") from error
    return list(described.devices)


def count_flops(jaxpr: Any) -> int:
    """Counts FLOPs of one call over all devices; a multiplication and an addition are two.

    A loop counts with its number of iterations (a `while` as one), a branch with its most expensive alternative. Only
    products of matrices and convolutions count, as is usual for hardware utilisation.

    Args:
      jaxpr: closed or open, e.g. `jax.make_jaxpr(function)(*arguments)`.
    """
    total = 0
    for equation in getattr(jaxpr, "jaxpr", jaxpr).eqns:
        total += _equation(equation)
    return total


def _equation(equation: Any) -> int:
    name, params = equation.primitive.name, equation.params
    if name == "dot_general":
        (contracted, _), _ = params["dimension_numbers"]
        lengths = [equation.invars[0].aval.shape[axis] for axis in contracted]
        return 2 * math.prod(equation.outvars[0].aval.shape) * math.prod(lengths)
    if name == "conv_general_dilated":
        return _convolution(equation)
    inner = [count_flops(each) for each in jax.tree.leaves(list(params.values()), is_leaf=_is_jaxpr) if _is_jaxpr(each)]
    if name == "scan":
        return params["length"] * sum(inner)
    if name == "cond":
        return max(inner)
    if name == "shard_map":  # the inner shapes are those of one device
        return math.prod(params["mesh"].shape[axis] for axis in params["manual_axes"]) * sum(inner)
    return sum(inner)


def _convolution(equation: Any) -> int:
    """Output points times taps that meet an input point; zeros inserted by dilation do not count."""
    params = equation.params
    kernel = equation.invars[1].aval.shape
    numbers = params["dimension_numbers"]
    taps = math.prod(kernel[axis] for axis in numbers.rhs_spec[1:])  # input channels of a group, and positions
    points = math.prod(equation.outvars[0].aval.shape)
    return round(2 * points * taps / math.prod(params["lhs_dilation"])) // params["batch_group_count"]


def _is_jaxpr(value: Any) -> bool:
    return hasattr(value, "eqns") or hasattr(value, "jaxpr")
