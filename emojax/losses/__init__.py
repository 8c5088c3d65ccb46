"""Losses of training, as pure functions of global arrays: terms on labels and towards a teacher, and their sums."""

from emojax.losses.confidence import label_weights
from emojax.losses.config import DistillationConfig, ObjectiveConfig
from emojax.losses.distillation import TEACHER_TERMS, distilled_loss, make_loss, projection_parameters
from emojax.losses.embedding_match import embedding_loss
from emojax.losses.hidden_states import hidden_state_heads, hidden_state_loss
from emojax.losses.multitask import (
    LABEL_TERMS,
    LossSettings,
    WeightedTerm,
    ccc_loss,
    class_weights,
    has_ccc,
    mse_loss,
    multitask_loss,
    objective_parameters,
    weighted_sum,
)
from emojax.losses.rating_distribution import discretised_normal, rating_losses, rating_targets

__all__ = [
    "LABEL_TERMS",
    "TEACHER_TERMS",
    "DistillationConfig",
    "LossSettings",
    "ObjectiveConfig",
    "WeightedTerm",
    "ccc_loss",
    "class_weights",
    "discretised_normal",
    "distilled_loss",
    "embedding_loss",
    "has_ccc",
    "hidden_state_heads",
    "hidden_state_loss",
    "label_weights",
    "make_loss",
    "mse_loss",
    "multitask_loss",
    "objective_parameters",
    "projection_parameters",
    "rating_losses",
    "rating_targets",
    "weighted_sum",
]
