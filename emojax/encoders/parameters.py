"""Parameters of an encoder: logical axis names for sharding, masks of frozen ones."""

import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import flax.traverse_util

from emojax.errors import ConfigError

Axes = tuple[str | None, ...]

AxesTable = tuple[tuple[str, Axes], ...]
"""(regular expression on the whole parameter path, parts joined by `/`; one logical axis name or None per dimension).
Parameters stacked over layers match like those of one layer and get `layers` in front."""


def logical_axes(params: Mapping[str, Any], table: AxesTable) -> dict[str, Any]:
    """Makes a tree like `params` with one tuple of axis names per parameter.

    Args:
      params: nested parameters, or their shapes.
      table: table of the encoder's family.

    Raises:
      ValueError: not exactly one line of the table fits a parameter.
    """
    flat = flax.traverse_util.flatten_dict(dict(params), sep="/")
    named = {path: parameter_axes(path, len(leaf.shape), table) for path, leaf in flat.items()}
    return flax.traverse_util.unflatten_dict(named, sep="/")


def axes_by_path(tables: Mapping[str, AxesTable]) -> Callable[[str, int], Axes | None]:
    """Makes a function that names the axes of several encoders' parameters in any tree, e.g. of optimizer moments.

    Args:
      tables: path of each encoder, e.g. `acoustic/encoder` -> table of its family.

    Returns:
      (path with parts joined by `/`, number of dimensions) -> names; None for parameters of no encoder.
    """
    patterns = [(re.compile(rf"(?:^|/){prefix}/(.+)$"), table) for prefix, table in tables.items()]

    def axes(path: str, ndim: int) -> Axes | None:
        for pattern, table in patterns:
            if found := pattern.search(path):
                return parameter_axes(found[1], ndim, table)
        return None

    return axes


def parameter_axes(path: str, ndim: int, table: AxesTable) -> Axes:
    """Looks up the names of one parameter's axes.

    Raises:
      ValueError: not exactly one line of the table fits it.
    """
    fitting = [axes for pattern, axes in table if re.fullmatch(pattern, path)]
    if len(fitting) != 1:
        raise ValueError(f"{path}: {len(fitting)} lines of the table of logical axes fit; one must")
    axes = fitting[0]
    if "layers" in path.split("/") and ndim == len(axes) + 1:
        axes = ("layers", *axes)
    if len(axes) != ndim:
        raise ValueError(f"{path}: has {ndim} dimensions, the table of logical axes names {len(axes)}")
    return axes


def freeze_mask(params: Mapping[str, Any], patterns: Sequence[str]) -> dict[str, Any]:
    """Makes a tree like `params`, True where a parameter is frozen, e.g. for `optax.transforms.freeze`.

    Args:
      params: nested parameters, or their shapes.
      patterns: regular expressions on paths whose parts are joined by `/`. One that fits a path up to the end of a part
        freezes everything below: `embeddings`, `layer_[0-5]`, `.*/bias`.

    Raises:
      ConfigError: a pattern is not a regular expression or fits nothing.
    """
    paths = flax.traverse_util.flatten_dict(dict(params), sep="/")
    frozen: set[str] = set()
    for pattern in patterns:
        try:
            expression = re.compile(f"(?:{pattern})(?:/.*)?")
        except re.error as error:
            raise ConfigError(f"freeze: {pattern!r} is not a regular expression ({error})") from error
        fitting = {path for path in paths if expression.fullmatch(path)}
        if not fitting:
            parts = sorted({path.split("/")[0] for path in paths})
            raise ConfigError(f"freeze: {pattern!r} fits no parameter; parts of this encoder: {', '.join(parts)}")
        frozen |= fitting
    return flax.traverse_util.unflatten_dict({path: path in frozen for path in paths}, sep="/")
