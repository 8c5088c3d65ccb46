"""Frozen wav2vec 2.0-large hidden states -> TC-GRU: the second acoustic representation of Mitra et al. 2022.

python launch.py --config=configs/wav2vec2.py --workdir=runs/wav2vec2
"""

from configs import hubert


def get_config():
    """Returns the config."""
    config = hubert.get_config()
    config.model.acoustic.checkpoint = "facebook/wav2vec2-large-lv60"
    return config
