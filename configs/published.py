"""A published emotion model, imported into a workdir that evaluates, predicts and teaches as one that was trained here.

python launch.py --mode=import --config=configs/published.py --workdir=runs/audeering
python launch.py --mode=import --config=configs/published.py --workdir=runs/odyssey \\
  --config.model.acoustic.checkpoint=3loi/SER-Odyssey-Baseline-WavLM-Multi-Attributes
python launch.py --mode=evaluate --workdir=runs/odyssey --corpus=msp_podcast/v1_11

What the checkpoint determines (pooling, sizes, heads, objective) replaces what is said here.
"""

from configs import default


def get_config():
    """Returns the config."""
    config = default.get_config()
    config.model.modalities = ("acoustic",)
    config.model.acoustic.checkpoint = "audeering/wav2vec2-large-robust-12-ft-emotion-msp-dim"
    return config
