"""Acoustic and lexical fusion on EmoBank spoken: log-mel TC-GRU and frozen MiniLM, concatenated embeddings.

The basis of configs/teacher_emobank.py, the teacher of configs/student_emobank.py.

python launch.py --config=configs/fusion_emobank.py --workdir=runs/fusion --config.model.lexical.store=stores/minilm
"""

from configs import lexical_emobank


def get_config():
    """Returns the config."""
    config = lexical_emobank.get_config()
    config.model.modalities = ("log_mel", "lexical")
    config.model.fusion.modality_dropout = 0.2
    config.training.epochs = 5
    return config
