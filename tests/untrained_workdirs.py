"""Workdirs as training leaves them, of models with random parameters and without a training step."""

import jax
import numpy as np

from emojax.parallel import make_mesh, to_device
from emojax.training.data import open_data
from emojax.training.experiment import build_experiment
from emojax.training.loop import _parts
from emojax.training.optimizer import make_optimizer
from emojax.training.run import open_checkpoints
from emojax.workdir import keep_encoders, write_config, write_corpus_metadata


def write_untrained(config, workdir, spread=0.1):
    """Writes the workdir of a config; returns it.

    Args:
      config: as for `train_workdir`; its `seed` draws the parameters.
      workdir: a folder that does not exist yet.
      spread: standard deviation of what is added to the initial value of every parameter that would be trained, so that
        no bias and no head is zero.
    """
    data = open_data(config)
    config = data.config
    workdir.mkdir(parents=True)
    write_config(workdir, config)
    keep_encoders(workdir, config.model)
    experiment = build_experiment(config, data.metadata, workdir, make_mesh(config.mesh))
    write_corpus_metadata(workdir, experiment.metadata)
    state = experiment.init_state(make_optimizer(config.optimizer, 1, config.model.encoder_modalities))
    random = np.random.default_rng(config.seed)

    def moved(leaf):
        return to_device(np.asarray(leaf) + random.normal(0, spread, leaf.shape).astype(leaf.dtype), leaf.sharding)

    model, training = _parts(state.replace(params=jax.tree.map(moved, state.params)))
    with open_checkpoints(workdir, config.training) as checkpoints:
        checkpoints.save(1, model, training, {}, 0.0)
    return workdir
