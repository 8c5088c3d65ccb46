"""Turns predictions into files people and machines read: CSV, scores with intervals, plots, reports."""

from emojax.evaluation.categories import match_categories as match_categories
from emojax.evaluation.categories import same_categories as same_categories
from emojax.evaluation.learning_curves import write_learning_curves as write_learning_curves
from emojax.evaluation.predict import PredictStep as PredictStep
from emojax.evaluation.predict import predict_split as predict_split
from emojax.evaluation.predictions import Predictions as Predictions
from emojax.evaluation.run import evaluate_workdir as evaluate_workdir
from emojax.evaluation.run import validation_metrics as validation_metrics
from emojax.evaluation.summary import TrainLabels as TrainLabels
from emojax.evaluation.summary import summarise as summarise
from emojax.evaluation.windows import ENCODER_SECONDS as ENCODER_SECONDS
from emojax.evaluation.windows import softmax as softmax
from emojax.evaluation.windows import windows_of as windows_of
from emojax.evaluation.writing import evaluation_directory as evaluation_directory
from emojax.evaluation.writing import write_evaluation as write_evaluation
