"""Import of a published emotion classifier of text as a workdir, for evaluation, prediction and distillation.

python launch.py --mode=import --config=configs/published_text.py --workdir=runs/distilroberta
python launch.py --mode=evaluate --workdir=runs/distilroberta --corpus=emobank_spoken/full

Input is the transcript. Pooling, sizes, heads and objective of the checkpoint replace those of this config.
"""

from configs import default


def get_config():
    """Returns the config."""
    config = default.get_config()
    config.model.modalities = ("lexical",)
    config.model.lexical.checkpoint = "j-hartmann/emotion-english-distilroberta-base"
    config.data.max_tokens = 128
    return config
