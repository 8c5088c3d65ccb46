"""Batch stream: content, order, resuming, sharding, and errors."""

import dataclasses
import pickle
import shutil
from multiprocessing.shared_memory import SharedMemory

import jax
import numpy as np
import pytest

from emojax.data import AUDIO, BatchStream, DataConfig, open_corpus, open_split, read_index
from emojax.data.loading import _KeptRows
from emojax.data.plan import FILLER
from emojax.errors import ConfigError, CorpusError
from emojax.parallel import MeshConfig, make_mesh
from tests import mini_corpus

CONFIG = DataConfig(
    batch_size=8,
    bucket_seconds=(1.0, 2.0),
    num_buckets=4,
    max_seconds=12.0,
    workers=0,
    max_tokens=8,
    unlabelled_share=0.5,
)


def make_stream(data_dir, split="train", config=CONFIG, devices=1, training=True, **options):
    corpus = open_corpus("mini_corpus", data_dir)
    mesh = make_mesh(MeshConfig(data=-1, fsdp=1), jax.devices()[:devices])
    return BatchStream(corpus, split, read_index(corpus, split), config, mesh, training=training, **options)


def equal(left, right):
    jax.tree.map(np.testing.assert_array_equal, left, right)


def test_open_corpus_reads_metadata_from_the_folder(mini_data_dir):
    corpus = open_corpus("mini_corpus", mini_data_dir)
    assert corpus.info.scale == mini_corpus.SCALE
    assert corpus.info.categories == mini_corpus.CATEGORIES
    assert corpus.split_sizes == mini_corpus.SIZES
    assert open_corpus("mini_corpus:1.0.0", mini_data_dir).directory == corpus.directory


def test_index_has_labels_in_the_order_of_attributes(mini_data_dir):
    corpus = open_corpus("mini_corpus", mini_data_dir)
    first = read_index(corpus, "dev")
    source = open_split(corpus, "dev")
    for row in range(len(first)):
        example = source[row]
        assert first.ids[row] == example["id"].decode()
        np.testing.assert_array_equal(first.attributes[row], example["attributes"])
        assert first.num_samples[row] == len(example["audio"])
        assert first.emotion[row] == example["emotion"]


def test_stream_skips_and_counts_short_utterances_and_raises_without_others(mini_data_dir):
    lengths = read_index(open_corpus("mini_corpus", mini_data_dir), "train").num_samples
    stream = make_stream(mini_data_dir, min_samples=20_000)
    rows = np.concatenate([jax.device_get(batch.index) for batch in stream])
    np.testing.assert_array_equal(np.sort(rows[rows != FILLER]), np.flatnonzero(lengths >= 20_000))
    (line,) = stream.skipped
    assert line.endswith(f"split 'train': skipped {(lengths < 20_000).sum()} utterances of fewer than 20000 samples")
    assert make_stream(mini_data_dir).skipped == []
    short = dataclasses.replace(CONFIG, bucket_seconds=(0.5, 1.0))
    with pytest.raises(ConfigError, match=r"data.bucket_seconds must have a length >= 1.25, one frame of the model"):
        make_stream(mini_data_dir, config=short, min_samples=20_000)
    assert make_stream(mini_data_dir, config=short, training=False, min_samples=20_000).plan.buckets[-1] >= 20_000
    with pytest.raises(CorpusError, match="split 'train': no utterance has the 99999 samples"):
        make_stream(mini_data_dir, min_samples=99_999)


@pytest.mark.parametrize("training", [True, False])
def test_stream_yields_every_utterance_once_with_its_audio_and_labels(mini_data_dir, training):
    stream = make_stream(mini_data_dir, training=training)
    source = open_split(open_corpus("mini_corpus", mini_data_dir), "train")
    seen = []
    for batch in stream:
        batch = jax.device_get(batch)
        for row in range(8):
            if batch.index[row] == FILLER:
                assert batch.weight[row] == 0
                assert batch.num_samples[row] == 0
                assert np.isnan(batch.attributes[row]).all()
                continue
            example = source[int(batch.index[row])]
            seen.append(int(batch.index[row]))
            length = int(batch.num_samples[row])
            audio, waveform = example["audio"], batch.waveform[row]
            assert not waveform[length:].any()
            if len(audio) <= batch.waveform.shape[1]:
                np.testing.assert_array_equal(waveform[:length], audio)
            else:  # cropped
                assert length == batch.waveform.shape[1]
                windows = np.lib.stride_tricks.sliding_window_view(audio, length)
                assert (windows == waveform).all(axis=1).any()
            np.testing.assert_allclose(batch.attributes[row], (example["attributes"] - 1) / 6, atol=1e-6)
            assert batch.emotion[row] == example["emotion"]
    assert sorted(seen) == list(range(mini_corpus.SIZES["train"]))


def test_stream_does_not_crop_in_evaluation(mini_data_dir):
    config = DataConfig(
        batch_size=8,
        bucket_seconds=(0.5,),
        num_buckets=4,
        max_seconds=12.0,
        workers=0,
        max_tokens=8,
        unlabelled_share=0.5,
    )
    lengths = {}
    for batch in make_stream(mini_data_dir, config=config, training=False):
        batch = jax.device_get(batch)
        lengths |= dict(zip(batch.index.tolist(), batch.num_samples.tolist(), strict=True))
    index = read_index(open_corpus("mini_corpus", mini_data_dir), "train")
    assert all(lengths[row] == index.num_samples[row] for row in range(len(index)))


