"""Attributes and categories from one network on filterbank energies: multi-task learning of Mitra et al. 2022.

configs/mfb.py with a category head. The weights are fixed (0.2 for the categories, as in a replication);
`--config.objective.weighting=learned` learns them, `--config.objective.emotion_target=votes` trains on raters' votes.

python launch.py --config=configs/multitask_mfb.py --workdir=runs/multitask_mfb
"""

from configs import mfb


def get_config():
    """Returns the config."""
    config = mfb.get_config()
    config.objective.emotion_weight = 0.2
    return config
