"""Log-mel filterbank energies -> TC-GRU on EmoDB: 7 categories, no ratings, 6 training speakers.

To avoid overfitting to few speakers, features are normalised per utterance, and training augments vocal
tract length, speaking rate, time and frequency.

python launch.py --config=configs/mfb_emodb.py --workdir=runs/mfb_emodb
"""

from configs import default


def get_config():
    """Returns the config."""
    config = default.get_config()
    config.corpus.name = "emodb"
    config.data.bucket_seconds = (2.0, 3.0, 5.0)
    config.data.workers = 0
    config.model.log_mel.normalisation = "utterance"
    config.model.log_mel.vtlp.max_warp = 0.2
    config.model.log_mel.time_stretch.max_stretch = 0.2
    config.model.log_mel.spec_augment.num_time_masks = 2
    config.model.log_mel.spec_augment.max_time_width = 20
    config.model.log_mel.spec_augment.num_frequency_masks = 2
    config.model.log_mel.spec_augment.max_frequency_width = 6
    config.model.log_mel.network.pooling = "statistics"
    config.model.log_mel.network.dropout = 0.3
    config.objective.attribute_weights = (0.0, 0.0, 0.0)
    config.objective.emotion_weight = 1.0
    config.objective.class_balance = "inverse_frequency"
    config.objective.label_smoothing = 0.1
    config.optimizer.schedule = "cosine"
    config.optimizer.weight_decay = 0.01
    config.optimizer.ema_decay = 0.99
    config.training.epochs = 80
    config.training.evaluate_every_epochs = 4
    config.training.patience = 0
    return config
