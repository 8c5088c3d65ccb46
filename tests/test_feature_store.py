"""Feature store: round trips, reading by position and id, damage and mismatches."""

import contextlib
import json
import pickle

import grain
import hypothesis.extra.numpy as arrays
import ml_dtypes
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from emojax.errors import CheckpointError, EmojaxError
from emojax.feature_store import (
    ArraySpec,
    SplitMetadata,
    Store,
    StoreMetadata,
    check_content,
    split_content,
    write_metadata,
    write_shard,
    write_split_metadata,
)
from emojax.feature_store.shards import from_record, to_record
from emojax.files import with_digest, write_json
from emojax.schema import to_tree

SPECS = (ArraySpec("states", "float16", (2, 3)), ArraySpec("logits", "float32", (4,)))
FACTS = StoreMetadata("corpus/1.0.0", {"checkpoint": "abc", "layers": [3, 4]}, SPECS)
IDS = tuple(f"clip {number} ü" for number in range(7))
CONTENT = {"id": "a1", "audio": "b2"}


def values(number):
    rng = np.random.default_rng(number)
    states = rng.normal(size=(number, 2, 3)).astype(np.float16)
    return {"states": states, "logits": rng.normal(size=(1, 4)).astype(np.float32)}


@pytest.fixture
def store(tmp_path):
    folder = tmp_path / "store"
    metadata = SplitMetadata(IDS, CONTENT, (0, 3, 4, 7))
    write_metadata(folder, FACTS)
    write_split_metadata(folder / "test", metadata)
    for shard in range(3):
        write_shard(folder / "test", metadata, shard, map(values, range(*metadata.bounds[shard : shard + 2])), SPECS)
    return folder


@given(
    st.text(max_size=30),
    arrays.arrays(
        np.float32, st.tuples(st.integers(0, 5), st.just(2), st.just(3)), elements=st.floats(-9, 9, width=32)
    ),
    st.sampled_from(["float32", "float16", "bfloat16"]),
)
@settings(deadline=None, max_examples=50)
def test_record_round_trip(id, states, dtype):
    specs = (ArraySpec("states", dtype, (2, 3)),)
    found_id, found = from_record(to_record(id, {"states": states}, specs), specs, "here")
    expected = states.astype(ml_dtypes.bfloat16 if dtype == "bfloat16" else dtype)
    assert found_id == id
    np.testing.assert_array_equal(found["states"], expected)
    assert found["states"].dtype == expected.dtype


@pytest.mark.parametrize("cut", [0, 1, 5, 20, -1])
def test_truncated_record_raises(cut):
    record = to_record("clip", values(3), SPECS)
    with pytest.raises(CheckpointError, match="here: a record"):
        from_record(record[:cut], SPECS, "here")


def test_record_with_trailing_bytes_raises():
    with pytest.raises(CheckpointError, match=r"has 1\d\d bytes, expected"):
        from_record(to_record("clip", values(3), SPECS) + b"x" * 60, SPECS, "here")


def test_utterances_are_read_by_position_id_and_grain(store):
    split = Store(store).split("test")
    assert len(split) == 7
    for number, id in enumerate(IDS):
        for found in (split[number], split.by_id(id)):
            for name, expected in values(number).items():
                np.testing.assert_array_equal(found[name], expected)
    again = grain.MapDataset.source(pickle.loads(pickle.dumps(split))).shuffle(seed=1).map(lambda a: len(a["states"]))
    assert sorted(again[i] for i in range(7)) == list(range(7))
    with pytest.raises(KeyError):
        split.by_id("nobody")


def test_unfinished_split_raises_with_number_of_missing_shards(store):
    split = store / "test"
    metadata = SplitMetadata(IDS, CONTENT, (0, 3, 4, 7))
    (split / metadata.shard_name(1)).unlink()
    assert metadata.missing_shards(split) == [1]
    with pytest.raises(CheckpointError, match="1 of 3 shards are missing"):
        Store(store).split("test")
    with pytest.raises(CheckpointError, match="no split 'dev'; it has test"):
        Store(store).split("dev")


def test_damaged_shard_raises(store):
    path = store / "test" / "00001-of-00003.array_record"
    path.write_bytes(path.read_bytes()[:100])
    with pytest.raises(CheckpointError, match="test: cannot be read"):
        Store(store).split("test")[3]


@pytest.mark.parametrize(
    ("other", "message"),
    [
        (StoreMetadata("corpus/2.0.0", FACTS.source, SPECS), "was made from corpus corpus/1.0.0, not corpus/2.0.0"),
        (
            StoreMetadata(FACTS.corpus, {**FACTS.source, "checkpoint": "abd"}, SPECS),
            "with checkpoint 'abc', not 'abd'",
        ),
        (StoreMetadata(FACTS.corpus, {**FACTS.source, "layers": [4]}, SPECS), r"made with layers \[3, 4\], not \[4\]"),
        (StoreMetadata(FACTS.corpus, FACTS.source, SPECS[:1]), "holds"),
    ],
)
def test_store_with_another_source_raises(store, other, message):
    with pytest.raises(CheckpointError, match=message):
        write_metadata(store, other)
    write_metadata(store, FACTS)


