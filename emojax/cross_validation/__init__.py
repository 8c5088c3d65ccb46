"""Cross-validation over speakers, and linear baselines on statistics of hidden states and log-mel energies."""

from emojax.cross_validation.baselines import write_linear_baselines
from emojax.cross_validation.run import cross_validate, parse_num_folds
from emojax.data.speaker_folds import speaker_folds

__all__ = ["cross_validate", "parse_num_folds", "speaker_folds", "write_linear_baselines"]
