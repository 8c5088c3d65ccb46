"""A student of 0.45 million parameters: configs/student_s.py, wider and with a third GRU layer.

python launch.py --config=configs/student_m.py --workdir=runs/student_m --config.teacher.workdir=runs/teacher \
  --config.distillation.attribute_weight=1.0 --config.distillation.embedding_weight=0.3
"""

from configs import student_s


def get_config():
    """Returns the config."""
    config = student_s.get_config()
    network = config.model.log_mel.network
    network.gru_layers = 3
    network.gru_size = 128
    network.conv_channels = 128
    network.embedding_size = 128
    return config
