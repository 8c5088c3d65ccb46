"""What a run would need and cost on a TPU slice, found out without one."""

from emojax.planning.run import plan_workdir as plan_workdir
