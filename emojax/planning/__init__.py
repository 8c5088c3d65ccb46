"""Plans of a run on a TPU slice, without one: memory, collectives and predicted speed."""

from emojax.planning.run import plan_workdir as plan_workdir
