"""Migration of saved configs to the current version.

A saved config holds its version. A field added later gets the value that reproduces the earlier behaviour, which may
differ from its default.
"""

from collections.abc import Mapping
from typing import Any

from emojax.config.experiment import ExperimentConfig
from emojax.errors import ConfigError
from emojax.schema import default_tree, parse, to_tree

VERSION_KEY = "version"

_LATER_FIELDS: tuple[dict[str, Any], ...] = (
    {  # 1: fields absent from the first workdirs, which have no version
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
    {  # 3: transcripts were the corpus's own, clips of Whisper had their own length
        "model.acoustic.padded": False,
        "model.lexical.transcripts": "",
        "teacher.transcripts": "",
    },
    {  # 4: hidden states were not normalised, predictions not clipped
        "model.acoustic.normalisation": "none",
        "model.lexical.normalisation": "none",
        "model.clip_attributes": False,
    },
    {  # 5: encoders were whole, hidden states not distilled
        "model.acoustic.keep_layers": 0,
        "model.lexical.keep_layers": 0,
        "teacher.states": "",
        "distillation.hidden_weight": 0.0,
        "distillation.hidden_layers": (),
    },
    {  # 6: every run had splits of its corpus; stores were written beforehand
        "corpus.speakers": (),
        "model.init_from": "",
        "model.acoustic.make_store": False,
        "model.acoustic.pooling": "none",
        "model.lexical.make_store": False,
        "model.lexical.pooling": "none",
        "training.linear_heads": False,
        "evaluation.linear_baselines": False,
    },
    {  # 7: attributes had no distributions, labels equal weights
        "corpus.ratings": "",
        "model.rating_bins": 0,
        "objective.rating_weight": 0.0,
        "objective.rating_loss": "cross_entropy",
        "objective.rating_target": "histogram",
        "objective.confidence": "none",
        "objective.confidence_floor": 0.1,
        "objective.confidence_bound": 4.0,
    },
    {  # 8: remat kept nothing but the input of each layer
        "model.acoustic.remat_saves": "nothing",
        "model.lexical.remat_saves": "nothing",
        "mesh.dcn": 1,
    },
)
"""Fields added by each version, with the value that reproduces the earlier behaviour."""

VERSION = len(_LATER_FIELDS)
"""Version of configs saved now; a new field adds an entry to `_LATER_FIELDS`."""


def saved_tree(config: Any) -> dict[str, Any]:
    """Converts a config to the tree that is saved: every field, and the version."""
    return {VERSION_KEY: VERSION, **to_tree(config)}


def migrate(tree: Mapping[str, Any], cls: type = ExperimentConfig) -> dict[str, Any]:
    """Adds the fields that a saved config lacks because it is older.

    Args:
      tree: saved config of any version; not modified.
      cls: settings class of the config; later fields that it does not have are not added.

    Returns:
      The tree without its version.

    Raises:
      ConfigError: the config was saved by a later version of emojax.
    """
    version = tree.get(VERSION_KEY, 0)
    if type(version) is not int or version < 0:
        raise ConfigError(f"{VERSION_KEY} must be an integer >= 0, got {version!r}")
    if version > VERSION:
        raise ConfigError(
            f"{VERSION_KEY} must be <= {VERSION}, got {version}: the config was saved by a later version of emojax"
        )
    migrated = _copy(tree)
    migrated.pop(VERSION_KEY, None)
    defaults = default_tree(cls)
    for fields in _LATER_FIELDS[version:]:
        for path, value in fields.items():
            *groups, name = path.split(".")
            if _find_group(defaults, groups) is not None:
                group = _make_group(migrated, groups)
                if group is not None:
                    group.setdefault(name, value)
    return migrated


def load_saved_config(tree: Mapping[str, Any]) -> ExperimentConfig:
    """Migrates and validates the config of a workdir.

    Raises:
      ConfigError: one line with the key, the constraint and the value.
    """
    return parse(ExperimentConfig, migrate(tree))


def _copy(tree: Mapping[str, Any]) -> dict[str, Any]:
    return {key: _copy(value) if isinstance(value, Mapping) else value for key, value in tree.items()}


def _find_group(tree: dict[str, Any], groups: list[str]) -> dict[str, Any] | None:
    found: Any = tree
    for group in groups:
        found = found.get(group) if isinstance(found, dict) else None
    return found if isinstance(found, dict) else None


def _make_group(tree: dict[str, Any], groups: list[str]) -> dict[str, Any] | None:
    """Returns the group at a path, created if absent; None if a value of another type is there."""
    found: Any = tree
    for group in groups:
        found = found.setdefault(group, {})
        if not isinstance(found, dict):
            return None
    return found
