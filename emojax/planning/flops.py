"""Counts the floating-point operations of a traced function: those of matrix products and convolutions."""

import math
from typing import Any

import jax


def count_flops(jaxpr: Any) -> int:
    """FLOPs of one call over all devices; a multiplication and an addition count as two.

    Loops count as often as they run (a `while` whose length cannot be known, once), of several branches the dearest.
    Everything but products of matrices and convolutions is left out, as is usual for utilisation of hardware.

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
    """Output points times taps that meet an input point: zeros put between samples by dilation cost nothing."""
    params = equation.params
    kernel = equation.invars[1].aval.shape
    numbers = params["dimension_numbers"]
    taps = math.prod(kernel[axis] for axis in numbers.rhs_spec[1:])  # input channels of a group, and positions
    points = math.prod(equation.outvars[0].aval.shape)
    return round(2 * points * taps / math.prod(params["lhs_dilation"])) // params["batch_group_count"]


def _is_jaxpr(value: Any) -> bool:
    return hasattr(value, "eqns") or hasattr(value, "jaxpr")
