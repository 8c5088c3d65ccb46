"""Objectives: what training minimises, as pure functions of global arrays."""

from emojax.losses.ccc import ccc_loss, has_ccc
from emojax.losses.distillation import DistillationConfig, distilled_loss, projection_parameters
from emojax.losses.embedding_match import embedding_loss
from emojax.losses.multitask import ObjectiveConfig, class_weights, multitask_loss, objective_parameters

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
