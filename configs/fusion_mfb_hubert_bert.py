"""Filterbank energies + frozen HuBERT + frozen BERT, fused: the largest fusion of Mitra et al. 2022.

python launch.py --config=configs/fusion_mfb_hubert_bert.py --workdir=runs/fusion_mfb_hubert_bert
"""

from configs import fusion_hubert_bert


def get_config():
    """Returns the config."""
    config = fusion_hubert_bert.get_config()
    config.model.modalities = ("log_mel", "acoustic", "lexical")
    return config
