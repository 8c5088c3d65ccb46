"""Which parameters stay as they are in training, chosen by path patterns."""

import re
from collections.abc import Mapping, Sequence
from typing import Any

import flax.traverse_util

from emojax.errors import ConfigError


def freeze_mask(params: Mapping[str, Any], patterns: Sequence[str]) -> dict[str, Any]:
    """A tree like `params`, True where a parameter is frozen; fits `optax.transforms.freeze` and `selective_transform`.

    Args:
      params: nested parameters, or their shapes.
      patterns: regular expressions on paths whose parts are joined by `/`. One that fits a path up to the end of a part
        freezes everything below: `embeddings`, `layer_[0-5]`, `.*/bias`.

    Raises:
      ConfigError: a pattern is no regular expression or fits nothing.
    """
    paths = flax.traverse_util.flatten_dict(dict(params), sep="/")
    frozen: set[str] = set()
    for pattern in patterns:
        try:
            expression = re.compile(f"(?:{pattern})(?:/.*)?")
        except re.error as error:
            raise ConfigError(f"freeze: {pattern!r} is no regular expression ({error})") from error
        fitting = {path for path in paths if expression.fullmatch(path)}
        if not fitting:
            parts = sorted({path.split("/")[0] for path in paths})
            raise ConfigError(f"freeze: {pattern!r} fits no parameter; parts of this encoder: {', '.join(parts)}")
        frozen |= fitting
    return flax.traverse_util.unflatten_dict({path: path in frozen for path in paths}, sep="/")
