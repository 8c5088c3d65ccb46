"""Defaults of every field of a training run; other configs state only their differences.

The defaults are the log-mel TC-GRU of Mitra et al. 2022 (Network B) trained on MSP-Podcast's usual split names. Fields,
bounds and their meaning are declared by the dataclasses under `emojax.config.ExperimentConfig`, listed in
docs/config.md and printed by `python -m emojax config`.
"""

from ml_collections import ConfigDict

from emojax.config import ExperimentConfig
from emojax.schema import default_tree


def get_config() -> ConfigDict:
    """Returns the defaults."""
    return ConfigDict(default_tree(ExperimentConfig))
