"""Extraction of hidden states of an encoder for every utterance of a corpus (`--mode=extract`).

python launch.py --mode=extract --config=configs/extract.py --workdir=STORE --config.encoder.checkpoint=NAME_OR_PATH

Fields are declared in emojax/extraction/config.py.
"""

from ml_collections import ConfigDict

from emojax.extraction import ExtractConfig
from emojax.schema import default_tree


def get_config() -> ConfigDict:
    """Returns the defaults."""
    return ConfigDict(default_tree(ExtractConfig))
