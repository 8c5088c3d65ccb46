"""Conditions of `--mode=robustness`; docs/robustness.md describes them."""

from ml_collections import ConfigDict

from emojax.robustness.config import RobustnessGridConfig
from emojax.schema import default_tree


def get_config() -> ConfigDict:
    """Returns the defaults."""
    return ConfigDict(default_tree(RobustnessGridConfig))
