"""Objectives: what training minimises, as pure functions of global arrays."""

from emojax.objectives.ccc import ccc_loss, has_ccc
from emojax.objectives.multitask import ObjectiveConfig, class_weights, multitask_loss, objective_parameters

__all__ = ["ObjectiveConfig", "ccc_loss", "class_weights", "has_ccc", "multitask_loss", "objective_parameters"]
