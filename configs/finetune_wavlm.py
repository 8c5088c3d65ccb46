"""WavLM-large, fine-tuned as configs/finetune_hubert.py with attentive statistics pooling, as in challenge baselines.

python launch.py --config=configs/finetune_wavlm.py --workdir=runs/finetune_wavlm
"""

from configs import finetune_hubert


def get_config():
    """Returns the config."""
    config = finetune_hubert.get_config()
    config.model.acoustic.checkpoint = "microsoft/wavlm-large"
    config.model.acoustic.network.pooling = "attentive_statistics"
    config.model.acoustic.network.embedding_norm = True
    config.model.acoustic.network.embedding_activation = "relu"
    return config
