"""Pre-training of HuBERT-base on MFCC units (`--mode=pretrain`), the first iteration of Hsu et al. 2021.

python launch.py --mode=pretrain --config=configs/pretrain_hubert.py --workdir=DIR

The second iteration predicts units of hidden states of the first one:
`--config.units.checkpoint=DIR/encoder --config.units.layer=6 --config.units.clusters=500` into another workdir.

Change of speed also changes the units; with reverberation, noise and gain, units are those of the clean clip
(denoising, as in WavLM). Fields are declared in emojax/pretraining/config.py.
"""

from ml_collections import ConfigDict

from emojax.pretraining import PretrainConfig
from emojax.schema import default_tree


def get_config() -> ConfigDict:
    """Returns the config."""
    return ConfigDict(default_tree(PretrainConfig))
