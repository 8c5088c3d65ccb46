"""Frozen MiniLM hidden states of the transcript -> attention -> embedding on EmoBank spoken.

The published all-MiniLM-L6-v2 (Apache-2.0) is a BERT with 6 layers. With hidden states computed once:

python launch.py --mode=extract --config=configs/extract.py --workdir=stores/minilm \
  --config.corpus.name=emobank_spoken/full --config.encoder.checkpoint=sentence-transformers/all-MiniLM-L6-v2
python launch.py --config=configs/lexical_emobank.py --workdir=runs/lexical --config.model.lexical.store=stores/minilm
"""

from configs import mfb_emobank


def get_config():
    """Returns the config."""
    config = mfb_emobank.get_config()
    config.model.modalities = ("lexical",)
    config.model.lexical.checkpoint = "sentence-transformers/all-MiniLM-L6-v2"
    config.model.lexical.network.update(POOLED)
    config.data.workers = 0  # the step takes milliseconds, for which a process would compete with it on a small machine
    config.training.epochs = 15
    return config


POOLED = {"gru_layers": 0, "conv_channels": 0, "pooling": "attentive", "embedding_activation": "relu", "dropout": 0.3}
"""From token states to an embedding without recurrence: the order of a sentence's words is in the states already."""
