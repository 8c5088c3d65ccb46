"""Import of a published emotion model of speech as a workdir, for evaluation, prediction and distillation.

python launch.py --mode=import --config=configs/published.py --workdir=runs/audeering
python launch.py --mode=import --config=configs/published.py --workdir=runs/odyssey \\
  --config.model.acoustic.checkpoint=3loi/SER-Odyssey-Baseline-WavLM-Multi-Attributes
python launch.py --mode=import --config=configs/published.py --workdir=runs/superb \\
  --config.model.acoustic.checkpoint=superb/hubert-base-superb-er
python launch.py --mode=evaluate --workdir=runs/odyssey --corpus=msp_podcast/v1_11

Pooling, sizes, heads and objective of the checkpoint replace those of this config. Text models:
configs/published_text.py.
"""

from configs import default


def get_config():
    """Returns the config."""
    config = default.get_config()
    config.model.modalities = ("acoustic",)
    config.model.acoustic.checkpoint = "audeering/wav2vec2-large-robust-12-ft-emotion-msp-dim"
    return config
