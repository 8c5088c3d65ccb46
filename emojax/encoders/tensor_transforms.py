"""How the values of published tensors become the values of a parameter, and back."""

import dataclasses
from collections.abc import Callable

import numpy as np

Shape = tuple[int, ...]


@dataclasses.dataclass(frozen=True)
class Transform:
    """A two-way change of layout.

    Attributes:
      load: published tensor(s) -> parameter; a view where possible, so that nothing is copied twice.
      export: parameter -> published tensor(s), in the order `load` takes them.
      source_shapes: shape of the parameter -> shape(s) of the published tensor(s).
    """

    load: Callable[..., np.ndarray]
    export: Callable[[np.ndarray], tuple[np.ndarray, ...]]
    source_shapes: Callable[[Shape], tuple[Shape, ...]]


def _reversed(array: np.ndarray) -> np.ndarray:
    return array.transpose()


def _fold_weight_norm(gain: np.ndarray, direction: np.ndarray) -> np.ndarray:
    """Weight norm with one gain per kernel tap (`dim=2` in PyTorch): `g v / |v|`, the norm over both channel axes."""
    direction = direction.astype(np.float32)
    norm = np.sqrt(np.sum(np.square(direction), axis=(0, 1), keepdims=True))
    return (direction * (gain.astype(np.float32) / norm)).transpose()


def _unfold_weight_norm(kernel: np.ndarray) -> tuple[np.ndarray, ...]:
    direction = kernel.transpose()
    return np.sqrt(np.sum(np.square(direction), axis=(0, 1), keepdims=True)), direction


TRANSFORMS = {
    "same": Transform(lambda x: x, lambda x: (x,), lambda shape: (shape,)),
    # Linear: (out, in) <-> (in, out).
    "linear": Transform(_reversed, lambda x: (_reversed(x),), lambda shape: (shape[::-1],)),
    # Conv1d: (out, in / groups, taps) <-> (taps, in / groups, out).
    "conv1d": Transform(_reversed, lambda x: (_reversed(x),), lambda shape: (shape[::-1],)),
    # Conv1d under weight norm over axes 0 and 1: gain (1, 1, taps) and direction (out, in / groups, taps).
    "weight_norm_conv1d": Transform(
        _fold_weight_norm, _unfold_weight_norm, lambda shape: ((1, 1, shape[0]), shape[::-1])
    ),
}
