"""Training: one jitted, sharded step, and the loop around it."""

from emojax.training.loop import Outcome as Outcome
from emojax.training.loop import train as train
from emojax.training.optimizer import make_optimizer as make_optimizer
from emojax.training.run import open_checkpoints as open_checkpoints
from emojax.training.run import summarise_training as summarise_training
from emojax.training.run import train_workdir as train_workdir
from emojax.training.state import TrainState as TrainState
from emojax.training.state import init_train_state as init_train_state
from emojax.training.step import jit_step as jit_step
