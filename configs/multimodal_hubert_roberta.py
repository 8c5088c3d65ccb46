"""Fine-tuned HuBERT-large + frozen RoBERTa-large: the multimodal teacher of Srinivasan et al. 2022 (valence .683).

Fusion by concatenation; with `--config.model.fusion.kind=cross_attention` frames attend to words.

python launch.py --config=configs/multimodal_hubert_roberta.py --workdir=runs/multimodal_hubert_roberta
"""

from configs import finetune_hubert


def get_config():
    """Returns the config."""
    config = finetune_hubert.get_config()
    config.model.modalities = ("acoustic", "lexical")
    config.model.lexical.checkpoint = "FacebookAI/roberta-large"
    config.model.lexical.network.conv_channels = 0
    return config
