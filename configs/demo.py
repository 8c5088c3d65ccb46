"""Systems of `make demo`, selected after the colon: EmoBank spoken, demo, with small networks for a few minutes.

Log-mel energies (`mfb`), hidden states of Whisper tiny.en (`acoustic`), of MiniLM for the transcript (`lexical`), both
(`fusion`), and the network of `acoustic` trained on outputs of `fusion` alone, without labels (`student`). Hidden
states of every layer are pooled over time, once; scripts/demo.sh creates the feature stores and the teacher cache.

python launch.py --config=configs/demo.py:mfb --workdir=runs/demo/mfb
"""

from ml_collections import ConfigDict

from configs import default, pooled_emobank, student_emobank

ROWS = ("mfb", "acoustic", "lexical", "fusion", "student")


def get_config(row: str = "mfb") -> ConfigDict:
    """Returns the config of a system."""
    if row not in ROWS:
        raise ValueError(f"demo: system must be {', '.join(ROWS)}, got {row!r}")
    config = _log_mel() if row == "mfb" else pooled_emobank.get_config({"student": "acoustic"}.get(row, row))
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
