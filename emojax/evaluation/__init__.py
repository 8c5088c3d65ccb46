"""Computes and scores the predictions of a split."""

from emojax.evaluation.categories import match_categories as match_categories
from emojax.evaluation.categories import same_categories as same_categories
from emojax.evaluation.predict import PredictStep as PredictStep
from emojax.evaluation.predict import predict_split as predict_split
from emojax.evaluation.predictions import Predictions as Predictions
from emojax.evaluation.summary import TrainLabels as TrainLabels
from emojax.evaluation.summary import summarise as summarise
from emojax.evaluation.validation import validation_metrics as validation_metrics
from emojax.evaluation.windows import ENCODER_SECONDS as ENCODER_SECONDS
from emojax.evaluation.windows import softmax as softmax
from emojax.evaluation.windows import windows_of as windows_of
