"""Index and content digests of splits: equality with the corpus, caching, damaged or foreign caches."""

import hashlib
import json
import shutil
import struct

import numpy as np
import pytest
import safetensors.numpy

from emojax.content import FEATURES
from emojax.data import index, open_corpus, open_split, read_index
from emojax.errors import CorpusError
from tests import built_corpus, mini_corpus


@pytest.fixture(scope="module")
def original(tmp_path_factory):
    folder = tmp_path_factory.mktemp("built")
    built_corpus.build(folder)
    return folder


@pytest.fixture
def built(original, tmp_path):
    """A copy to damage, and a counter of scans."""
    shutil.copytree(original, tmp_path / "data")
    return open_corpus("built_corpus", tmp_path / "data")


@pytest.fixture
def scans(monkeypatch):
    scan, scanned = index._scan, []
    monkeypatch.setattr(index, "_scan", lambda corpus, name: (scanned.append(name), scan(corpus, name))[1])
    return scanned


def same(left, right):
    for column in ("ids", "speakers", "genders", "num_samples", "attributes", "emotion"):
        np.testing.assert_array_equal(getattr(left, column), getattr(right, column))
    assert left.content == right.content


def test_digests_depend_on_values_and_order(built):
    examples = list(open_split(built, "train"))
    texts = [bytes(example["transcript"]) for example in examples]
    expected = {
        "audio": b"".join(struct.pack("<q", len(e["audio"])) + e["audio"].astype("<i2").tobytes() for e in examples),
        "transcript": b"".join(struct.pack("<I", len(text)) + text for text in texts),
        "emotion": np.array([e["emotion"] for e in examples], "<i8").tobytes(),
        "num_samples": np.array([len(e["audio"]) for e in examples], "<i8").tobytes(),
    }
    found = read_index(built, "train").content
    for name, content in expected.items():
        assert found[name] == hashlib.sha256(content).hexdigest() == built.content["train"][name]
    assert set(found) == set(FEATURES)


def test_digests_are_per_feature_and_independent_of_processes(original, tmp_path):
    before = open_corpus("built_corpus", original).content
    assert built_corpus.build(tmp_path / "two", processes=2).content == before
    changed = {
        "audio": {"audio": np.ones(5000, np.int16)},
        "transcript": {"transcript": "other words"},
        "attributes": {"attributes": (1.0, 2.0, 3.0)},
        "emotion_votes": {"emotion_votes": (1.0, 0.0, 0.0)},
    }
    for feature, values in changed.items():
        after = built_corpus.build(tmp_path / "changed", {("train", 3): values}).content
        different = {name for name in FEATURES if after["train"][name] != before["train"][name]}
        assert different == ({"audio", "num_samples"} if feature == "audio" else {feature})
        assert after["dev"] == before["dev"]


def test_index_of_parts_and_sums_selects_rows_of_whole_splits(built):
    whole, dev = read_index(built, "train"), read_index(built, "dev")
    mixed = read_index(built, "train[25%:75%]+dev")
    np.testing.assert_array_equal(mixed.ids, [*whole.ids[3:9], *dev.ids])
    np.testing.assert_array_equal(mixed.ids, [e["id"].decode() for e in open_split(built, "train[25%:75%]+dev")])
    assert read_index(built, "train[:50%]").content == whole.content
    assert mixed.content["audio"] not in (whole.content["audio"], dev.content["audio"])


def test_index_is_cached_beside_a_corpus_with_digests(built, scans):
    first, second = read_index(built, "dev"), read_index(built, "dev")
    same(first, second)
    assert scans == ["dev"]
    assert list((built.directory / ".index").glob("dev-*.safetensors"))


