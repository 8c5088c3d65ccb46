"""Log-mel filterbank energies -> TC-GRU on MSP-Podcast, with distributions of the seven ratings of every attribute.

Builds of the corpus since version 1.1.0 hold the choices of all raters. Every label is weighted by the standard error
of its mean (docs/raters.md).

python launch.py --config=configs/distribution_msp.py --workdir=runs/distribution_msp
"""

from configs import mfb


def get_config():
    """Returns the config."""
    config = mfb.get_config()
    config.model.rating_bins = 7
    config.objective.rating_weight = 0.2
    config.objective.confidence = "standard_error"
    return config
