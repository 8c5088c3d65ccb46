"""Evaluates workdirs, and writes tables, plots, comparisons and model cards."""

from emojax.reporting.evaluate import LINEAR_FILE as LINEAR_FILE
from emojax.reporting.evaluate import describe_scores as describe_scores
from emojax.reporting.evaluate import evaluate_workdir as evaluate_workdir
from emojax.reporting.evaluate import evaluation_directory as evaluation_directory
from emojax.reporting.evaluate import write_evaluation as write_evaluation
from emojax.reporting.learning_curves import write_learning_curves as write_learning_curves
from emojax.reporting.results import LINEAR_BASELINES as LINEAR_BASELINES
