"""Emotion models as pure Linen modules."""

from emojax.models.emotion_model import EmotionModel as EmotionModel
from emojax.models.emotion_model import EmotionModelConfig as EmotionModelConfig
from emojax.models.gru import GRU as GRU
from emojax.models.heads import EmotionHeads as EmotionHeads
from emojax.models.parameters import count_parameters as count_parameters
from emojax.models.parameters import parameter_table as parameter_table
from emojax.models.pooling import pool as pool
from emojax.models.tcgru import TCGRU as TCGRU
from emojax.models.tcgru import TCGRUConfig as TCGRUConfig
from emojax.models.views import LogMelViewConfig as LogMelViewConfig
from emojax.models.views import raw_log_mel as raw_log_mel
