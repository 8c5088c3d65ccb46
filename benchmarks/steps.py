"""Batches of noise, and the training step of a config with state and batch, for benchmarks."""

import tempfile
from pathlib import Path


def prepare(config):
    """Step, state, first training batch and stream of batches of a config."""
    from emojax.parallel import make_mesh
    from emojax.training import make_optimizer
    from emojax.training.data import open_data, student_inputs, teacher_splits, training_stream
    from emojax.training.experiment import build_experiment
    from emojax.workdir import keep_encoders

    data, mesh = open_data(config), make_mesh(config.mesh)
    with tempfile.TemporaryDirectory() as folder:
        workdir = Path(folder) / "run"
        keep_encoders(workdir, config.model)
        inputs = student_inputs(data, workdir)
        student = inputs[data.config.corpus.train_split]
        experiment = build_experiment(data.config, data.metadata, workdir, mesh, teacher_splits(data, student))
        stream = training_stream(data, experiment, student)
        batch = stream.load(0)
    optimizer = make_optimizer(config.optimizer, stream.num_batches, config.model.encoder_modalities)
    state = experiment.init_state(optimizer)
    return {"step": experiment.train_step(optimizer, state), "state": state, "batch": batch, "stream": stream}


def batch_of(waveform):
    """A batch without labels or words."""
    import jax.numpy as jnp

    from emojax.types import Batch

    rows, samples = waveform.shape
    return Batch(
        waveform=waveform,
        num_samples=jnp.full(rows, samples, jnp.int32),
        tokens=jnp.zeros((rows, 0), jnp.int32),
        num_tokens=jnp.zeros(rows, jnp.int32),
        attributes=jnp.zeros((rows, 3)),
        emotion=jnp.full(rows, -1),
        emotion_votes=jnp.zeros((rows, 0)),
        weight=jnp.ones(rows),
        index=jnp.arange(rows),
    )


def clips(number, rows, seconds):
    """Noise, other for every number."""
    import numpy as np

    random = np.random.default_rng(number)
    return (random.normal(size=(rows, round(16_000 * seconds))) * 0.1).astype(np.float32)
