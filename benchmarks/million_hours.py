"""Memory and time per host of the table and the order of a split of 640 million utterances (a million hours).

    python -m benchmarks.million_hours [--utterances=640000000] [--folder=/tmp]

Writes a synthetic index in the format of `emojax.data.index`: lengths and speakers are drawn, labels are missing; ids
and genders are a hole in the file. Every row of the table is a process of its own, which starts with nothing of the
file in the page cache. Memory is what the process itself holds (RssAnon, its largest value); mapped pages of the file
can be evicted and are given apart.
"""

import argparse
import json
import multiprocessing
import os
import shutil
import tempfile
import threading
import time
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import numpy as np

from benchmarks.machine import print_processor
from emojax.content import FEATURES
from emojax.data.columns import columns_header
from emojax.data.corpus import Corpus
from emojax.data.index import COMPARED_UTTERANCES, IndexWriter, SplitIndex, join_tables, read_cached_table
from emojax.data.plan import BLOCK_UTTERANCES, FILLER, BatchPlan, choose_buckets
from emojax.data.readers import RecordFiles
from emojax.files import with_digest
from emojax.types import SAMPLE_RATE, CorpusInfo
from tfds_builders.builder import MAX_SHARDS

CHUNK = 2**22
BATCH, HOSTS, SPEAKERS = 4096, 64, 1000
BUCKETS = tuple(seconds * SAMPLE_RATE for seconds in (3, 5, 8, 12))
LARGEST_FILE = 12e9
JOINED_BYTES = 75
"""Bytes per utterance that the join needs on the disk: temporary columns and the joined file, 34 each."""


def write_index(path: Path, size: int) -> int:
    """Writes the synthetic index; returns the bytes that it takes on the disk."""
    names = b"".join(b"speaker%05d" % number for number in range(SPEAKERS))
    int64, int32, uint8 = np.dtype(np.int64), np.dtype(np.int32), np.dtype(np.uint8)
    columns = {
        "num_samples": (int64, (size,)),
        "ids.ends": (int64, (size,)),
        "speakers.ends": (int64, (SPEAKERS,)),
        "genders.ends": (int64, (1,)),
        "attributes": (np.dtype(np.float32), (1, 3)),
        "speakers.rows": (int32, (size,)),
        "genders.rows": (int32, (size,)),
        "emotion": (int32, (1,)),
        "ids.characters": (uint8, (0,)),
        "speakers.characters": (uint8, (len(names),)),
        "genders.characters": (uint8, (0,)),
    }
    content = dict.fromkeys(FEATURES, "0" * 64)
    header, starts = columns_header(columns, {"content": json.dumps(with_digest(content))})
    random = np.random.default_rng(0)
    drawn = (random.gamma(3.0, 1.8, CHUNK) * SAMPLE_RATE + 1600).astype(np.int64)  # 5.5 s on average
    spoken = random.integers(0, SPEAKERS, CHUNK, np.int32)
    with path.open("wb") as file:
        file.write(header)
        for first in range(0, size, CHUNK):
            count = min(CHUNK, size - first)
            shift = int(random.integers(0, CHUNK))
            file.seek(starts["num_samples"] + 8 * first)
            file.write(np.roll(drawn, shift)[:count].tobytes())
            file.seek(starts["speakers.rows"] + 4 * first)
            file.write(np.roll(spoken, shift)[:count].tobytes())
        for name, values in (
            ("speakers.ends", 12 * np.arange(1, SPEAKERS + 1)),
            ("attributes", np.full((1, 3), np.nan, np.float32)),
            ("emotion", np.array([-1], np.int32)),
            ("speakers.characters", np.frombuffer(names, np.uint8)),
        ):
            file.seek(starts[name])
            file.write(values.tobytes())
        file.truncate(max(starts.values()))
        os.fsync(file.fileno())
    return path.stat().st_blocks * 512


def open_index(path: Path, size: int) -> SplitIndex:
    info = CorpusInfo("synthetic", (1.0, 7.0), (), "recorded", "none", "", "")
    table = read_cached_table(Corpus(info, path.parent, {"all": size}, None, ()), "all", path)
    assert table is not None
    return SplitIndex(**table[0], content=table[1])


def open_plan(path: Path, size: int) -> BatchPlan:
    return BatchPlan(open_index(path, size).num_samples, BUCKETS, BATCH, 0, True, min_samples=400)


