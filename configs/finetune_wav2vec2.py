"""wav2vec 2.0-large, fine-tuned as configs/finetune_hubert.py: the comparison of Srinivasan et al. 2022.

python launch.py --config=configs/finetune_wav2vec2.py --workdir=runs/finetune_wav2vec2
"""

from configs import finetune_hubert


def get_config():
    """Returns the config."""
    config = finetune_hubert.get_config()
    config.model.acoustic.checkpoint = "facebook/wav2vec2-large-lv60"
    return config
