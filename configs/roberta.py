"""Frozen RoBERTa-large hidden states of the transcript -> TC-GRU: the text encoder of Srinivasan et al. 2022's teacher.

python launch.py --config=configs/roberta.py --workdir=runs/roberta
"""

from configs import bert


def get_config():
    """Returns the config."""
    config = bert.get_config()
    config.model.lexical.checkpoint = "FacebookAI/roberta-large"
    return config
