"""Arrays per utterance on disk (encoder states, teachers' outputs), beside the corpus they were computed from."""

from emojax.feature_store.layout import (
    SplitMetadata,
    StoreMetadata,
    check_content,
    split_content,
    write_metadata,
    write_split_metadata,
)
from emojax.feature_store.records import DTYPES, ArraySpec
from emojax.feature_store.shards import Store, StoredSplit, missing_shards, remove_leftovers, write_shard
from emojax.feature_store.sources import OUTPUTS, STATES, StatesSource, TeacherSource, array_of, source_of

__all__ = [
    "DTYPES",
    "OUTPUTS",
    "STATES",
    "ArraySpec",
    "SplitMetadata",
    "StatesSource",
    "Store",
    "StoreMetadata",
    "StoredSplit",
    "TeacherSource",
    "array_of",
    "check_content",
    "missing_shards",
    "remove_leftovers",
    "source_of",
    "split_content",
    "write_metadata",
    "write_shard",
    "write_split_metadata",
]
