"""Robustness grid: models compared under noise, reverberation and channels, with paired differences."""

from emojax.robustness.config import RobustnessGridConfig as RobustnessGridConfig
from emojax.robustness.config import parse_robustness as parse_robustness
from emojax.robustness.measure import measure_grid as measure_grid
from emojax.robustness.run import GridOutcome as GridOutcome
from emojax.robustness.run import run_robustness as run_robustness
