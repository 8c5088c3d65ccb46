"""Stores written by Apache Beam: those of an extraction without it, bit for bit."""

import functools
import importlib.util
import json

import pytest

from emojax.errors import CheckpointError, EmojaxError
from emojax.extraction import extract_store, filling, run, shards
from tests.test_extraction import config

SPLITS = ("dev", "test")
BEAM = importlib.util.find_spec("apache_beam") is not None


def files_of(store):
    return {str(p.relative_to(store)): p.read_bytes() for p in store.rglob("*") if p.is_file()}


def summary_of(files):
    summary = json.loads(files.pop("summary.json"))
    differing = ("seconds", "audio_hours_per_hour", "sha256")  # duration, and the digest of all values
    return {name: value for name, value in summary.items() if name not in differing}


@pytest.fixture(scope="module")
def small_shards():
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(shards, "_SHARD_UTTERANCES", 5)
        yield


@pytest.fixture(scope="module")
def job(mini_data_dir, checkpoints, one_shape_in_module):
    """Extraction of transcripts, some of which are empty or cut."""
    return config(mini_data_dir, checkpoints["lexical"], splits=SPLITS, max_tokens=4)


@pytest.fixture(scope="module")
def local(job, small_shards, tmp_path_factory):
    """Files of the store of a local extraction."""
    store = tmp_path_factory.mktemp("local") / "store"
    extract_store(job, store)
    return files_of(store)


@pytest.mark.skipif(BEAM, reason="Apache Beam is installed")
def test_without_beam_the_command_names_the_requirements(mini_data_dir, tmp_path):
    with pytest.raises(EmojaxError, match=r"--beam needs Apache Beam: pip install apache-beam"):
        extract_store(config(mini_data_dir, "absent"), tmp_path / "store", [])
    assert not (tmp_path / "store").exists()


@pytest.fixture
def beam_filling():
    pytest.importorskip("apache_beam", reason="Apache Beam is not installed (requirements-beam.txt)")
    from emojax.extraction import beam_filling

    return beam_filling


def test_beam_writes_the_store_of_a_local_extraction_and_finished_shards_once(
    job, local, beam_filling, tmp_path, monkeypatch
):
    opened, computed, compute = [], [], run.ArrayWork.compute
    computer = run.EncoderComputer
    monkeypatch.setattr(run, "EncoderComputer", lambda settings: (opened.append(1), computer(settings))[1])
    monkeypatch.setattr(
        run.ArrayWork, "compute", lambda self, *rest: (computed.append(rest[1]), compute(self, *rest))[1]
    )
    whole = extract_store(job, tmp_path / "store", ["--runner=DirectRunner"])
    found = files_of(tmp_path / "store")
    assert sorted(computed) == sorted([5, 5, 1, 5, 4])
    assert len(opened) == 2  # for the metadata, and by the only worker process
    expected = dict(local)
    assert summary_of(found) == summary_of(expected)
    assert found == expected
    assert (whole.utterances, whole.empty, whole.cut) == (20, 4, 16)

    (tmp_path / "store" / "dev" / "00001-of-00003.array_record").unlink()
    rest = extract_store(job, tmp_path / "store", ["--runner=DirectRunner"])
    assert rest.utterances == computed.pop() == 5
    assert len(computed) == 5
    assert files_of(tmp_path / "store").keys() == local.keys()
    assert extract_store(job, tmp_path / "store", ["--runner=DirectRunner"]).utterances == 0


def test_a_repeated_shard_is_counted_and_not_computed_again(job, local, beam_filling, tmp_path, monkeypatch):
    store = tmp_path / "store"
    opened = functools.partial(run.open_store, job, store)
    filling.describe_store(store, *opened())
    worker = beam_filling._Worker(store, opened)
    first = worker.fill(1, 0)
    monkeypatch.setattr(run.ArrayWork, "compute", None)
    assert worker.fill(1, 0) == first
    name = "test/00000-of-00002.array_record"
    assert files_of(store)[name] == local[name]


def test_a_worker_without_the_folder_of_the_store_raises(job, beam_filling, tmp_path):
    opened = functools.partial(run.open_store, job, tmp_path)
    with pytest.raises(CheckpointError, match=r"is not on this worker; --workdir must be in a folder of all workers"):
        beam_filling._Worker(tmp_path, opened)


def test_an_error_of_a_worker_is_one_line(job, beam_filling, tmp_path, monkeypatch):
    def failing(*arguments):
        raise CheckpointError("the disk is full")

    monkeypatch.setattr(run, "write_shard", failing)
    with pytest.raises(EmojaxError) as found:
        extract_store(job, tmp_path / "store", ["--runner=DirectRunner"])
    assert str(found.value) == "a shard cannot be written: the disk is full"
