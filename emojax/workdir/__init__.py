"""A run's folder on disk: config, corpus facts, checkpoints."""

from emojax.workdir.checkpoints import Checkpoints as Checkpoints
from emojax.workdir.checkpoints import abstract_like as abstract_like
from emojax.workdir.corpus_facts import CorpusFacts as CorpusFacts
from emojax.workdir.corpus_facts import TrainedOutputs as TrainedOutputs
from emojax.workdir.corpus_facts import corpus_facts as corpus_facts
from emojax.workdir.corpus_facts import read_corpus_facts as read_corpus_facts
from emojax.workdir.corpus_facts import trained_outputs as trained_outputs
from emojax.workdir.corpus_facts import unknown_labels as unknown_labels
from emojax.workdir.corpus_facts import write_corpus_facts as write_corpus_facts
from emojax.workdir.encoders import ENCODERS as ENCODERS
from emojax.workdir.encoders import batch_inputs as batch_inputs
from emojax.workdir.encoders import keep_encoders as keep_encoders
from emojax.workdir.encoders import load_encoders as load_encoders
from emojax.workdir.encoders import stored_views as stored_views
from emojax.workdir.encoders import write_encoder_source as write_encoder_source
from emojax.workdir.files import CHECKPOINTS as CHECKPOINTS
from emojax.workdir.files import CONFIG as CONFIG
from emojax.workdir.files import CORPUS as CORPUS
from emojax.workdir.files import METRICS as METRICS
from emojax.workdir.files import SUMMARY as SUMMARY
from emojax.workdir.files import read_json as read_json
from emojax.workdir.files import write_json as write_json
from emojax.workdir.restore import TrainedModel as TrainedModel
from emojax.workdir.restore import build_model as build_model
from emojax.workdir.restore import example_batch as example_batch
from emojax.workdir.restore import restore_model as restore_model
