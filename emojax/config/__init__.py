"""Typed, validated config of an experiment."""

from emojax.config.experiment import ExperimentConfig as ExperimentConfig
from emojax.config.experiment import configuration as configuration
from emojax.config.experiment import difference as difference
from emojax.config.experiment import parse_experiment as parse_experiment
from emojax.config.migrate import load_saved_config as load_saved_config
from emojax.config.migrate import migrate as migrate
from emojax.config.migrate import saved_tree as saved_tree
from emojax.config.parts import CorpusConfig as CorpusConfig
from emojax.config.parts import EvaluationConfig as EvaluationConfig
from emojax.config.parts import OptimizerConfig as OptimizerConfig
from emojax.config.parts import TeacherConfig as TeacherConfig
from emojax.config.parts import TrainingConfig as TrainingConfig
