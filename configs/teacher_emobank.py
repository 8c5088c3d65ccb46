"""The teacher of configs/student_emobank.py: configs/fusion_emobank.py with the student's frames and augmentation.

Without augmentation, the teacher's activation CCC on unseen voices is below the student's, and distillation reduces it.

python launch.py --config=configs/teacher_emobank.py --workdir=runs/teacher_seed0 \
  --config.model.lexical.store=stores/minilm
"""

from configs import fusion_emobank, student_emobank


def get_config():
    """Returns the config."""
    config = fusion_emobank.get_config()
    config.model.log_mel.stack = student_emobank.get_config().model.log_mel.stack
    config.model.log_mel.update(student_emobank.AUGMENTATION)
    config.training.epochs = 8
    return config