def test_stream_continues_exactly_after_restoring_its_state(mini_data_dir):
    whole = list(make_stream(mini_data_dir, epochs=3, seed=5))
    for stop in (1, 4, len(whole) - 1):
        stream = make_stream(mini_data_dir, epochs=3, seed=5)
        batches = iter(stream)
        for _ in range(stop):
            next(batches)
        state = stream.get_state()
        resumed = make_stream(mini_data_dir, epochs=3, seed=5)
        resumed.set_state(state)
        rest = list(resumed)
        assert len(rest) == len(whole) - stop
        for left, right in zip(rest, whole[stop:], strict=True):
            equal(left, right)


class SharedMemoryLog:
    """Names of the shared memory that this process has opened and not unlinked yet."""

    def __init__(self, monkeypatch):
        self.opened, self.held = 0, set()
        init, unlink = SharedMemory.__init__, SharedMemory.unlink

        def logged_init(memory, *args, **kwargs):
            init(memory, *args, **kwargs)
            self.opened += 1
            self.held.add(memory.name)

        def logged_unlink(memory):
            unlink(memory)
            self.held.discard(memory.name)

        monkeypatch.setattr(SharedMemory, "__init__", logged_init)
        monkeypatch.setattr(SharedMemory, "unlink", logged_unlink)


def test_worker_processes_give_equal_batches_and_free_shared_memory(mini_data_dir, monkeypatch):
    log = SharedMemoryLog(monkeypatch)
    workers = dataclasses.replace(CONFIG, workers=2)
    alone, together = (list(make_stream(mini_data_dir, epochs=2, config=config)) for config in (CONFIG, workers))
    assert log.opened
    assert not log.held  # although `together` is still in use
    for left, right in zip(alone, together, strict=True):
        equal(left, right)
    stopped = iter(make_stream(mini_data_dir, epochs=9, config=dataclasses.replace(CONFIG, workers=1)))
    batch = next(stopped)
    equal(batch, alone[0])
    stopped.close()
    assert not log.held


def test_sharded_batches_equal_unsharded_ones(mini_data_dir):
    for one, eight in zip(make_stream(mini_data_dir), make_stream(mini_data_dir, devices=8), strict=True):
        equal(jax.device_get(one), jax.device_get(eight))
        assert len(eight.waveform.sharding.device_set) == 8
        assert eight.waveform.addressable_shards[0].data.shape[0] == 1


def test_hosts_load_disjoint_rows_that_form_the_batch(mini_data_dir):
    from emojax.data.loading import BatchLoader

    stream = make_stream(mini_data_dir)
    corpus = open_corpus("mini_corpus", mini_data_dir)
    whole = BatchLoader(corpus, "train", stream.plan, AUDIO, 8)
    parts = [BatchLoader(corpus, "train", stream.plan, AUDIO, 8, rows) for rows in np.arange(8).reshape(4, 2)]
    for number in range(stream.num_batches):
        joined = jax.tree.map(lambda *rows: np.concatenate(rows), *(part(number) for part in parts))
        equal(joined, whole(number))


def test_batch_size_must_be_a_multiple_of_devices(mini_data_dir):
    config = DataConfig(
        batch_size=12,
        bucket_seconds=(1.0,),
        num_buckets=4,
        max_seconds=12.0,
        workers=0,
        max_tokens=8,
        unlabelled_share=0.5,
    )
    with pytest.raises(ConfigError, match=r"data.batch_size must be a multiple of the 8 batch shards, got 12"):
        make_stream(mini_data_dir, config=config, devices=8)


def test_missing_corpus_split_or_version_raises_listing_available_ones(mini_data_dir):
    with pytest.raises(
        CorpusError, match=r"corpus 'nothing' is not in .*build it with `python -m tfds_builders nothing"
    ):
        open_corpus("nothing", mini_data_dir)
    corpus = open_corpus("mini_corpus", mini_data_dir)
    with pytest.raises(CorpusError, match=r"no split 'tset'; it has train, dev, test"):
        read_index(corpus, "tset")
    with pytest.raises(CorpusError, match=r"version 9.9.9 is not in"):
        open_corpus("mini_corpus:9.9.9", mini_data_dir)
    with pytest.raises(CorpusError, match=r"corpus name must be NAME"):
        open_corpus("../mini_corpus", mini_data_dir)


def test_empty_split_raises(mini_data_dir):
    corpus = dataclasses.replace(open_corpus("mini_corpus", mini_data_dir), split_sizes={"dev": 0})
    with pytest.raises(CorpusError, match=r"split 'dev' is empty"):
        read_index(corpus, "dev")


def test_damaged_corpus_raises_naming_the_folder(mini_data_dir, tmp_path):
    shutil.copytree(mini_data_dir, tmp_path, dirs_exist_ok=True)
    directory = open_corpus("mini_corpus", tmp_path).directory
    (shard,) = directory.glob("*-train.*")
    shard.write_bytes(shard.read_bytes()[: shard.stat().st_size // 2])
    with pytest.raises(CorpusError, match=r"split 'train'"):
        list(make_stream(tmp_path))
    (directory / "dataset_info.json").write_text("{")
    with pytest.raises(CorpusError, match=r"cannot be read as a TFDS data set"):
        open_corpus("mini_corpus", tmp_path)


def test_rows_are_read_once_up_to_a_limit():
    read = []

    def rows(positions):
        read.extend(positions)
        return [-position for position in positions]

    kept, none = _KeptRows(2), _KeptRows(0)
    for keeper in (kept, none):
        assert keeper.get([3, 1], rows) == [-3, -1]
        assert keeper.get([1, 3], rows) == [-1, -3]
        assert keeper.get([1, 2], rows) == [-1, -2]
    assert read == [3, 1, 2, 3, 1, 1, 3, 1, 2]
    assert pickle.loads(pickle.dumps(kept)).get([3], rows) == [-3]
    assert read[-1] == 3
