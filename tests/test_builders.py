"""Build command and base class of builders, tested with the bundled EmoDB."""

import hashlib
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import tensorflow_datasets as tfds

from emojax.data import default_data_dir, open_corpus, open_split
from emojax.errors import CorpusError
from tfds_builders import build as build_module
from tfds_builders.__main__ import main
from tfds_builders.build import build
from tfds_builders.emodb import emodb_dataset_builder, recordings
from tfds_builders.registry import ENTRIES, builder_class
from tfds_builders.staging import staging_directory
from tfds_builders.utterance import Made, read_pcm, to_pcm, utterance
from tfds_builders.workers import ordered_map, worker_pool

_ROOT = Path(__file__).parent.parent
_BUILD = """
import sys
from tfds_builders.__main__ import main
status = main(sys.argv[1:])
assert not any(name.split(".")[0] == "tensorflow" for name in sys.modules)
sys.exit(status)
"""
_READ = """
import json, sys
import tensorflow_datasets as tfds
builder = tfds.builder_from_directory(sys.argv[1])
source = builder.as_data_source(split="train")
first = source[0]
print(json.dumps({
    "metadata": dict(builder.info.metadata), "length": len(source), "keys": sorted(first),
    "dtype": str(first["audio"].dtype), "samples": len(first["audio"]), "emotion": int(first["emotion"]),
    "names": builder.info.features["emotion"].names, "nan": bool((first["attributes"] != first["attributes"]).all()),
    "imported": [name for name in sys.modules if name.split(".")[0] in ("tensorflow", "tfds_builders")],
}))
"""


