"""Attributes and categories from one network on HuBERT + BERT: multi-task learning of Mitra et al. 2022.

configs/fusion_hubert_bert.py with a category head. The weights are fixed (0.2 for the categories, as in a replication);
`--config.objective.weighting=learned` learns them, `--config.objective.emotion_target=votes` trains on raters' votes.

python launch.py --config=configs/multitask_fusion_hubert_bert.py --workdir=runs/multitask_fusion_hubert_bert
"""

from configs import fusion_hubert_bert


def get_config():
    """Returns the config."""
    config = fusion_hubert_bert.get_config()
    config.objective.emotion_weight = 0.2
    return config
