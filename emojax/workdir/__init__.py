"""A run's folder on disk: config, corpus facts, checkpoints."""

from emojax.workdir.checkpoints import Checkpoints as Checkpoints
from emojax.workdir.checkpoints import abstract_like as abstract_like
from emojax.workdir.files import CHECKPOINTS as CHECKPOINTS
from emojax.workdir.files import CONFIG as CONFIG
from emojax.workdir.files import CORPUS as CORPUS
from emojax.workdir.files import METRICS as METRICS
from emojax.workdir.files import SUMMARY as SUMMARY
from emojax.workdir.files import read_json as read_json
from emojax.workdir.files import write_json as write_json
