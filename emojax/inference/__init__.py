"""Prediction with trained models."""

from emojax.inference.predictor import Prediction as Prediction
from emojax.inference.predictor import Predictor as Predictor
from emojax.inference.predictor import load as load
from emojax.inference.stream import Stream as Stream
