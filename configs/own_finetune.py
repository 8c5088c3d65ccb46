"""Fine-tunes the model of another workdir, encoder included, on a corpus of your own: transfer between corpora.

`--config.model.init_from` names the workdir, e.g. one of configs/own.py; parameters and statistics that fit are taken
over, the others are printed and listed in WORKDIR/init_from.json. Training computes the encoder in every step: minutes
per hour of speech on an accelerator, hours on two cores.

python launch.py --config=configs/own_finetune.py --workdir=runs/transfer --config.corpus.name=folder/NAME \
  --config.model.init_from=runs/own
"""

from configs import own


def get_config():
    """Returns the config."""
    config = own.get_config()
    config.data.num_buckets, config.data.max_seconds = 4, 30.0
    acoustic = config.model.acoustic
    acoustic.store = ""
    acoustic.make_store = False
    acoustic.train = "all"
    config.optimizer.learning_rate = 1e-4
    config.optimizer.encoder_learning_rate = 1e-5
    config.optimizer.layer_decay = 0.8
    config.training.linear_heads = False
    config.training.epochs = 6
    config.evaluation.linear_baselines = False
    return config
