"""Objectives: what training minimises, as pure functions of global arrays."""

from emojax.objectives.ccc import ccc_loss, has_ccc
from emojax.objectives.distillation import DistillationConfig, distilled_loss, projection_parameters
from emojax.objectives.embedding_match import embedding_loss
from emojax.objectives.multitask import ObjectiveConfig, class_weights, multitask_loss, objective_parameters

__all__ = [
    "DistillationConfig",
    "ObjectiveConfig",
    "ccc_loss",
    "class_weights",
    "distilled_loss",
    "embedding_loss",
    "has_ccc",
    "multitask_loss",
    "objective_parameters",
    "projection_parameters",
]
