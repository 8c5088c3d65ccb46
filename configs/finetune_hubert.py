"""HuBERT-large, fine-tuned: the audio-only system of Srinivasan et al. 2022 (MSP-Podcast: A .757, V .627, D .671).

The convolutions are frozen, and learning rates decrease from the output towards lower layers. On few devices, compute
the batch in micro-batches, which do not change the loss: `--config.training.micro_batches=4`.

python launch.py --config=configs/finetune_hubert.py --workdir=runs/finetune_hubert
"""

from configs import hubert


def get_config():
    """Returns the config."""
    config = hubert.get_config()
    acoustic = config.model.acoustic
    acoustic.train = "all"
    acoustic.remat = True
    acoustic.scan_layers = True
    acoustic.network.gru_layers = 0
    acoustic.network.conv_channels = 0
    acoustic.network.pooling = "mean"
    acoustic.network.embedding_activation = "tanh"
    acoustic.network.dropout = 0.1
    config.model.dtype = "bfloat16"
    config.optimizer.learning_rate = 1e-4
    config.optimizer.encoder_learning_rate = 2e-5
    config.optimizer.layer_decay = 0.9
    config.optimizer.schedule = "cosine"
    config.optimizer.warmup_steps = 500
    config.optimizer.weight_decay = 0.01
    config.training.epochs = 10
    config.training.patience = 0
    return config
