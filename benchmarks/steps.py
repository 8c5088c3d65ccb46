"""Batches of noise, and a training step with everything it needs, for benchmarks that time them."""


def prepare(config):
    """Step, state and a batch of one side."""
    from emojax.data import AUDIO, BatchStream, open_corpus, read_index
    from emojax.models import EmotionModel
    from emojax.parallel import make_mesh
    from emojax.training import make_optimizer
    from emojax.training.run import jitted_step, objective_parameters_of
    from emojax.training.state import init_train_state
    from emojax.training.teachers import load_teacher
    from emojax.workdir import corpus_metadata, example_batch

    corpus = open_corpus(config.corpus.name, config.corpus.data_dir)
    split = config.corpus.with_splits(corpus.split_assignment, corpus.folds).train_split
    index, mesh = read_index(corpus, split), make_mesh(config.mesh)
    teacher = None
    if config.distillation.on:
        teacher = load_teacher(config.teacher, config.distillation, corpus.info.categories, mesh)
    inputs = teacher.inputs(AUDIO, corpus.info.name, split) if teacher else AUDIO
    stream = BatchStream(corpus, split, index, config.data, mesh, training=True, inputs=inputs)
    model = EmotionModel(config.model, len(corpus.info.categories))
    optimizer = make_optimizer(config.optimizer, 1000)
    example = example_batch(config, model, ())
    objective = objective_parameters_of(config, model, example, teacher, stream.load(0) if teacher else None)
    averaging = config.optimizer.ema_decay > 0
    state = init_train_state(model, optimizer, example, mesh, 0, averaging=averaging, objective=objective)
    if teacher:
        state = state.replace(teachers=teacher.arrays)
    step = jitted_step(config, corpus_metadata(corpus.info, index), model, optimizer, state, teacher)
    return {"step": step, "state": state, "batch": stream.load(0)}


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
