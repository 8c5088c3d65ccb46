"""Frozen WavLM-large states, a learned mean of all layers -> TC-GRU: in no table of the papers, which precede it.

python launch.py --config=configs/wavlm.py --workdir=runs/wavlm
"""

from configs import hubert


def get_config():
    """Returns the config."""
    config = hubert.get_config()
    config.model.acoustic.checkpoint = "microsoft/wavlm-large"
    config.model.acoustic.layers = tuple(range(25))
    return config
