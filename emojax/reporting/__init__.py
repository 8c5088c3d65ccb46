"""Evaluates workdirs, and writes tables, plots, comparisons and model cards."""

from emojax.reporting.evaluate import evaluate_workdir as evaluate_workdir
from emojax.reporting.evaluate import evaluation_directory as evaluation_directory
from emojax.reporting.evaluate import write_evaluation as write_evaluation
from emojax.reporting.learning_curves import write_learning_curves as write_learning_curves
