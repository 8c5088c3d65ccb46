"""Shards written by Apache Beam: those of a local build, bit for bit."""

import pickle

import pytest

from emojax import content
from emojax.data import index as index_module
from emojax.data import open_corpus, read_index
from emojax.errors import CorpusError
from tests import built_corpus
from tfds_builders import beam_build
from tfds_builders import builder as builder_module
from tfds_builders.build import build
from tfds_builders.utterance import Made


def files_of(corpus):
    return {path.name: path.read_bytes() for path in corpus.directory.iterdir() if path.is_file()}


@pytest.fixture
def small_shards(monkeypatch):
    monkeypatch.setattr(builder_module, "_ITEMS_PER_SHARD", 1)
    built_corpus.BuiltCorpus.changes = {}


def in_this_process(tasks, attempt, features, options, folder):
    """Writes every shard, the first one twice, as a runner repeats one of a lost worker."""
    for task in [tasks[0], *tasks]:
        beam_build.write_shard(task, attempt, features)
    return [pickle.loads(open(task.result, "rb").read()) for task in tasks]


@pytest.fixture(params=["tasks", "beam"])
def options(request, monkeypatch):
    """Pipeline options; tasks without a pipeline where Apache Beam is not needed."""
    if request.param == "beam":
        pytest.importorskip("apache_beam", reason="Apache Beam is not installed (requirements-beam.txt)")
    else:
        monkeypatch.setattr(beam_build, "run_pipeline", in_this_process)
    return ["--runner=DirectRunner", "--direct_num_workers=2", "--direct_running_mode=multi_processing"]


def test_beam_writes_the_files_of_a_local_build(tmp_path, small_shards, options):
    build(built_corpus.BuiltCorpus, tmp_path / "local")
    build(built_corpus.BuiltCorpus, tmp_path / "beam", beam_options=options)
    local, other = (files_of(open_corpus("built_corpus", tmp_path / folder)) for folder in ("local", "beam"))
    assert len(local) > 20  # more than ten shards: their numbers are not ordered as text
    assert other == local


def test_digests_of_large_splits_are_those_of_their_shards(tmp_path, small_shards, options, monkeypatch):
    for module in (content, builder_module, beam_build, index_module):
        monkeypatch.setattr(module, "SHARDED_UTTERANCES", 5)
    build(built_corpus.BuiltCorpus, tmp_path / "local")
    build(built_corpus.BuiltCorpus, tmp_path / "beam", beam_options=options)
    local, other = (open_corpus("built_corpus", tmp_path / folder) for folder in ("local", "beam"))
    assert files_of(other) == files_of(local)
    assert read_index(local, "train").content == local.content["train"]
    assert read_index(local, "dev").content == local.content["dev"]


def test_without_beam_the_command_names_the_requirements(tmp_path):
    if beam_is_installed():
        pytest.skip("Apache Beam is installed")
    with pytest.raises(CorpusError, match=r"--beam needs Apache Beam: pip install -r requirements-beam\.txt"):
        build(built_corpus.BuiltCorpus, tmp_path, beam_options=[])
    assert not list(tmp_path.rglob("*.array_record*"))


def beam_is_installed():
    try:
        import apache_beam  # noqa: F401
    except ImportError:
        return False
    return True


def twice(item):
    return Made({**built_corpus.make_utterance(item).example, "id": "same"})


class Twice(built_corpus.BuiltCorpus, skip_registration=True):
    name = "twice"

    @property
    def make_utterance(self):
        return twice


def test_beam_finds_an_id_in_two_shards(tmp_path, small_shards):
    pytest.importorskip("apache_beam", reason="Apache Beam is not installed (requirements-beam.txt)")
    with pytest.raises(CorpusError, match=r"id 'same' occurs twice"):
        build(Twice, tmp_path, beam_options=["--runner=DirectRunner"])


def stop(item):
    raise CorpusError("the table was changed")


class Stopping(built_corpus.BuiltCorpus, skip_registration=True):
    name = "stopping"

    @property
    def make_utterance(self):
        return stop


def test_an_error_of_a_worker_is_one_line_and_leaves_nothing(tmp_path):
    pytest.importorskip("apache_beam", reason="Apache Beam is not installed (requirements-beam.txt)")
    with pytest.raises(CorpusError) as found:
        build(Stopping, tmp_path, beam_options=["--runner=DirectRunner"])
    assert str(found.value).startswith("a shard cannot be written: the table was changed")
    assert "\n" not in str(found.value)
    assert not list(tmp_path.rglob("*.array_record*"))
