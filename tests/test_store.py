"""Stores hold exactly what was put in, are read by position or id, and refuse what is damaged or of another source."""

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
from emojax.store import (
    ArraySpec,
    SplitFacts,
    Store,
    StoreFacts,
    missing_shards,
    remove_leftovers,
    split_fingerprint,
    write_facts,
    write_shard,
    write_split_facts,
)
from emojax.store.records import from_record, to_record

SPECS = (ArraySpec("states", "float16", (2, 3)), ArraySpec("logits", "float32", (4,)))
FACTS = StoreFacts("corpus/1.0.0", {"checkpoint": "abc", "layers": [3, 4]}, SPECS)
IDS = tuple(f"clip {number} ü" for number in range(7))


def values(number):
    rng = np.random.default_rng(number)
    states = rng.normal(size=(number, 2, 3)).astype(np.float16)
    return {"states": states, "logits": rng.normal(size=(1, 4)).astype(np.float32)}


@pytest.fixture
def store(tmp_path):
    folder = tmp_path / "store"
    facts = SplitFacts(IDS, split_fingerprint(IDS, np.arange(7)), (0, 3, 4, 7))
    write_facts(folder, FACTS)
    write_split_facts(folder / "test", facts)
    for shard in range(3):
        write_shard(folder / "test", facts, shard, map(values, range(*facts.bounds[shard : shard + 2])), SPECS)
    return folder


@given(
    st.text(max_size=30),
    arrays.arrays(
        np.float32, st.tuples(st.integers(0, 5), st.just(2), st.just(3)), elements=st.floats(-9, 9, width=32)
    ),
    st.sampled_from(["float32", "float16", "bfloat16"]),
)
@settings(deadline=None, max_examples=50)
def test_a_record_gives_back_what_it_was_made_from(id, states, dtype):
    specs = (ArraySpec("states", dtype, (2, 3)),)
    found_id, found = from_record(to_record(id, {"states": states}, specs), specs, "here")
    expected = states.astype(ml_dtypes.bfloat16 if dtype == "bfloat16" else dtype)
    assert found_id == id
    np.testing.assert_array_equal(found["states"], expected)
    assert found["states"].dtype == expected.dtype


@pytest.mark.parametrize("cut", [0, 1, 5, 20, -1])
def test_a_record_cut_short_is_refused(cut):
    record = to_record("clip", values(3), SPECS)
    with pytest.raises(CheckpointError, match="here: a record"):
        from_record(record[:cut], SPECS, "here")


def test_a_record_with_more_than_it_says_is_refused():
    with pytest.raises(CheckpointError, match=r"has 1\d\d bytes, expected"):
        from_record(to_record("clip", values(3), SPECS) + b"x" * 60, SPECS, "here")


def test_utterances_are_read_by_position_by_id_and_by_grain(store):
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


def test_an_unfinished_split_says_how_much_is_missing(store):
    split = store / "test"
    facts = SplitFacts(IDS, split_fingerprint(IDS, np.arange(7)), (0, 3, 4, 7))
    (split / facts.shard_name(1)).unlink()
    assert missing_shards(split, facts) == [1]
    with pytest.raises(CheckpointError, match="1 of 3 shards are not there yet"):
        Store(store).split("test")
    with pytest.raises(CheckpointError, match="no split 'dev'; it has test"):
        Store(store).split("dev")


def test_a_damaged_shard_is_named(store):
    path = store / "test" / "00001-of-00003.array_record"
    path.write_bytes(path.read_bytes()[:100])
    with pytest.raises(CheckpointError, match="test: cannot be read"):
        Store(store).split("test")[3]


@pytest.mark.parametrize(
    ("other", "message"),
    [
        (StoreFacts("corpus/2.0.0", FACTS.source, SPECS), "was made from corpus corpus/1.0.0, not corpus/2.0.0"),
        (
            StoreFacts(FACTS.corpus, {**FACTS.source, "checkpoint": "abd"}, SPECS),
            "with checkpoint 'abc', not 'abd'",
        ),
        (StoreFacts(FACTS.corpus, {**FACTS.source, "layers": [4]}, SPECS), r"made with layers \[3, 4\], not \[4\]"),
        (StoreFacts(FACTS.corpus, FACTS.source, SPECS[:1]), "holds"),
    ],
)
def test_a_store_of_another_source_is_refused(store, other, message):
    with pytest.raises(CheckpointError, match=message):
        write_facts(store, other)
    write_facts(store, FACTS)


def test_a_split_of_another_corpus_version_is_refused(store):
    with pytest.raises(CheckpointError, match="other utterances or another version of the corpus"):
        write_split_facts(store / "test", SplitFacts(IDS, split_fingerprint(IDS, np.arange(1, 8)), (0, 3, 4, 7)))


def test_a_folder_with_other_things_is_refused(tmp_path):
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(CheckpointError, match="holds something else than a store"):
        write_facts(tmp_path, FACTS)
    with pytest.raises(CheckpointError, match=r"store\.json: no such file; .* is not a finished store"):
        Store(tmp_path)
    (tmp_path / "store.json").write_text(json.dumps({"corpus": "a", "source": {}}))
    with pytest.raises(CheckpointError, match=r"store\.json: is incomplete"):
        Store(tmp_path)


def test_a_failed_shard_leaves_nothing_behind(store):
    facts = SplitFacts(IDS, "other", (0, 3, 4, 7))
    (store / "dev").mkdir()

    def failing():
        yield values(0)
        raise OSError(28, "No space left on device")

    with pytest.raises(EmojaxError, match="No space left on device"):
        write_shard(store / "dev", facts, 0, failing(), SPECS)
    assert list((store / "dev").iterdir()) == []
    leftover = store / "dev" / f".{facts.shard_name(0)}.99.tmp"
    leftover.write_bytes(b"part")
    remove_leftovers(store / "dev", facts, 0)
    assert not leftover.exists()


def test_fingerprints_tell_order_and_length_apart():
    prints = {
        split_fingerprint(("a", "b"), np.array([1, 2])),
        split_fingerprint(("b", "a"), np.array([1, 2])),
        split_fingerprint(("a", "b"), np.array([2, 1])),
        split_fingerprint(("ab",), np.array([1, 2])),
    }
    assert len(prints) == 4
