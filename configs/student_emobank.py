"""configs/student_s.py on EmoBank spoken, trained for ten epochs; another student after the colon: `m`, `conv`.

Without a teacher, or distilled from the mean of runs of configs/multimodal_emobank.py, stored in a cache:

python launch.py --mode=extract --config=configs/extract_teacher.py --workdir=stores/teacher \
  --config.corpus.name=emobank_spoken/full \
  --config.teacher.workdir=runs/multimodal_seed0,runs/multimodal_seed1
python launch.py --config=configs/student_emobank.py --workdir=runs/student \
  --config.teacher.cache=stores/teacher --config.distillation.attribute_weight=1.0
"""

from configs import student_conv, student_m, student_s

STUDENTS = {"s": student_s, "m": student_m, "conv": student_conv}

AUGMENTATION = {
    "vtlp": {"max_warp": 0.1},
    "spec_augment": {"num_time_masks": 2, "max_time_width": 20, "num_frequency_masks": 1, "max_frequency_width": 8},
}
"""Feature augmentation, against overfitting to the 24 training voices."""


def get_config(student: str = "s"):
    """Returns the config of a student."""
    if student not in STUDENTS:
        raise ValueError(f"student_emobank: student must be {', '.join(STUDENTS)}, got {student!r}")
    config = STUDENTS[student].get_config()
    config.corpus.name = "emobank_spoken/full"
    config.model.log_mel.update(AUGMENTATION)
    config.training.epochs = 10
    config.training.patience = 0
    return config