def first_batches(path: Path, size: int, epoch: int, place: float) -> str:
    """Batches of one block, of which a host takes its rows."""
    plan = open_plan(path, size)
    number = int(plan.batches_per_epoch * (epoch + place))
    start = time.monotonic()
    batch = plan.batch(number)
    first = time.monotonic() - start
    start, count = time.monotonic(), min(200, plan.batches_per_epoch)
    for following in range(number, number + count):
        rows = plan.batch(following).indices[: BATCH // HOSTS]
    each = (time.monotonic() - start) / count
    assert batch.number == number
    assert len(rows[rows != FILLER]) <= BATCH // HOSTS
    return f"batch {number:,} after {1000 * first:.0f} ms; {1000 * each:.1f} ms per following batch of {BATCH:,} rows"


def random_access(path: Path, size: int) -> str:
    index = open_index(path, size)
    rows = np.random.default_rng(1).integers(0, size, 10_000)
    start = time.monotonic()
    samples = index.num_samples[rows]
    speakers = index.speakers[rows]
    seconds = time.monotonic() - start
    assert samples.min() > 0
    assert len(np.unique(speakers)) > 0.9 * SPEAKERS
    return f"length and speaker of 10,000 random rows in {seconds:.2f} s"


class Part:
    def __init__(self, number: int, count: int):
        self.filename = f"/corpus/all.array_record-{number:05d}-of-{MAX_SHARDS:05d}"
        self.skip, self.take, self.examples_in_shard = 0, -1, count


def list_files(path: Path, size: int) -> str:
    count = min(MAX_SHARDS, -(-size // 512))
    files = RecordFiles([Part(number, size // count) for number in range(count)])
    return f"list of {count:,} files of {len(files) // count:,} utterances"


def join_shards(path: Path, size: int) -> str:
    """Concatenates tables of shards, here of one shard many times, as a build with Apache Beam does."""
    count = min(MAX_SHARDS, -(-size // 512))
    with tempfile.TemporaryDirectory(dir=path.parent) as own, IndexWriter(Path(own)) as writer:
        part, joined, each = Path(own) / "part", Path(own) / "joined", size // count
        if shutil.disk_usage(own).free < JOINED_BYTES * size:
            return f"not measured: {JOINED_BYTES * size / 1e9:.0f} GB must be free"
        row = {"gender": "", "num_samples": 80_000, "attributes": (np.nan,) * 3, "emotion": -1}
        for first in range(0, each, SPEAKERS):  # rows as Python objects take far more memory than what is measured
            numbers = range(first, min(first + SPEAKERS, each))
            writer.add([row | {"id": f"{n:010d}", "speaker": f"speaker{n % SPEAKERS:05d}"} for n in numbers])
        writer.finish()
        content = dict.fromkeys(FEATURES, "0" * 64)
        writer.write(part, content)
        start = time.monotonic()
        join_tables([part] * count, joined, content)
        seconds = time.monotonic() - start
        return f"{count:,} tables of {each:,} utterances to {joined.stat().st_size / 1e9:.2f} GB in {seconds:.0f} s"


MEASURED = {
    "imports": lambda path, size: "",
    "open": lambda path, size: f"{len(open_index(path, size)):,} utterances",
    "plan of an epoch": lambda path, size: f"{open_plan(path, size).batches_per_epoch:,} batches",
    "first batches": lambda path, size: first_batches(path, size, 0, 0),
    "restart in the middle of epoch 3": lambda path, size: first_batches(path, size, 3, 0.5),
    "choice of bucket lengths": lambda path, size: str(
        tuple(each / SAMPLE_RATE for each in choose_buckets(open_index(path, size).num_samples, 4, 12 * SAMPLE_RATE))
    ),
    "random access": random_access,
    "files": list_files,
    "join of shard tables": join_shards,
}


def memory() -> tuple[int, int]:
    """Bytes of this process: its own, and mapped ones of files."""
    lines = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines() if ":" in line)
    return tuple(int(lines[name].split()[0]) * 1024 for name in ("RssAnon", "RssFile"))


def measure(name: str, path: Path, size: int) -> tuple[float, int, int, int, str]:
    """Runs one row in this process; memory is sampled every 5 ms."""
    before, peak, done = memory(), [0, 0], threading.Event()

    def sample() -> None:
        while not done.is_set():
            peak[:] = map(max, peak, memory())
            time.sleep(0.005)

    sampler = threading.Thread(target=sample)
    sampler.start()
    start = time.monotonic()
    try:
        note = MEASURED[name](path, size)
        seconds = time.monotonic() - start
    finally:
        done.set()
        sampler.join()
    own, mapped = (max(after, high) - first for first, high, after in zip(before, peak, memory(), strict=True))
    return seconds, before[0], own, mapped, note


def evict(path: Path) -> None:
    """Drops the pages of the file from the page cache."""
    descriptor = os.open(path, os.O_RDONLY)
    os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
    os.close(descriptor)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--utterances", type=int, default=640_000_000)
    parser.add_argument("--folder", default=None)
    options = parser.parse_args()
    if options.utterances <= COMPARED_UTTERANCES:
        parser.error(f"--utterances must be > {COMPARED_UTTERANCES}, got {options.utterances}")
    size, spawn = options.utterances, multiprocessing.get_context("spawn")
    folder = Path(tempfile.mkdtemp(prefix="million_hours-", dir=options.folder))
    try:
        needed = min(12 * size + 2**20, int(LARGEST_FILE))
        free = shutil.disk_usage(folder).free
        if 12 * size > LARGEST_FILE or free < 2 * needed:
            raise SystemExit(
                f"--utterances={size}: the index takes {12 * size / 1e9:.1f} GB, {free / 1e9:.0f} are free"
            )
        print_processor(threads=1)
        start = time.monotonic()
        on_disk = write_index(folder / "index", size)
        length = (folder / "index").stat().st_size
        print(
            f"{size:,} utterances in blocks of at most {BLOCK_UTTERANCES:,}; batches of {BATCH:,} rows, {HOSTS} hosts"
        )
        print(f"index: {length / 1e9:.2f} GB, {on_disk / 1e9:.2f} GB of them on the disk, written in "
              f"{time.monotonic() - start:.0f} s")  # fmt: skip
        print("\n| | seconds | memory | mapped | |\n|---|---|---|---|---|")
        for name in MEASURED:
            evict(folder / "index")
            with ProcessPoolExecutor(1, spawn) as process:
                seconds, base, own, mapped, note = process.submit(measure, name, folder / "index", size).result()
            own = base if name == "imports" else own
            print(f"| {name} | {seconds:.2f} | {own / 1e6:.1f} MB | {mapped / 1e6:.0f} MB | {note} |", flush=True)
    finally:
        shutil.rmtree(folder)


if __name__ == "__main__":
    main()
