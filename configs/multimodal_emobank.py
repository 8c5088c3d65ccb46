"""Whisper tiny.en, fine-tuned, and frozen MiniLM of the transcript: the multimodal teacher of Srinivasan et al. 2022.

python launch.py --config=configs/multimodal_emobank.py --workdir=runs/multimodal \
  --config.model.lexical.store=stores/minilm
"""

from configs import finetune_emobank, lexical_emobank


def get_config():
    """Returns the config."""
    config = finetune_emobank.get_config()
    config.model.modalities = ("acoustic", "lexical")
    config.model.lexical = lexical_emobank.get_config().model.lexical
    config.model.fusion.modality_dropout = 0.2
    return config
