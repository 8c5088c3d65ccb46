"""Arrays per utterance on disk (encoder states, teachers' outputs), beside the corpus they were computed from."""

from emojax.store.layout import (
    SplitFacts,
    StoreFacts,
    check_content,
    split_content,
    write_facts,
    write_split_facts,
)
from emojax.store.reading import Store, StoredSplit
from emojax.store.records import DTYPES, ArraySpec
from emojax.store.sources import OUTPUTS, STATES, StatesSource, TeacherSource, array_of, source_of
from emojax.store.writing import missing_shards, remove_leftovers, write_shard

__all__ = [
    "DTYPES",
    "OUTPUTS",
    "STATES",
    "ArraySpec",
    "SplitFacts",
    "StatesSource",
    "Store",
    "StoreFacts",
    "StoredSplit",
    "TeacherSource",
    "array_of",
    "check_content",
    "missing_shards",
    "remove_leftovers",
    "source_of",
    "split_content",
    "write_facts",
    "write_shard",
    "write_split_facts",
]
