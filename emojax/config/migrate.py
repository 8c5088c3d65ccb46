"""Versions of a saved config, and how an older one becomes today's.

A config that is saved holds its version. A field that did not exist when it was written gets the value that means what
was done then, which need not be today's default.
"""

from collections.abc import Mapping
from typing import Any

from emojax.config.experiment import ExperimentConfig
from emojax.errors import ConfigError
from emojax.schema import default_tree, parse, to_tree

VERSION_KEY = "version"

_LATER_FIELDS: tuple[dict[str, Any], ...] = (
    {  # 1: what the first workdirs, which have no version, do not have
        "mesh.tensor": 1,
        "model.keep_stored_encoders": True,
        "training.profile_steps": 0,
        "training.checkpoint_dir": "",
        "training.checkpoint_digests": True,
    },
    {  # 2: attributes were trained by CCC alone
        "objective.attribute_loss": "ccc",
        "objective.mse_share": 0.5,
        "distillation.mse_share": 0.5,
    },
)
"""Fields by the version that brought them, at any depth, with the value that means the behaviour before."""

VERSION = len(_LATER_FIELDS)
"""Of configs that are saved today. A new field is a new entry above."""


def saved_tree(config: Any) -> dict[str, Any]:
    """Converts a config to what is saved of it: every field, and the version."""
    return {VERSION_KEY: VERSION, **to_tree(config)}


def migrate(tree: Mapping[str, Any], cls: type = ExperimentConfig) -> dict[str, Any]:
    """Brings the tree of a saved config up to today's fields.

    Args:
      tree: of any version, with or without it; not changed.
      cls: settings it is of; later fields that `cls` does not have are not added.

    Returns:
      The tree without its version.

    Raises:
      ConfigError: it was saved by a later version, whose fields are not known here.
    """
    version = tree.get(VERSION_KEY, 0)
    if type(version) is not int or version < 0:
        raise ConfigError(f"{VERSION_KEY} must be an integer >= 0, got {version!r}")
    if version > VERSION:
        raise ConfigError(
            f"{VERSION_KEY} is {version}, which a later emojax has written; this one reads up to {VERSION}"
        )
    whole = _copied(tree)
    whole.pop(VERSION_KEY, None)
    known = default_tree(cls)
    for fields in _LATER_FIELDS[version:]:
        for path, value in fields.items():
            *groups, name = path.split(".")
            if _find(known, groups) is not None:
                group = _made(whole, groups)
                if group is not None:
                    group.setdefault(name, value)
    return whole


def load_saved_config(tree: Mapping[str, Any]) -> ExperimentConfig:
    """Checks the config of a workdir, which may be older than some fields.

    Raises:
      ConfigError: one line naming the key, what is wrong with it and what is allowed.
    """
    return parse(ExperimentConfig, migrate(tree))


def _copied(tree: Mapping[str, Any]) -> dict[str, Any]:
    return {key: _copied(value) if isinstance(value, Mapping) else value for key, value in tree.items()}


def _find(tree: dict[str, Any], groups: list[str]) -> dict[str, Any] | None:
    found: Any = tree
    for group in groups:
        found = found.get(group) if isinstance(found, dict) else None
    return found if isinstance(found, dict) else None


def _made(tree: dict[str, Any], groups: list[str]) -> dict[str, Any] | None:
    """The group at a path, made where it is absent; None where something else has its name."""
    found: Any = tree
    for group in groups:
        found = found.setdefault(group, {})
        if not isinstance(found, dict):
            return None
    return found
