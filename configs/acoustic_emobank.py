"""Frozen hidden states of a small HuBERT -> TC-GRU on EmoBank spoken (see docs/encoders.md, pre-training).

The encoder is in the repository (from `configs/pretrain_hubert_tiny.py`); its hidden states are computed once:

python launch.py --mode=extract --config=configs/extract.py --workdir=stores/hubert_tiny \
  --config.corpus.name=emobank_spoken/full --config.encoder.checkpoint=checkpoints/hubert_tiny
python launch.py --config=configs/acoustic_emobank.py --workdir=runs/acoustic \
  --config.model.acoustic.store=stores/hubert_tiny
"""

from configs import mfb_emobank


def get_config():
    """Returns the config."""
    config = mfb_emobank.get_config()
    config.model.modalities = ("acoustic",)
    config.model.acoustic.checkpoint = "checkpoints/hubert_tiny"
    config.model.acoustic.network.pooling = "statistics"
    return config