@pytest.fixture(scope="module")
def data_dir(tmp_path_factory):
    """EmoDB, built by the command in a separate process."""
    data_dir = tmp_path_factory.mktemp("tfds")
    command = [sys.executable, "-c", _BUILD, "emodb", f"--data_dir={data_dir}", "--processes=1"]
    done = subprocess.run(command, cwd=_ROOT, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stderr
    assert "535 utterances" in done.stdout
    assert "ETA" in done.stderr
    return data_dir


def test_built_corpus_is_self_describing_without_builder_or_tensorflow(data_dir):
    command = [sys.executable, "-c", _READ, str(data_dir / "emodb" / "1.0.0")]
    done = subprocess.run(command, cwd=data_dir, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stderr
    metadata = json.loads(done.stdout)
    assert metadata["imported"] == []
    assert " ".join(sorted(metadata["metadata"])) == (
        "attribute_source categories citation content counts folds licence notes remarks scale speech split_assignment"
    )
    assert metadata["metadata"]["attribute_source"] == "none"
    assert metadata["metadata"]["speech"] == "recorded"
    assert metadata["metadata"]["categories"] == metadata["names"] == list(recordings.CATEGORIES)
    assert " ".join(metadata["keys"]) == (
        "attributes attributes_std audio duration emotion emotion_votes gender id speaker transcript"
    )
    assert (metadata["length"], metadata["dtype"], metadata["samples"], metadata["nan"]) == (284, "int16", 32_000, True)


def test_emodb_examples_equal_the_table_and_splits_are_speaker_disjoint(data_dir):
    corpus = open_corpus("emodb", data_dir)
    assert corpus.split_sizes == {"train": 284, "val": 124, "test": 127}
    table = {recording.path.stem: recording for recording in recordings.read_recordings()}
    speakers = {}
    for split in corpus.split_sizes:
        for example in open_split(corpus, split):
            recording = table.pop(example["id"].decode())
            assert example["speaker"].decode() == recording.speaker
            assert example["gender"].decode() == recording.gender
            assert example["emotion"] == recording.emotion
            assert example["transcript"].decode() == recording.text
            assert example["duration"] == 2.0
            assert recording.split == split
            speakers.setdefault(recording.speaker, set()).add(split)
    assert not table
    assert all(len(splits) == 1 for splits in speakers.values())
    assert "03" in speakers


def test_emodb_categories_follow_the_letter_in_the_file_name():
    names = ("anger", "boredom", "disgust", "fear", "happiness", "neutral", "sadness")
    letters = dict(zip("WLEAFNT", names, strict=True))
    for recording in recordings.read_recordings():
        assert recordings.CATEGORIES[recording.emotion] == letters[recording.path.stem[5]]


def test_examples_are_stored_in_shuffled_order(data_dir):
    source = open_split(open_corpus("emodb", data_dir), "train")
    assert len({source[i]["speaker"] for i in range(20)}) >= 4


def test_existing_corpus_is_not_rebuilt(data_dir, capsys):
    before = (data_dir / "emodb" / "1.0.0" / "dataset_info.json").stat().st_mtime_ns
    assert main(["emodb", f"--data_dir={data_dir}"]) == 0
    assert "already built (train 284, val 124, test 127)" in capsys.readouterr().out
    assert (data_dir / "emodb" / "1.0.0" / "dataset_info.json").stat().st_mtime_ns == before


def test_killed_build_leaves_no_corpus_or_process_and_can_be_repeated(tmp_path, monkeypatch):
    command = [sys.executable, "-c", _BUILD, "emodb", f"--data_dir={tmp_path}", "--processes=2"]
    process = subprocess.Popen(command, cwd=_ROOT, stderr=subprocess.DEVNULL)
    while not list(tmp_path.glob(".emodb-1.0.0.building/**/*.array_record*")):
        assert process.poll() is None
        time.sleep(0.005)
    _wait_until(lambda: len(_children(process.pid)) >= 2)
    children = _children(process.pid)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert not list(tmp_path.glob("emodb/**/*.json"))
    assert list(tmp_path.glob(".emodb-1.0.0.building/*"))
    monkeypatch.setattr(emodb_dataset_builder, "read_recordings", lambda: recordings.read_recordings()[::20])
    built = build(builder_class("emodb"), tmp_path)
    assert sum(built.num_examples.values()) == 27
    assert [path.name for path in tmp_path.iterdir()] == ["emodb"]
    _wait_until(lambda: not any(_alive(pid) for pid in children))


def test_builds_are_reproducible_across_processes(data_dir, tmp_path):
    built = build(builder_class("emodb"), tmp_path, processes=2)
    files = sorted(path.name for path in built.directory.iterdir() if path.is_file())
    assert len([name for name in files if "array_record" in name]) == 3
    for name in files:
        first, second = ((root / "emodb" / "1.0.0" / name).read_bytes() for root in (data_dir, tmp_path))
        assert hashlib.md5(first).digest() == hashlib.md5(second).digest(), name


def test_overwrite_replaces_a_corpus_only_if_the_build_succeeds(data_dir, monkeypatch, tmp_path):
    place = tmp_path / "emodb" / "1.0.0"
    shutil.copytree(data_dir / "emodb" / "1.0.0", place)
    monkeypatch.setattr(emodb_dataset_builder, "read_recordings", lambda: recordings.read_recordings()[::20])
    built = build(builder_class("emodb"), tmp_path, overwrite=True)
    assert sum(built.num_examples.values()) == sum(open_corpus("emodb", tmp_path).split_sizes.values()) == 27

    def fail():
        raise CorpusError("no more recordings")

    monkeypatch.setattr(emodb_dataset_builder, "read_recordings", fail)
    with pytest.raises(CorpusError, match="no more recordings"):
        build(builder_class("emodb"), tmp_path, overwrite=True)
    assert sum(open_corpus("emodb", tmp_path).split_sizes.values()) == 27
    assert [path.name for path in tmp_path.iterdir()] == ["emodb"]


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda path: path.unlink(), "15a04Wa.opus: no such file"),
        (lambda path: path.write_bytes(b"no sound"), "15a04Wa.opus: cannot be read as audio"),
        (lambda path: path.write_bytes(path.read_bytes()[:3000]), "15a04Wa.opus"),
    ],
)
def test_damaged_recording_raises_and_leaves_no_files(damage, message, tmp_path, monkeypatch, capsys):
    folder = tmp_path / "bundled"
    (folder / recordings.AUDIO).mkdir(parents=True)
    shutil.copy(recordings.FOLDER / recordings.METADATA, folder)
    for recording in recordings.read_recordings():
        os.symlink(recording.path, folder / recordings.AUDIO / recording.path.name)
    damaged = folder / recordings.AUDIO / "15a04Wa.opus"
    content = damaged.read_bytes()
    damaged.unlink()
    damaged.write_bytes(content)
    damage(damaged)
    few = {"15a04Wa", "03a01Fa", "11a01Aa"}

    def read():
        return [item for item in recordings.read_recordings(folder) if item.path.stem in few]

    monkeypatch.setattr(emodb_dataset_builder, "read_recordings", read)
    assert main(["emodb", f"--data_dir={tmp_path / 'data'}", "--processes=1"]) == 1
    error = capsys.readouterr().err.splitlines()[-1]
    assert error.startswith("tfds_builders: ")
    assert message in error
    assert list((tmp_path / "data").iterdir()) == []


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["emodbb"], "no builder 'emodbb'; available: emobank_spoken, emodb"),
        (["emodb", "emobank"], "no builder 'emobank'"),
        (["emobank_spoken", "--config=tiny"], "emobank_spoken: no config 'tiny'; it has full, quick"),
        (["emodb", "--config=full"], "emodb: no config 'full'; it has no configs"),
        (["emodb", "--manual_dir=/no/such"], "--manual_dir=/no/such: no such folder"),
        (["emodb", f"--data_dir={__file__}"], "must be a folder, got a file"),
        (["emodb", "--data_dir=/proc/x"], "/proc/x: cannot be written"),
        (["emodb", "--processes=0"], "--processes must be >= 1, got 0"),
        ([], "NAME is missing; available: emobank_spoken"),
    ],
)
def test_invalid_build_commands_raise_one_line_errors(arguments, message, capsys):
    assert main(arguments) == 1
    captured = capsys.readouterr()
    assert captured.out == ""
    assert message in captured.err
    assert captured.err.count("\n") == 1


