"""Frozen BERT-base hidden states of the transcript -> TC-GRU: the lexical representation of Mitra et al. 2022 and 2023.

Without access to the hub, use a folder with a BERT checkpoint: `--config.model.lexical.checkpoint=FOLDER`.

python launch.py --config=configs/bert.py --workdir=runs/bert
"""

from configs import default


def get_config():
    """Returns the config."""
    config = default.get_config()
    config.model.modalities = ("lexical",)
    config.model.lexical.checkpoint = "google-bert/bert-base-uncased"
    return config
