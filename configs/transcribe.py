"""Transcription of a corpus by a speech recognizer (`--mode=transcribe`).

python launch.py --mode=transcribe --config=configs/transcribe.py --workdir=TEXTS \
  --config.recognizer.checkpoint=NAME_OR_PATH --config.corpus.name=msp_podcast

Fields are declared in emojax/transcription/config.py.
"""

from ml_collections import ConfigDict

from emojax.schema import default_tree
from emojax.transcription import TranscribeConfig


def get_config() -> ConfigDict:
    """Returns the defaults."""
    return ConfigDict(default_tree(TranscribeConfig))
