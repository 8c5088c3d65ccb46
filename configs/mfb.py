"""Log-mel filterbank energies -> TC-GRU: the low-level baseline of Mitra et al. 2022 (Network B on MFB).

python launch.py --config=configs/mfb.py --workdir=runs/mfb --config.corpus.name=emobank_spoken/full
"""

from configs import default


def get_config():
    """Returns the config."""
    config = default.get_config()
    config.corpus.name = "emobank_spoken/full"
    config.corpus.validation_split = "dev"
    config.corpus.test_splits = ("test",)
    return config