def test_index_of_a_corpus_without_digests_is_cached_in_the_user_cache(tmp_path, scans, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    mini_corpus.build(tmp_path / "data")
    corpus = open_corpus("mini_corpus", tmp_path / "data")
    same(read_index(corpus, "dev"), read_index(corpus, "dev"))
    assert scans == ["dev"]
    assert not (corpus.directory / ".index").exists()
    (table,) = (tmp_path / "cache").rglob("dev-*.safetensors")
    for position in range(8, table.stat().st_size, 97):  # any byte but those of the header's length
        content = bytearray(table.read_bytes())
        content[position] ^= 1
        table.write_bytes(content)
        same(read_index(corpus, "dev"), read_index(corpus, "dev"))


def planted(built, change):
    read_index(built, "dev")
    (path,) = (built.directory / ".index").glob("dev-*.safetensors")
    tensors = safetensors.numpy.load_file(path)
    change(tensors)
    with safetensors.safe_open(path, "np") as file:
        metadata = file.metadata()
    safetensors.numpy.save_file(tensors, path, metadata)
    return path


@pytest.mark.parametrize(
    "column", ["attributes", "emotion", "num_samples", "ids.ends", "ids.characters", "speakers.rows", "genders.rows"]
)
def test_cached_index_with_other_values_is_ignored(built, scans, column):
    before = read_index(built, "dev")
    planted(built, lambda tensors: tensors.update({column: tensors[column][::-1].copy() + 1}))
    same(read_index(built, "dev"), before)
    assert scans == ["dev", "dev"]


HUGE = json.dumps({"ids": {"dtype": "U32", "shape": [2**40, 1], "data_offsets": [0, 2**42]}}).encode()


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"PK\3\4",
        struct.pack("<Q", 2**40) + b"{}",
        struct.pack("<Q", len(HUGE)) + HUGE,
    ],
    ids=["empty", "zip", "header of 1 TB", "2^40 values"],
)
def test_truncated_or_oversized_cached_index_is_ignored(built, content):
    before = read_index(built, "dev")
    (path,) = (built.directory / ".index").glob("dev-*.safetensors")
    path.write_bytes(content)
    same(read_index(built, "dev"), before)
    assert path.stat().st_size > len(content)  # written again


def test_cached_index_of_another_size_is_ignored(built):
    before = read_index(built, "dev")
    planted(built, lambda tensors: tensors.update({name: values[:2].copy() for name, values in tensors.items()}))
    same(read_index(built, "dev"), before)


def test_files_that_differ_from_the_digests_raise(built, tmp_path):
    other = built_corpus.build(tmp_path / "other", {("dev", 1): {"attributes": (1.0, 2.0, 3.0)}})
    for shard in other.directory.glob("*-dev.array_record*"):
        shutil.copy(shard, built.directory / shard.name)
    with pytest.raises(CorpusError, match=r"split 'dev': digests of attributes differ .* again with --overwrite"):
        read_index(built, "dev")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"scale": [7.0, 1.0]}, r"metadata\.scale must be a lower and a higher number, got \[7\.0, 1\.0\]"),
        ({"scale": ["1", "7"]}, r"metadata\.scale\[0\] must be a number, got '1'"),
        ({"categories": "joy"}, r"metadata\.categories must be a list"),
        ({"categories": ["joy", "joy"]}, r"metadata\.categories must differ"),
        ({"speech": "sung"}, r"metadata\.speech must be 'recorded' or 'synthesised'"),
        ({"split_assignment": {"train": 3}}, r"metadata\.split_assignment"),
        ({"content": {"dev": 3}}, r"metadata\.content\.dev must be a group"),
    ],
)
def test_invalid_metadata_raises_naming_the_key(built, change, message):
    path = built.directory / "metadata.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | change))
    with pytest.raises(CorpusError, match=message):
        open_corpus("built_corpus", built.directory.parents[1])


def test_infinite_labels_and_duplicate_ids_raise(tmp_path):
    class Twice(mini_corpus.MiniCorpus):
        name = "twice"

        def _generate_examples(self, split):
            for number, example in super()._generate_examples(split):
                yield number, example | {"id": "same"}

    Twice(data_dir=str(tmp_path), sizes={"dev": 3}).download_and_prepare()
    with pytest.raises(CorpusError, match=r"split 'dev': id 'same' occurs twice"):
        read_index(open_corpus("twice", tmp_path), "dev")
    changes = {("dev", 2): {"attributes": (1.0, float("inf"), 3.0)}}
    with pytest.raises(CorpusError, match=r"split 'dev': utterance 'dev_002' has an infinite attribute"):
        read_index(built_corpus.build(tmp_path / "infinite", changes), "dev")
