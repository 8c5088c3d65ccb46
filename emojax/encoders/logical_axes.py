"""Logical axis names of every parameter, from which sharding rules follow.

`embed` the model width, `heads` the concatenated attention heads, `mlp` the inner width of the feed-forward part,
`vocab` rows of a token table, `layers` parameters stacked over layers; None for axes that are never worth sharding.
Families of encoders may add names of their own.
"""

import re
from collections.abc import Mapping
from typing import Any

import flax.traverse_util

Axes = tuple[str | None, ...]


def logical_axes(params: Mapping[str, Any], table: tuple[tuple[str, Axes], ...]) -> dict[str, Any]:
    """A tree like `params` with one tuple of axis names per parameter.

    Args:
      params: nested parameters, or their shapes.
      table: `Family.axes`: regular expression on the whole path (parts joined by `/`) -> names. Parameters stacked
        over layers match like those of one layer and get `layers` in front.

    Raises:
      ValueError: not exactly one line of the table fits a parameter.
    """
    named = {}
    for path, leaf in flax.traverse_util.flatten_dict(dict(params), sep="/").items():
        fitting = [axes for pattern, axes in table if re.fullmatch(pattern, path)]
        if len(fitting) != 1:
            raise ValueError(f"{path}: {len(fitting)} lines of the table of logical axes fit; one must")
        axes = fitting[0]
        if "layers" in path.split("/") and len(leaf.shape) == len(axes) + 1:
            axes = ("layers", *axes)
        if len(axes) != len(leaf.shape):
            raise ValueError(f"{path}: has {len(leaf.shape)} dimensions, the table of logical axes names {len(axes)}")
        named[path] = axes
    return flax.traverse_util.unflatten_dict(named, sep="/")
