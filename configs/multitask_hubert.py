"""Attributes and categories from one network on frozen HuBERT: multi-task learning of Mitra et al. 2022.

configs/hubert.py with a category head. The weights are fixed (0.2 for the categories, as in a replication);
`--config.objective.weighting=learned` learns them, `--config.objective.emotion_target=votes` trains on raters' votes.

python launch.py --config=configs/multitask_hubert.py --workdir=runs/multitask_hubert
"""

from configs import hubert


def get_config():
    """Returns the config."""
    config = hubert.get_config()
    config.objective.emotion_weight = 0.2
    return config
