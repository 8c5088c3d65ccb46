"""Extraction of a teacher's attributes, probabilities and embedding for every utterance (`--mode=extract`).

python launch.py --mode=extract --config=configs/extract_teacher.py --workdir=STORE \
  --config.teacher.workdir=runs/teacher --config.corpus.name=msp_podcast

Fields are declared in emojax/extraction/config.py.
"""

from ml_collections import ConfigDict

from emojax.extraction import TeacherCacheConfig
from emojax.schema import default_tree


def get_config() -> ConfigDict:
    """Returns the defaults."""
    return ConfigDict(default_tree(TeacherCacheConfig))
