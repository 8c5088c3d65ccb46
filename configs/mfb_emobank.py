"""Log-mel filterbank energies -> TC-GRU on EmoBank spoken, where the audio carries activation and dominance only.

The network of configs/mfb.py with mean and standard deviation of the GRU states instead of the last state, since rate,
level and pitch range are properties of the whole utterance; five epochs suffice. Features are normalised by corpus
statistics, which keeps the level, a cue of dominance.

python launch.py --config=configs/mfb_emobank.py --workdir=runs/mfb_emobank
"""

from configs import default


def get_config():
    """Returns the config."""
    config = default.get_config()
    config.corpus.name = "emobank_spoken/full"
    config.model.log_mel.network.pooling = "statistics"
    config.optimizer.learning_rate = 2e-3
    config.optimizer.schedule = "cosine"
    config.optimizer.ema_decay = 0.98
    config.training.epochs = 5
    config.training.patience = 0
    return config
