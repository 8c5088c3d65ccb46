"""Counts and lists parameters."""

import math
from typing import Any

import jax


def count_parameters(params: Any) -> int:
    """Number of scalars in a tree of arrays."""
    return sum(math.prod(leaf.shape) for leaf in jax.tree.leaves(params))


def parameter_table(params: Any, frozen: Any = None) -> str:
    """A line per array (path, shape, size) and the total; frozen parts are summed up."""
    rows = [
        ("/".join(str(key.key) for key in path), "x".join(map(str, leaf.shape)), f"{math.prod(leaf.shape):,}")
        for path, leaf in jax.tree.leaves_with_path(params)
    ]
    rows.append(("total", "", f"{count_parameters(params):,}"))
    if frozen:
        rows.append(("frozen beside it", "", f"{count_parameters(frozen):,}"))
    widths = [max(len(row[column]) for row in rows) for column in range(3)]
    return "\n".join(f"{name:<{widths[0]}}  {shape:>{widths[1]}}  {size:>{widths[2]}}" for name, shape, size in rows)
