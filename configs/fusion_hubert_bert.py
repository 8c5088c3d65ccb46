"""Frozen HuBERT + frozen BERT, concatenated embeddings: the fusion of Mitra et al. 2022/2023 (row "HuBERT + BERT").

Main result of the paper: 79 % higher valence CCC than filterbank energies. Other fusions:
`--config.model.fusion.kind=late`, `gated` or `cross_attention`.

python launch.py --config=configs/fusion_hubert_bert.py --workdir=runs/fusion_hubert_bert
"""

from configs import hubert


def get_config():
    """Returns the config."""
    config = hubert.get_config()
    config.model.modalities = ("acoustic", "lexical")
    config.model.lexical.checkpoint = "google-bert/bert-base-uncased"
    return config