def test_split_with_other_content_raises_with_recompute_hint(store):
    split = store / "test"
    again = f"delete {store} and run the command that wrote it again"
    for content, changed in (({"audio": "b3"}, "audio"), ({"id": "a2", "audio": "b3"}, "utterances, audio")):
        with pytest.raises(CheckpointError) as caught:
            write_split_metadata(split, SplitMetadata(IDS, CONTENT | content, (0, 3, 4, 7)))
        assert str(caught.value) == f"{split}: was computed from other {changed} than the corpus has now; {again}"
    with pytest.raises(CheckpointError, match="has other shard bounds; delete"):
        write_split_metadata(split, SplitMetadata(IDS, CONTENT, (0, 3, 7)))
    write_split_metadata(split, SplitMetadata(IDS, CONTENT, (0, 3, 4, 7)))
    everything = {**CONTENT, "transcript": "c3", "attributes": "d4"}
    assert split_content(everything, "audio") == CONTENT
    check_content(split, CONTENT, everything | {"attributes": "labels may change"})


def test_flipped_bit_in_metadata_is_detected(store):
    for path in (store / "store.json", store / "test" / "split.json"):
        whole, before = path.read_bytes(), (Store(store).split("test").metadata, Store(store).metadata)
        for position in range(0, len(whole), 3):
            damaged = bytearray(whole)
            damaged[position] ^= 1
            path.write_bytes(damaged)
            with contextlib.suppress(CheckpointError):  # white space between values may differ
                assert (Store(store).split("test").metadata, Store(store).metadata) == before
        path.write_bytes(whole)


def declared(path, tree):
    path.write_text("{}")
    write_json(path, with_digest(tree))


GOOD = to_tree(FACTS)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            {"arrays": [{"name": "states", "dtype": "float16", "shape": [10**15]}]},
            r"shape\[0\] must be >= 1 and <= 1048576",
        ),
        ({"arrays": [{"name": "states", "dtype": "float16", "shape": [2**20, 2**20]}]}, "a row must have at most"),
        ({"arrays": [{"name": "states", "dtype": "int8", "shape": [1]}]}, "dtype must be 'float16' or"),
        ({"arrays": [{"name": "states", "dtype": "float16", "shape": "12"}]}, "shape must be a list"),
        ({"arrays": []}, "arrays must not be empty"),
        ({"corpus": 3}, "corpus must be text, got 3"),
        ({"source": [1]}, "source must be a group"),
        ({"format": 3}, "format must be 2, got 3"),
        ({"more": 1}, "more: no such field"),
    ],
)
def test_invalid_store_metadata_raises(store, change, message):
    declared(store / "store.json", GOOD | change)
    with pytest.raises(CheckpointError, match=message) as caught:
        Store(store)
    assert str(caught.value).startswith(str(store / "store.json"))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"bounds": [0, 10**15]}, "bounds must go from 0 to 7, the number of ids, got 0 to 1000000000000000"),
        ({"bounds": [0, 5, 3, 7]}, "bounds must ascend"),
        ({"bounds": [7]}, "bounds must have at least 2 entries"),
        ({"bounds": [0.5, 7]}, r"bounds\[0\] must be an integer"),
        ({"ids": ["a"] * 7}, "ids must differ"),
        ({"ids": []}, "ids must not be empty"),
        ({"content": {"audio": 3}}, "content.audio must be text"),
    ],
)
def test_invalid_split_metadata_raises(store, change, message):
    path = store / "test" / "split.json"
    declared(path, to_tree(SplitMetadata(IDS, CONTENT, (0, 3, 4, 7))) | change)
    with pytest.raises(CheckpointError, match=message):
        Store(store).split("test")


def test_store_of_an_older_version_raises_with_recompute_hint(store):
    tree = {key: value for key, value in GOOD.items() if key != "format"}
    (store / "store.json").write_text(json.dumps(tree))
    with pytest.raises(CheckpointError, match=rf"was made by an older version, .*; delete {store} and run"):
        Store(store)


def test_folder_with_other_files_raises(tmp_path):
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(CheckpointError, match="must be a store, or a new or empty folder"):
        write_metadata(tmp_path, FACTS)
    with pytest.raises(CheckpointError, match=r"store\.json: no such file; .* is not a finished store"):
        Store(tmp_path)
    (tmp_path / "store.json").write_text(json.dumps({"corpus": "a", "source": {}, "format": 2}))
    with pytest.raises(CheckpointError, match=r"store\.json\.arrays is missing"):
        Store(tmp_path)


def test_failed_shard_leaves_no_files(store):
    metadata = SplitMetadata(IDS, CONTENT, (0, 3, 4, 7))
    (store / "dev").mkdir()

    def failing():
        yield values(0)
        raise OSError(28, "No space left on device")

    with pytest.raises(EmojaxError, match="No space left on device"):
        write_shard(store / "dev", metadata, 0, failing(), SPECS)
    assert list((store / "dev").iterdir()) == []
    leftover = store / "dev" / f".{metadata.shard_name(0)}.99.tmp"
    leftover.write_bytes(b"part")
    metadata.remove_leftovers(store / "dev", 0)
    assert not leftover.exists()
