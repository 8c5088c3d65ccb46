"""Trainable and frozen parameters: mask, split, counts and a table."""

import math
import re
from collections.abc import Mapping
from typing import Any

import flax.traverse_util
import jax

from emojax.encoders import freeze_mask
from emojax.errors import ConfigError
from emojax.models.emotion_model import EmotionModelConfig
from emojax.models.encoder_input import EncoderInputConfig


def count_parameters(params: Any) -> int:
    """Number of scalars in a tree of arrays."""
    return sum(math.prod(leaf.shape) for leaf in jax.tree.leaves(params))


def parameter_table(params: Any, frozen: Any = None) -> str:
    """A line per array (path, shape, size) and the total; of `frozen`, the total alone."""
    rows = [
        ("/".join(str(key.key) for key in path), "x".join(map(str, leaf.shape)), f"{math.prod(leaf.shape):,}")
        for path, leaf in jax.tree.leaves_with_path(params)
    ]
    rows.append(("total", "", f"{count_parameters(params):,}"))
    if frozen:
        rows.append(("frozen beside it", "", f"{count_parameters(frozen):,}"))
    widths = [max(len(row[column]) for row in rows) for column in range(3)]
    return "\n".join(f"{name:<{widths[0]}}  {shape:>{widths[1]}}  {size:>{widths[2]}}" for name, shape, size in rows)


_LAYER = re.compile(r"(?:^|/)layer_(\d+)(?:/|$)")
_STACKED = re.compile(r"(?:^|/)layers/")

_CONSTANTS = ("feature_encoder/sinusoids",)
"""Parameters of encoders without a gradient, which weight decay would change."""


def trainable_mask(params: Mapping[str, Any], config: EmotionModelConfig) -> dict[str, Any]:
    """A tree like `params`, True where a parameter is trained.

    All are, except those of encoders that `train`, `top_layers` and `train_convolutions` of the modality exclude.

    Args:
      params: parameters of the model, or their shapes.
      config: config of the model.

    Raises:
      ConfigError: more top layers than the encoder has.
    """
    flat = flax.traverse_util.flatten_dict(dict(params), sep="/")
    frozen: set[str] = set()
    for modality in config.encoder_modalities:
        encoder = params.get(modality, {}).get("encoder")
        if encoder is not None:
            frozen |= {f"{modality}/encoder/{path}" for path in _frozen(encoder, getattr(config, modality), modality)}
    return flax.traverse_util.unflatten_dict({path: path not in frozen for path in flat}, sep="/")


def split_params(params: Mapping[str, Any], mask: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """Splits a tree into its trained and its frozen part, without empty groups."""
    flat, flags = (flax.traverse_util.flatten_dict(dict(tree), sep="/") for tree in (params, mask))
    parts = ({path: leaf for path, leaf in flat.items() if flags[path] is flag} for flag in (True, False))
    trained, frozen = (flax.traverse_util.unflatten_dict(part, sep="/") for part in parts)
    return trained, frozen


def merge_params(first: Mapping[str, Any], second: Mapping[str, Any]) -> dict[str, Any]:
    """Joins two trees; where both have a leaf, the first one's is kept."""
    merged = dict(second)
    for key, value in first.items():
        other = merged.get(key)
        merged[key] = merge_params(value, other) if isinstance(value, Mapping) and isinstance(other, Mapping) else value
    return merged


def distances_from_top(encoder: Mapping[str, Any]) -> dict[str, Any]:
    """A tree like an encoder's parameters: how many layers lie between each and the encoder's output.

    The last transformer layer and a pooler have 1; parameters outside of the layers count as before the first. A stack
    of layers (`scan_layers`) has a tuple, one entry per layer.
    """
    flat = flax.traverse_util.flatten_dict(dict(encoder), sep="/")
    stacked = [leaf.shape[0] for path, leaf in flat.items() if _STACKED.search(path)]
    numbers = [int(found.group(1)) for found in map(_LAYER.search, flat) if found]
    num_layers = stacked[0] if stacked else max(numbers) + 1

    def distance(path: str) -> int | tuple[int, ...]:
        if _STACKED.search(path):
            return tuple(range(num_layers, 0, -1))
        found = _LAYER.search(path)
        if found:
            return num_layers - int(found.group(1))
        return 1 if path.startswith("pooler/") else num_layers + 1

    return flax.traverse_util.unflatten_dict({path: distance(path) for path in flat}, sep="/")


def _frozen(encoder: Mapping[str, Any], config: EncoderInputConfig, modality: str) -> set[str]:
    paths = set(flax.traverse_util.flatten_dict(dict(encoder), sep="/"))
    if config.train == "nothing":
        return paths
    frozen = {path for path in paths if path in _CONSTANTS}
    if not config.train_convolutions and "feature_encoder" in encoder:
        mask = freeze_mask(encoder, ["feature_encoder"])
        frozen |= {path for path, flag in flax.traverse_util.flatten_dict(mask, sep="/").items() if flag}
    if config.train == "top":
        distances = flax.traverse_util.flatten_dict(distances_from_top(encoder), sep="/")
        deepest = max(distances.values()) - 1
        if config.top_layers > deepest:
            raise ConfigError(
                f"config.model.{modality}.top_layers must be >= 1 and <= {deepest}, got {config.top_layers}"
            )
        frozen |= {path for path, distance in distances.items() if distance > config.top_layers}
    return frozen
