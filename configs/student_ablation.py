"""Ablation of distillation: configs/student_emobank.py with the row selected after the colon.

python launch.py --config=configs/student_ablation.py:hard --workdir=runs/student_hard \
  --config.teacher.cache=stores/teacher

All rows except `labels`, `half` and `noisy_labels` need a teacher: a workdir (`--config.teacher.workdir`) or a cache of
its outputs.
"""

from ml_collections import ConfigDict

from configs import student_emobank

ATTRIBUTES = {"distillation.attribute_weight": 1.0}
EMBEDDING = {"distillation.embedding_weight": 1.0}
HALF = {"corpus.train_split": "train[:50%]"}
NOISE = {"augment.noise.probability": 0.8, "augment.reverberation.probability": 0.4}

ROWS = {
    "labels": {},
    # Embedding distillation (Mitra et al. 2022); other distances between embeddings.
    "embedding": EMBEDDING,
    "embedding_cosine": EMBEDDING | {"distillation.embedding_loss": "cosine"},
    "embedding_cka": EMBEDDING | {"distillation.embedding_loss": "cka"},
    "embedding_relational": EMBEDDING | {"distillation.embedding_loss": "relational"},
    # Prediction distillation, with labels, with the embedding too, and without labels.
    "prediction": ATTRIBUTES,
    "both": ATTRIBUTES | EMBEDDING,
    "no_labels": ATTRIBUTES | {"distillation.label_weight": 0.0},
    # Conditional teacher-student learning (Srinivasan et al. 2022; `hard`: Meng et al. 2019); formulas:
    # emojax/losses/distillation.py.
    "residual": ATTRIBUTES | {"distillation.condition": "residual"},
    "hard": ATTRIBUTES | {"distillation.condition": "hard"},
    "relative": ATTRIBUTES | {"distillation.condition": "relative"},
    "soft": ATTRIBUTES | {"distillation.condition": "soft"},
    # Half of the training labels, alone, with the teacher on these, and with the teacher on all utterances.
    "half": HALF,
    "half_taught": HALF | ATTRIBUTES,
    "half_unlabelled": HALF | ATTRIBUTES | {"corpus.unlabelled_split": "train[50%:]"},
    # All labels with both losses, and the teacher on unrated fragments of sentences.
    "fragments": ATTRIBUTES
    | EMBEDDING
    | {"corpus.unlabelled_name": "emobank_spoken/fragments", "corpus.unlabelled_split": "unlabelled"},
    # Noisy and reverberant input of the student, clean input of the teacher (Mitra et al. 2023), and the same alone.
    "noisy": ATTRIBUTES | EMBEDDING | NOISE,
    "noisy_labels": NOISE,
}
"""Fields by row that differ from configs/student_emobank.py."""


def get_config(row: str = "labels") -> ConfigDict:
    """Returns the config of a row."""
    if row not in ROWS:
        raise ValueError(f"student_ablation: row must be {', '.join(ROWS)}, got {row!r}")
    config = student_emobank.get_config()
    config.update_from_flattened_dict(ROWS[row])
    return config
