"""Counts and lists parameters."""

import math
from typing import Any

import jax


def count_parameters(params: Any) -> int:
    """Number of scalars in a tree of arrays."""
    return sum(math.prod(leaf.shape) for leaf in jax.tree.leaves(params))


def parameter_table(params: Any) -> str:
    """A line per array (path, shape, size) and the total."""
    rows = [
        ("/".join(str(key.key) for key in path), "x".join(map(str, leaf.shape)), f"{math.prod(leaf.shape):,}")
        for path, leaf in jax.tree.leaves_with_path(params)
    ]
    rows.append(("total", "", f"{count_parameters(params):,}"))
    widths = [max(len(row[column]) for row in rows) for column in range(3)]
    return "\n".join(f"{name:<{widths[0]}}  {shape:>{widths[1]}}  {size:>{widths[2]}}" for name, shape, size in rows)
