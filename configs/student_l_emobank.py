"""configs/student_l.py on EmoBank spoken: 4.8 million parameters, from the first two layers of Whisper tiny.en.

python launch.py --config=configs/student_l_emobank.py --workdir=runs/student_l \
  --config.teacher.cache=stores/teacher --config.distillation.attribute_weight=1.0
"""

from configs import student_l


def get_config():
    """Returns the config."""
    config = student_l.get_config()
    config.corpus.name = "emobank_spoken/full"
    network = config.model.acoustic.network
    network.embedding_activation = "relu"
    network.dropout = 0.2
    config.optimizer.layer_decay = 0.8
    config.optimizer.weight_decay = 0.01
    config.training.epochs = 8
    config.training.patience = 0
    return config
