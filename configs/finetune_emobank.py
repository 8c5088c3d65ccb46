"""Whisper tiny.en, fine-tuned on EmoBank spoken: the audio-only system, and student, of Srinivasan et al. 2022.

Every transformer layer is trained, the convolutions are not; mean and standard deviation of the last hidden states.

python launch.py --config=configs/finetune_emobank.py --workdir=runs/finetuned

As the student of a multimodal teacher (configs/multimodal_emobank.py), whose outputs a cache has:

python launch.py --config=configs/finetune_emobank.py --workdir=runs/finetuned_student \
  --config.teacher.cache=stores/teacher --config.distillation.attribute_weight=1.0 \
  --config.distillation.condition=residual
"""

from configs import acoustic_emobank


def get_config():
    """Returns the config."""
    config = acoustic_emobank.get_config()
    acoustic = config.model.acoustic
    acoustic.train = "all"
    acoustic.network.gru_layers = 0
    acoustic.network.conv_channels = 0
    acoustic.network.embedding_activation = "relu"
    acoustic.network.dropout = 0.2
    config.optimizer.learning_rate = 1e-3
    config.optimizer.encoder_learning_rate = 1e-4
    config.optimizer.layer_decay = 0.8
    config.optimizer.weight_decay = 0.01
    config.training.epochs = 8
    return config
