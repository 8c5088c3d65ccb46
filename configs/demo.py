"""Systems of `make demo`, selected after the colon: EmoBank spoken, demo, with small networks for a few minutes.

Log-mel energies (`mfb`), frozen hidden states of Whisper tiny.en (`acoustic`), of MiniLM for the transcript
(`lexical`), their fusion (`fusion`), and a student with log-mel input (`student`: the network of `mfb`, distilled from
`fusion`). scripts/demo.sh creates the feature stores and the teacher cache.

python launch.py --config=configs/demo.py:mfb --workdir=runs/demo/mfb
"""

from ml_collections import ConfigDict

from configs import acoustic_emobank, default, fusion_emobank, lexical_emobank, student_ablation, student_emobank

EPOCHS = {"mfb": 12, "lexical": 12, "acoustic": 8, "fusion": 8, "student": 12}
"""Epochs over 1,000 sentences by system, limited by time."""


def get_config(row: str = "mfb") -> ConfigDict:
    """Returns the config of a system."""
    if row not in EPOCHS:
        raise ValueError(f"demo: system must be {', '.join(EPOCHS)}, got {row!r}")
    if row == "student":
        config = student_ablation.get_config("prediction")
    else:
        module = {"lexical": lexical_emobank, "acoustic": acoustic_emobank, "fusion": fusion_emobank}
        config = module.get(row, student_emobank).get_config()
    if row == "fusion":
        config.model.modalities = ("acoustic", "lexical")
        config.model.acoustic = acoustic_emobank.get_config().model.acoustic
    student = student_emobank.get_config().model.log_mel
    config.model.log_mel.stack = student.stack
    # Augmentation does not help with so few epochs.
    usual = default.get_config().model.log_mel
    config.model.log_mel.update({name: usual[name] for name in student_emobank.AUGMENTATION})
    for modality in ("log_mel", "acoustic"):
        for field in ("gru_size", "conv_channels", "embedding_size"):
            config.model[modality].network[field] = student.network[field]
    config.corpus.name = "emobank_spoken/demo"
    config.data.bucket_seconds = (5.0,)  # one compilation; longer utterances are cropped
    config.training.epochs = EPOCHS[row]
    return config
