"""Frozen HuBERT-large states -> TC-GRU: the pre-trained acoustic representation of Mitra et al. 2022 (row "HuBERT").

The paper does not state the layer: the last is used; `--config.model.acoustic.layers="(0,6,12,18,24)"` mixes
several with learned weights. With hidden states computed once instead of in every step:

python launch.py --mode=extract --config=configs/extract.py --workdir=stores/hubert \
  --config.encoder.checkpoint=facebook/hubert-large-ll60k
python launch.py --config=configs/hubert.py --workdir=runs/hubert --config.model.acoustic.store=stores/hubert
"""

from configs import default


def get_config():
    """Returns the config."""
    config = default.get_config()
    config.model.modalities = ("acoustic",)
    config.model.acoustic.checkpoint = "facebook/hubert-large-ll60k"
    return config
