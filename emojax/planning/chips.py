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
      clock: cycles/s; None if unknown.
      empty_cycles: cycles that libtpu's cost model (0.0.42, `estimated_cycles` of compiled programs) adds to every
        operation, read off operations on one element.
      settings: further arguments of the topology.
    """

    flops: float
    hbm_bytes: int
    hbm_bandwidth: float
    link_bandwidth: float
    torus_dimensions: int
    clock: float | None
    empty_cycles: int
    settings: tuple[tuple[str, str], ...] = ()


CHIPS = {
    "v4": Chip(275e12, 32 * 2**30, 1228e9, 300e9, 3, 1.05e9, 610, (("chip_config_name", "megacore"),)),
    "v5e": Chip(197e12, 16 * 2**30, 819e9, 200e9, 2, 1.5e9, 1818),
    "v5p": Chip(459e12, 95 * 2**30, 2765e9, 600e9, 3, 1.75e9, 2123),
    "v6e": Chip(918e12, 32 * 2**30, 1640e9, 448e9, 2, None, 2117),
}
"""Peak figures as published by Google Cloud. Clocks follow from the peak and the published number of matrix units of
128 x 128 (v4, v5p: 8 per chip; v5e: 4), each with two operations per cell and cycle; that of v6e is not known."""


def find_chip(topology: str) -> Chip:
    """The chip of a topology such as `v5e:4x4`, or `v5e:4x4@2` for two slices.

    Raises:
      ConfigError: unknown name.
    """
    name, _, shape = topology.partition(":")
    if name not in CHIPS or not re.fullmatch(r"\d+(x\d+){1,2}(@[1-9]\d*)?", shape):
        allowed = f"CHIP:AxB or CHIP:AxBxC, or CHIP:AxB@SLICES, CHIP of {', '.join(CHIPS)}"
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
    # It would ask the machine for both, and warn in three lines that it is no TPU host.
    os.environ.setdefault("TPU_ACCELERATOR_TYPE", "v5litepod-4")
    os.environ.setdefault("TPU_WORKER_HOSTNAMES", "localhost")
    from jax.experimental import topologies

    slice_topology, _, slices = topology.partition("@")
    settings = dict(chip.settings) | ({"num_slices": int(slices)} if slices else {})
    try:
        described = topologies.get_topology_desc(platform="tpu", topology_name=slice_topology, **settings)
    except Exception as error:  # libtpu raises several types
        line = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise ConfigError(f"--topology: {topology!r} is not known to libtpu ({line[:200]})") from error
    return list(described.devices)


def count_flops(jaxpr: Any, useful: bool = False, platform: str = "tpu") -> int:
    """Counts FLOPs of one call over all devices; a multiplication and an addition are two.

    A loop counts with its number of iterations (a `while` as one), a branch with its most expensive alternative. Only
    products of matrices and convolutions count, as is usual for hardware utilisation.

    Args:
      jaxpr: closed or open, e.g. `jax.make_jaxpr(function)(*arguments)`.
      useful: count kernels by their `cost_estimate`, which excludes what they compute again.
      platform: whose branches of `jax.lax.platform_dependent` are counted.
    """
    total = 0
    for equation in getattr(jaxpr, "jaxpr", jaxpr).eqns:
        total += _equation(equation, useful, platform)
    return total


def _equation(equation: Any, useful: bool, platform: str) -> int:
    name, params = equation.primitive.name, equation.params
    if name == "dot_general":
        (contracted, _), _ = params["dimension_numbers"]
        lengths = [equation.invars[0].aval.shape[axis] for axis in contracted]
        return 2 * math.prod(equation.outvars[0].aval.shape) * math.prod(lengths)
    if name == "conv_general_dilated":
        return _convolution(equation)
    leaves = jax.tree.leaves(list(params.values()), is_leaf=_is_jaxpr)
    inner = [count_flops(each, useful, platform) for each in leaves if _is_jaxpr(each)]
    if name == "scan":
        return params["length"] * sum(inner)
    if name == "pallas_call":
        if useful and params["cost_estimate"] is not None:
            return int(params["cost_estimate"].flops)
        return math.prod(params["grid_mapping"].grid) * sum(inner)
    if name == "cond":
        platforms = params.get("branches_platforms")
        if platforms:  # `jax.lax.platform_dependent`
            chosen = [number for number, names in enumerate(platforms) if names is None or platform in names]
            return inner[chosen[0]] if chosen else max(inner)
        return max(inner)
    if name == "shard_map":  # the inner shapes are those of one device
        return math.prod(params["mesh"].shape[axis] for axis in params["newly_manual_axes"]) * sum(inner)
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
