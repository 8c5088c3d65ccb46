"""Thresholds and settings of `--mode=test`; docs/model_tests.md gives their sources."""

from ml_collections import ConfigDict

from emojax.model_tests.config import ModelTestsConfig
from emojax.schema import default_tree


def get_config() -> ConfigDict:
    """Returns the defaults."""
    return ConfigDict(default_tree(ModelTestsConfig))
