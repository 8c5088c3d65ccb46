"""configs/student_s.py on EmoBank spoken, trained for ten epochs.

Without a teacher, or distilled from the mean of two runs of configs/teacher_emobank.py, stored in a cache:

python launch.py --mode=extract --config=configs/extract_teacher.py --workdir=stores/teacher \
  --config.corpus.name=emobank_spoken/full \
  --config.teacher.workdir=runs/teacher_seed0,runs/teacher_seed1
python launch.py --config=configs/student_emobank.py --workdir=runs/student \
  --config.teacher.cache=stores/teacher --config.distillation.attribute_weight=1.0
"""

from configs import student_s

AUGMENTATION = {
    "vtlp": {"max_warp": 0.1},
    "spec_augment": {"num_time_masks": 2, "max_time_width": 20, "num_frequency_masks": 1, "max_frequency_width": 8},
}
"""Feature augmentation, against overfitting to the 18 training voices."""


def get_config():
    """Returns the config."""
    config = student_s.get_config()
    config.corpus.name = "emobank_spoken/full"
    config.model.log_mel.update(AUGMENTATION)
    config.training.epochs = 10
    config.training.patience = 0
    return config