def test_list_shows_configs_without_importing_builders():
    command = [sys.executable, "-X", "importtime", "-m", "tfds_builders", "--list"]
    done = subprocess.run(command, cwd=_ROOT, capture_output=True, text=True, timeout=600, check=True)
    imported = {line.rpartition("|")[2].strip().partition(".")[0] for line in done.stderr.splitlines()}
    assert "emojax" in imported
    assert not imported & {"tensorflow_datasets", "jax", "numpy"}
    for name, entry in ENTRIES.items():
        assert name in done.stdout
        builder = builder_class(name)
        assert builder.name == name
        assert entry.configs == tuple(config.name for config in builder.BUILDER_CONFIGS)
        assert entry.configs[:1] == ((builder.DEFAULT_BUILDER_CONFIG_NAME,) if entry.configs else ())
        assert entry.needs_manual_dir == bool(builder.MANUAL_DOWNLOAD_INSTRUCTIONS)


def test_default_data_dir_is_that_of_readers(monkeypatch, tmp_path):
    places = []
    monkeypatch.setenv("TFDS_DATA_DIR", str(tmp_path))
    monkeypatch.setattr(build_module, "build", lambda *arguments, **_: places.append(arguments[1]) or sys.exit(0))
    with pytest.raises(SystemExit):
        main(["emodb"])
    assert places == [default_data_dir()]


def test_concurrent_builds_of_a_corpus_raise(tmp_path):
    with staging_directory(tmp_path, "emodb-1.0.0"), pytest.raises(CorpusError, match="by another process"):
        build(builder_class("emodb"), tmp_path)
    with staging_directory(tmp_path, "emodb-1.0.0") as directory:
        assert list(directory.iterdir()) == []


def test_missing_values_survive_writing_and_reading(tmp_path):
    class Sparse(builder_class("emodb")):
        name = "sparse"

        @property
        def make_utterance(self):
            return _sparse_utterance

        def items(self, manual_dir):
            return {"only": ["a", "b", "left out"]}

    built = build(Sparse, tmp_path)
    examples = list(tfds.builder_from_directory(built.directory).as_data_source("only"))
    assert built.counts == {"skipped_for_its_name": 1, "shorter_than_25_ms": 2}
    assert sorted(example["id"] for example in examples) == [b"a", b"b"]
    for example in examples:
        assert example["emotion"] == -1
        np.testing.assert_array_equal(example["emotion_votes"], np.full(7, np.nan, np.float32))
        np.testing.assert_array_equal(example["attributes"], np.array([1.5, np.nan, 0.1], np.float32))
        np.testing.assert_array_equal(example["audio"], np.array([-32768, 0, 32767], np.int16))
        assert example["speaker"] == example["gender"] == example["transcript"] == b""


