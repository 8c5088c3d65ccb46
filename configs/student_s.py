"""A student of 0.19 million parameters: log-mel, four stacked frames, a causal TC-GRU for streaming.

Distilled from any workdir, here with its attributes and embedding in addition to labels (Mitra et al. 2022):

python launch.py --config=configs/student_s.py --workdir=runs/student_s --config.teacher.workdir=runs/teacher \
  --config.distillation.attribute_weight=1.0 --config.distillation.embedding_weight=0.3
"""

from configs import default


def get_config():
    """Returns the config."""
    config = default.get_config()
    config.model.log_mel.stack = 4
    network = config.model.log_mel.network
    network.causal = True
    network.gru_size = 96
    network.conv_channels = 48
    network.pooling = "statistics"
    network.embedding_size = 96
    config.optimizer.learning_rate = 2e-3
    config.optimizer.schedule = "cosine"
    config.optimizer.ema_decay = 0.98
    return config
