"""A student without recurrence: residual causal convolutions over 2.4 s of the past, 0.19 million parameters.

It has no loop over time, so that it can be exported and quantised where recurrent networks cannot.

python launch.py --config=configs/student_conv.py --workdir=runs/student_conv --config.teacher.workdir=runs/teacher \
  --config.distillation.attribute_weight=1.0 --config.distillation.embedding_weight=0.3
"""

from configs import student_s


def get_config():
    """Returns the config."""
    config = student_s.get_config()
    network = config.model.log_mel.network
    network.gru_layers = 0
    network.conv_channels = 0
    network.block_channels = 128
    network.block_dilations = (1, 2, 4, 8, 1, 2, 4, 8)
    network.embedding_size = 128
    return config
