"""Whether the model that a config describes is the one that is saved, asked before its arrays are read or allocated."""

from collections.abc import Mapping
from typing import Any

import jax

from emojax.errors import CheckpointError

Shapes = Mapping[str, tuple[int, ...]]
"""Shape of every saved array by its path, `params/heads/attributes/kernel`."""


def check_shapes(wanted: Any, shapes: Shapes, place: str) -> None:
    """Compares the arrays of a model with those that are saved.

    Args:
      wanted: tree of arrays or shapes.
      shapes: of what is saved.
      place: the checkpoint, for messages.

    Raises:
      CheckpointError: naming the first array that is not there in its shape, or is there in addition.
    """
    leaves = jax.tree_util.tree_leaves_with_path(wanted)
    asked = {"/".join(str(key.key) for key in path): tuple(leaf.shape) for path, leaf in leaves}
    for name, shape in asked.items():
        if name not in shapes:
            raise CheckpointError(f"{place}: has no array {name}, which its config and corpus.json ask for")
        if shapes[name] != shape:
            raise CheckpointError(
                f"{place}: {name} has shape {shapes[name]}, its config and corpus.json ask for {shape}"
            )
    left = next((name for name in shapes if name not in asked), None)
    if left is not None:
        raise CheckpointError(f"{place}: {left} is not part of the model that its config and corpus.json describe")
