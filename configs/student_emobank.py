"""configs/student_s.py on EmoBank spoken, for as many steps as its small size affords.

Alone, or taught by configs/fusion_emobank.py, whose outputs lie in a cache:

python launch.py --mode=extract --config=configs/extract_teacher.py --workdir=stores/fusion \
  --config.corpus.name=emobank_spoken/full --config.teacher.workdir=runs/fusion
python launch.py --config=configs/student_emobank.py --workdir=runs/student \
  --config.teacher.cache=stores/fusion --config.distillation.attribute_weight=1.0
"""

from configs import student_s


def get_config():
    """Returns the config."""
    config = student_s.get_config()
    config.corpus.name = "emobank_spoken/full"
    # 18 voices are learned by heart within an epoch; with other vocal tracts and masks there is more to hear.
    config.model.log_mel.vtlp.max_warp = 0.1
    config.model.log_mel.spec_augment.update(
        {"num_time_masks": 2, "max_time_width": 20, "num_frequency_masks": 1, "max_frequency_width": 8}
    )
    config.training.epochs = 10
    config.training.patience = 0
    return config
