"""A student of 0.64 million parameters: configs/student_s.py, wider.

python launch.py --config=configs/student_m.py --workdir=runs/student_m --config.teacher.workdir=runs/teacher \
  --config.distillation.attribute_weight=1.0 --config.distillation.embedding_weight=0.3
"""

from configs import student_s


def get_config():
    """Returns the config."""
    config = student_s.get_config()
    network = config.model.log_mel.network
    network.gru_size = 192
    network.conv_channels = 128
    network.embedding_size = 192
    return config
