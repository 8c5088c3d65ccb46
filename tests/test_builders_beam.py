"""Shards written by Apache Beam: those of a local build, bit for bit."""

import pickle
import secrets
import shutil

import fsspec
import pytest

from emojax import content
from emojax.data import index as index_module
from emojax.data import open_corpus, read_index
from emojax.data.columns import Column
from emojax.errors import CorpusError
from tests import built_corpus
from tfds_builders import beam_build, bucket
from tfds_builders import builder as builder_module
from tfds_builders.__main__ import main
from tfds_builders.build import build, build_in_bucket
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
    return [pickle.loads(bucket.read_file(task.result)) for task in tasks]


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


def table_of(corpus, split):
    (path,) = (corpus.directory / ".index").glob(f"{split}-*.safetensors")
    return path


def test_beam_writes_the_index_that_a_scan_writes(tmp_path, small_shards, options, monkeypatch):
    build(built_corpus.BuiltCorpus, tmp_path / "local")
    local = open_corpus("built_corpus", tmp_path / "local")
    for split in built_corpus.SIZES:
        read_index(local, split)
    monkeypatch.setattr(index_module, "_scan", None)
    for largest in (2**20, 4):  # dev has 5 utterances: tables of large splits are mapped, and their names have no times
        monkeypatch.setattr(index_module, "COMPARED_UTTERANCES", largest)
        build(built_corpus.BuiltCorpus, tmp_path / "beam", beam_options=options, overwrite=True)
        shutil.rmtree(tmp_path / "copy", ignore_errors=True)
        if largest == 4:
            shutil.copytree(tmp_path / "beam", tmp_path / "copy", copy_function=shutil.copyfile)
        other = open_corpus("built_corpus", tmp_path / ("copy" if largest == 4 else "beam"))
        for split in ("train", "dev"):
            assert table_of(other, split).read_bytes() == table_of(local, split).read_bytes()
            index = read_index(other, split)
            assert isinstance(index.num_samples, Column) == (largest == 4)


@pytest.fixture(params=["memory", "s3"])
def url(request):
    """Folder of a bucket: in memory, or of a server of the S3 protocol on loopback."""
    name = secrets.token_hex(8)
    if request.param == "s3":
        files = request.getfixturevalue("s3")
        files.mkdir(name)
    url = f"{request.param}://{name}/corpora"
    yield url
    bucket.remove_folder(url)


@pytest.fixture(scope="module")  # fsspec keeps the connection
def s3():
    pytest.importorskip("s3fs", reason="s3fs is not installed")
    server = pytest.importorskip("moto.server", reason="moto is not installed").ThreadedMotoServer("127.0.0.1", 0)
    server.start()
    host, port = server.get_host_and_port()
    with pytest.MonkeyPatch.context() as environment:
        environment.setenv("AWS_ENDPOINT_URL", f"http://{host}:{port}")
        environment.setenv("AWS_ACCESS_KEY_ID", "key")
        environment.setenv("AWS_SECRET_ACCESS_KEY", "secret")
        environment.setenv("AWS_DEFAULT_REGION", "us-east-1")
        yield fsspec.filesystem("s3")
    server.stop()


@pytest.mark.parametrize("writer", ["here", "tasks", "beam"])
def test_a_corpus_in_a_bucket_has_the_files_of_a_local_one(tmp_path, small_shards, url, writer, monkeypatch):
    options = {"here": None, "tasks": [], "beam": ["--runner=DirectRunner"]}[writer]
    if writer == "beam":
        pytest.importorskip("apache_beam", reason="Apache Beam is not installed (requirements-beam.txt)")
    elif writer == "tasks":
        monkeypatch.setattr(beam_build, "run_pipeline", in_this_process)
    monkeypatch.setattr(index_module, "COMPARED_UTTERANCES", 4)
    local = build(built_corpus.BuiltCorpus, tmp_path / "local")
    made = build_in_bucket(built_corpus.BuiltCorpus, url, beam_options=options)
    assert made.directory == f"{url}/built_corpus/1.0.0"
    assert (made.num_examples, made.num_bytes) == (local.num_examples, local.num_bytes)
    again = build_in_bucket(built_corpus.BuiltCorpus, url, beam_options=options)
    assert not again.hours
    files, _ = fsspec.url_to_fs(url)
    files.get(f"{made.directory}/", str(tmp_path / "copy/built_corpus/1.0.0/"), recursive=True)
    corpus, other = open_corpus("built_corpus", tmp_path / "local"), open_corpus("built_corpus", tmp_path / "copy")
    assert files_of(other) == files_of(corpus)
    assert not files.exists(f"{made.directory}/beam")
    if writer != "here":
        monkeypatch.setattr(index_module, "_scan", None)  # the tables of large splits are copied with them
        assert read_index(other, "train").content == corpus.content["train"]


def test_a_failed_build_in_a_bucket_leaves_no_corpus(small_shards, url, monkeypatch):
    monkeypatch.setattr(beam_build, "run_pipeline", in_this_process)
    with pytest.raises(CorpusError, match="the table was changed"):
        build_in_bucket(Stopping, url, beam_options=[])
    assert not fsspec.url_to_fs(url)[0].find(url)


def test_a_bucket_that_cannot_be_accessed_is_reported_in_one_line(capsys):
    assert main(["emodb", "--data_dir=nosuch://a", "--processes=1"]) == 1
    message = "tfds_builders: --data_dir=nosuch://a: cannot be accessed (Protocol not known: nosuch)\n"
    assert capsys.readouterr().err == message


@pytest.mark.parametrize("environment", [False, True])
def test_reading_from_a_bucket_names_what_to_do(environment, monkeypatch):
    if environment:
        monkeypatch.setenv("TFDS_DATA_DIR", "gs://own/corpora")
    with pytest.raises(CorpusError, match=r"data_dir must be a folder, got gs://own/corpora: .* copy the corpus to a"):
        open_corpus("emodb", "" if environment else "gs://own/corpora")


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
    with pytest.raises(CorpusError, match=r"--beam needs Apache Beam: pip install apache-beam"):
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
