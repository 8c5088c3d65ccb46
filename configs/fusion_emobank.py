"""Acoustic and lexical fusion on EmoBank spoken: frozen Whisper tiny.en -> TC-GRU and frozen MiniLM, concatenated.

The embeddings of configs/acoustic_emobank.py and configs/lexical_emobank.py, then a dense layer. Log-mel energies in
place of Whisper: `"--config.model.modalities=('log_mel','lexical')"`.

python launch.py --config=configs/fusion_emobank.py --workdir=runs/fusion \
  --config.model.acoustic.store=stores/whisper --config.model.lexical.store=stores/minilm
"""

from configs import acoustic_emobank, lexical_emobank


def get_config():
    """Returns the config."""
    config = acoustic_emobank.get_config()
    config.model.modalities = ("acoustic", "lexical")
    config.model.lexical = lexical_emobank.get_config().model.lexical
    config.model.fusion.modality_dropout = 0.2
    return config
