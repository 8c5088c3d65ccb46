"""Arrays per utterance on disk (encoder states, teachers' outputs), beside the corpus they were computed from."""

from emojax.store.layout import SplitFacts, StoreFacts, split_fingerprint, write_facts, write_split_facts
from emojax.store.reading import Store, StoredSplit
from emojax.store.records import DTYPES, ArraySpec
from emojax.store.writing import missing_shards, remove_leftovers, write_shard

__all__ = [
    "DTYPES",
    "ArraySpec",
    "SplitFacts",
    "Store",
    "StoreFacts",
    "StoredSplit",
    "missing_shards",
    "remove_leftovers",
    "split_fingerprint",
    "write_facts",
    "write_shard",
    "write_split_facts",
]
