"""A HuBERT of 4 million parameters on the speech of emobank_spoken, for two CPU cores and an hour."""

from ml_collections import ConfigDict

from configs import pretrain_hubert


def get_config() -> ConfigDict:
    """Returns the config."""
    config = pretrain_hubert.get_config()
    config.corpus.name = "emobank_spoken/full"
    config.data.batch_size = 16
    config.encoder.channels = (32, 64, 128, 128, 128, 128, 256)
    config.encoder.hidden_size = 256
    config.encoder.num_layers = 4
    config.encoder.num_heads = 4
    config.encoder.intermediate_size = 1024
    config.encoder.position_taps = 32
    config.encoder.norm_first = True
    config.encoder.dropout = 0.0
    config.encoder.layer_drop = 0.0
    config.augment.speed.update({"probability": 0.8, "max_change": 0.15})
    config.units.layer = 3
    config.units.centred = True
    config.units.fit_frames = 200_000
    config.prediction.mask_probability = 0.65
    config.prediction.visible_weight = 0.3
    config.optimizer.learning_rate = 1e-3
    config.optimizer.warmup_steps = 200
    config.training.epochs = 3
    config.training.patience = 0
    return config
