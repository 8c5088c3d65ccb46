"""Annotation of recordings (`--mode=annotate`); docs/annotate.md describes it.

python launch.py --mode=annotate --workdir=runs/student_s --config=configs/annotate.py podcast.mp3
"""

from ml_collections import ConfigDict

from emojax.annotation.config import AnnotateConfig
from emojax.schema import default_tree


def get_config() -> ConfigDict:
    """Returns the defaults."""
    return ConfigDict(default_tree(AnnotateConfig))