def test_item_with_unexpected_exception_is_named_counted_and_skipped(tmp_path, capsys):
    class Damaged(builder_class("emodb")):
        name = "damaged"

        @property
        def make_utterance(self):
            return _failing_utterance

        def items(self, manual_dir):
            return {"only": [f"clip {number}" for number in range(40)]}

    built = build(Damaged, tmp_path)
    assert built.num_examples == {"only": 39}
    assert built.counts == {"failed": 1, "shorter_than_25_ms": 39}
    assert "skipped: clip 7: ValueError: array is too big" in capsys.readouterr().err


def test_builder_with_instructions_requires_manual_dir(tmp_path):
    class Brought(builder_class("emodb")):
        """Reads ids from the user's folder."""

        name = "brought"
        MANUAL_DOWNLOAD_INSTRUCTIONS = "Put ids.txt there."

        @property
        def make_utterance(self):
            return _sparse_utterance

        def items(self, manual_dir):
            return {"only": (manual_dir / "ids.txt").read_text().split()}

    with pytest.raises(CorpusError, match=r"^brought: --manual_dir is missing; Put ids.txt there.$"):
        build(Brought, tmp_path / "data")
    with pytest.raises(CorpusError, match=r"absent: no such folder; Put ids.txt there.$"):
        build(Brought, tmp_path / "data", manual_dir=tmp_path / "absent")
    (tmp_path / "mine").mkdir()
    with pytest.raises(CorpusError, match=r"mine: is empty; Put ids.txt there.$"):
        build(Brought, tmp_path / "data", manual_dir=tmp_path / "mine")
    (tmp_path / "mine" / "ids.txt").write_text("a b c")
    assert build(Brought, tmp_path / "data", manual_dir=tmp_path / "mine").num_examples == {"only": 3}


def test_duplicate_id_or_empty_split_raises(tmp_path):
    class Strange(builder_class("emodb")):
        name = "strange"
        ids = ("a", "b", "a")

        @property
        def make_utterance(self):
            return _sparse_utterance

        def items(self, manual_dir):
            return {"only": self.ids}

    with pytest.raises(CorpusError, match="id 'a' occurs twice"):
        build(Strange, tmp_path)
    Strange.ids = ("left out",)
    with pytest.raises(CorpusError, match="split 'only' has no utterance"):
        build(Strange, tmp_path)


def test_pcm_rounds_and_clips(tmp_path):
    values = np.array([-1.5, -1.0, 0.0, 0.4 / 32768, 0.6 / 32768, 0.99999, 1.0], np.float32)
    np.testing.assert_array_equal(to_pcm(values), [-32768, -32768, 0, 0, 1, 32767, 32767])
    with pytest.raises(CorpusError, match=r"absent\.wav: no such file"):
        read_pcm(tmp_path / "absent.wav")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"audio": np.zeros(0, np.int16)}, "x: audio must be int16 .*, got int16"),
        ({"audio": np.zeros(3, np.float32)}, "x: audio must be int16 .*, got float32"),
        ({"emotion": 2}, "x: emotion must be -1 to 1, got 2"),
        ({"gender": "F"}, "x: gender must be 'female' or 'male' or '', got 'F'"),
        ({"attributes": (1.0, 2.0)}, "x: attributes must have shape"),
        ({"emotion_votes": (1.0,)}, "x: emotion_votes must have shape"),
    ],
)
def test_utterance_with_invalid_values_raises(change, message):
    with pytest.raises(CorpusError, match=message):
        utterance(**{"id": "x", "audio": np.ones(3, np.int16), "num_categories": 2} | change)


def test_ordered_map_keeps_order_and_raises_for_a_dead_worker():
    with worker_pool(2) as pool:
        assert list(ordered_map(abs, range(-300, 0), pool, 2)) == list(range(300, 0, -1))
        with pytest.raises(CorpusError, match="a worker process died"):
            list(ordered_map(os._exit, [1, 1], pool, 2))


def _failing_utterance(item):
    if item == "clip 7":
        raise ValueError("array is too big")
    return _sparse_utterance(item)


def _sparse_utterance(item):
    if item == "left out":
        return Made(None, ("skipped_for_its_name",))
    audio = np.array([-32768, 0, 32767], np.int16)
    return Made(utterance(id=item, audio=audio, num_categories=7, attributes=(1.5, np.nan, 0.1)))


def _children(pid: int) -> list[int]:
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def _alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except OSError:
        return False


def _wait_until(condition) -> None:
    end = time.monotonic() + 120
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.05)
