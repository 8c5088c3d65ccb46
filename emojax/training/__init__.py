"""Training: one jitted, sharded step, and the loop around it."""

from emojax.training.loop import Outcome as Outcome
from emojax.training.loop import train as train
from emojax.training.optimizer import make_optimizer as make_optimizer
from emojax.training.run import train_workdir as train_workdir
from emojax.training.state import TrainState as TrainState
from emojax.training.summary import write_summary as write_summary
