"""Whether a config fits the arrays that are saved beside it: asked before a model of any size is built."""

import dataclasses
import math
from collections.abc import Iterator, Mapping
from typing import Any

import jax

from emojax.errors import CheckpointError
from emojax.models import EmotionModelConfig

Shapes = Mapping[str, tuple[int, ...]]
"""Shape of every saved array by its path, `params/heads/attributes/kernel`."""

_FEW_LAYERS, _SMALL = 64, 2**16
"""Numbers up to these are no burden, whatever is saved."""


def check_claims(config: EmotionModelConfig, shapes: Shapes, place: str) -> None:
    """Compares the sizes in a model's config with what is saved of it; needs no model.

    A layer has at least one array, and nothing is larger than all arrays together. So a config that claims a million
    layers or channels for a small checkpoint is refused at once, not when memory is gone.

    Args:
      config: of the model.
      shapes: of what is saved, outside pre-trained encoders that are frozen.
      place: the config's file, for messages.

    Raises:
      CheckpointError: naming the field and the most that fits.
    """
    values = sum(math.prod(shape) for shape in shapes.values())
    parts = {view: getattr(config, view) for view in config.views} | {"fusion": config.fusion}
    for part, settings in parts.items():
        for name, number in _integers(settings, f"config.model.{part}"):
            layers = name.endswith("layers")
            most = max(len(shapes), _FEW_LAYERS) if layers else max(values, _SMALL)
            if number > most:
                saved = f"{len(shapes)} arrays" if layers else f"{values} values"
                raise CheckpointError(f"{place}: {name} must be <= {most} for a checkpoint of {saved}, got {number}")


def _integers(settings: Any, path: str) -> Iterator[tuple[str, int]]:
    for field in dataclasses.fields(settings):
        value, name = getattr(settings, field.name), f"{path}.{field.name}"
        if dataclasses.is_dataclass(value):
            yield from _integers(value, name)
        elif isinstance(value, tuple):
            yield from ((name, item) for item in value if type(item) is int)
        elif type(value) is int:
            yield name, value


def check_shapes(wanted: Any, shapes: Shapes, place: str) -> None:
    """Compares the arrays of a model with those that are saved.

    Args:
      wanted: tree of arrays or shapes.
      shapes: of what is saved.
      place: the checkpoint, for messages.

    Raises:
      CheckpointError: naming the first array that is not there in its shape.
    """
    for path, leaf in jax.tree_util.tree_leaves_with_path(wanted):
        name = "/".join(str(key.key) for key in path)
        if name not in shapes:
            raise CheckpointError(f"{place}: has no array {name}, which its config and corpus.json ask for")
        if shapes[name] != tuple(leaf.shape):
            raise CheckpointError(
                f"{place}: {name} has shape {shapes[name]}, its config and corpus.json ask for {tuple(leaf.shape)}"
            )
    asked = {"/".join(str(key.key) for key in path) for path, _ in jax.tree_util.tree_leaves_with_path(wanted)}
    left = next((name for name in shapes if name not in asked), None)
    if left is not None:
        raise CheckpointError(f"{place}: {left} is not part of the model that its config and corpus.json describe")
