"""Training: one jitted, sharded step, and the loop around it."""

from emojax.training.loop import Outcome as Outcome
from emojax.training.run import train_workdir as train_workdir
