"""Does the input pipeline keep up? Examples per second it delivers over examples per second the step consumes.

  python -m benchmarks.pipeline --config.corpus.name=emobank_spoken/quick [--workers=0,1,2]

Both sides run in this process, one after the other, on the same planned batches: first every batch of the epoch is
delivered onto the devices without a step, then the step runs on one resident batch per bucket in the epoch's
proportions. A ratio above 1 means the step never waits.
"""

import dataclasses
import json
import time
from collections import Counter

import jax
from absl import app, flags
from ml_collections import config_flags

_CONFIG = config_flags.DEFINE_config_file("config", "configs/mfb_emobank.py", "Experiment file.")
_WORKERS = flags.DEFINE_list("workers", ["0", "1", "2"], "Numbers of worker processes to measure.")
_BATCHES = flags.DEFINE_integer("batches", 200, "Batches to deliver per measurement.")
_STEPS = flags.DEFINE_integer("steps", 5, "Timed steps per bucket, after two to warm up.")
_JSON = flags.DEFINE_string("json", "", "Also write the numbers there.")


def main(argv):
    from emojax.config import parse_experiment
    from emojax.data import BatchStream, open_corpus, read_index
    from emojax.parallel import make_mesh

    config = parse_experiment(_CONFIG.value.to_dict())
    corpus = open_corpus(config.corpus.name, config.corpus.data_dir)
    config = dataclasses.replace(config, corpus=config.corpus.with_roles(corpus.roles, corpus.folds))
    index = read_index(corpus, config.corpus.train_split)
    mesh = make_mesh(config.mesh)

    def stream(workers):
        data = dataclasses.replace(config.data, workers=workers)
        return BatchStream(corpus, config.corpus.train_split, index, data, mesh, training=True, seed=0, epochs=1000)

    consumed = measure_step(config, corpus, index, stream(0))
    print(f"{corpus.info.name} {config.corpus.train_split}, batch {config.data.batch_size}, {jax.devices()}")
    print(f"step consumes             {consumed:8.1f} examples/s")
    results = {"corpus": corpus.info.name, "batch_size": config.data.batch_size, "step": consumed, "workers": {}}
    for workers in map(int, _WORKERS.value):
        delivered = measure_stream(stream(workers), config.data.batch_size)
        results["workers"][workers] = delivered
        print(f"pipeline, {workers} workers       {delivered:8.1f} examples/s   ratio {delivered / consumed:.1f}")
    if _JSON.value:
        with open(_JSON.value, "w") as file:
            json.dump(results, file, indent=2)


def measure_stream(stream, batch_size):
    """Examples per second laid onto the devices, after the first batches have been awaited."""
    batches = iter(stream)
    for _ in range(5):
        jax.block_until_ready(next(batches).waveform)
    start = time.perf_counter()
    for _ in range(_BATCHES.value):
        jax.block_until_ready(next(batches).waveform)
    return _BATCHES.value * batch_size / (time.perf_counter() - start)


def measure_step(config, corpus, index, stream):
    """Examples per second of the training step over an epoch's mix of buckets."""
    from emojax.models import EmotionModel
    from emojax.training.optimizer import make_optimizer
    from emojax.training.run import jitted_step
    from emojax.training.state import fresh_state
    from emojax.workdir import corpus_facts, example_batch

    model = EmotionModel(config.model, num_categories=len(corpus.info.categories))
    optimizer = make_optimizer(config.optimizer, 1000, config.model.encoder_views)
    state = fresh_state(model, optimizer, example_batch(config, model, ()), stream.mesh, config.seed)
    step = jitted_step(config, corpus_facts(corpus.info, index), model, optimizer, state)
    shares = Counter(stream.plan.batch(number).num_samples for number in range(stream.plan.batches_per_epoch))
    batches = {}
    for number in range(stream.plan.batches_per_epoch):
        if stream.plan.batch(number).num_samples not in batches:
            batches[stream.plan.batch(number).num_samples] = stream.load(number)
    seconds = 0.0
    for num_samples, batch in batches.items():
        timings = []
        for _ in range(_STEPS.value + 2):
            start = time.perf_counter()
            state, metrics = step(state, batch)
            jax.block_until_ready(metrics)
            timings.append(time.perf_counter() - start)
        seconds += sorted(timings[2:])[len(timings[2:]) // 2] * shares[num_samples]
    return stream.plan.batches_per_epoch * config.data.batch_size / seconds


if __name__ == "__main__":
    app.run(main)
