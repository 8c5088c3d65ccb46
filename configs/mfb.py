"""Log-mel filterbank energies -> TC-GRU: the low-level baseline of Mitra et al. 2022 (Network B on MFB).

The defaults of configs/default.py under the name of the system: MSP-Podcast, three attributes by CCC, Adam at 1e-3,
early stopping on the mean validation CCC. On a bundled corpus:

python launch.py --config=configs/mfb.py --workdir=runs/mfb --config.corpus.name=emobank_spoken/full
"""

from configs import default


def get_config():
    """Returns the config."""
    return default.get_config()
