"""Frozen WavLM-large hidden states, a learned mean of all layers -> TC-GRU; not in the papers, which precede WavLM.

python launch.py --config=configs/wavlm.py --workdir=runs/wavlm
"""

from configs import hubert


def get_config():
    """Returns the config."""
    config = hubert.get_config()
    config.model.acoustic.checkpoint = "microsoft/wavlm-large"
    config.model.acoustic.layers = tuple(range(25))
    return config
