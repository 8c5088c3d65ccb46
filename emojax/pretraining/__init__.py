"""Pre-trains HuBERT by masked prediction of cluster units (Hsu et al. 2021)."""

from emojax.pretraining.config import PretrainConfig as PretrainConfig
from emojax.pretraining.config import parse_pretraining as parse_pretraining
from emojax.pretraining.run import ENCODER as ENCODER
from emojax.pretraining.run import pretrain_workdir as pretrain_workdir
