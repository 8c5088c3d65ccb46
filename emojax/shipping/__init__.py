"""Trained models in use."""

from emojax.shipping.predictor import Prediction as Prediction
from emojax.shipping.predictor import Predictor as Predictor
from emojax.shipping.predictor import load as load
from emojax.shipping.stream import Stream as Stream
