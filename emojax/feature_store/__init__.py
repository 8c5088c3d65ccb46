"""Feature store: arrays per utterance on disk (hidden states of encoders, outputs of teachers)."""

from emojax.feature_store.layout import (
    SplitMetadata,
    StoreMetadata,
    check_content,
    split_content,
    write_metadata,
    write_split_metadata,
)
from emojax.feature_store.records import DTYPES, ArraySpec
from emojax.feature_store.shards import (
    JoinedSplits,
    Store,
    StoredSplit,
    missing_shards,
    remove_leftovers,
    write_shard,
)
from emojax.feature_store.sources import OUTPUTS, STATES, StatesSource, TeacherSource, parse_source, single_array

__all__ = [
    "DTYPES",
    "OUTPUTS",
    "STATES",
    "ArraySpec",
    "JoinedSplits",
    "SplitMetadata",
    "StatesSource",
    "Store",
    "StoreMetadata",
    "StoredSplit",
    "TeacherSource",
    "check_content",
    "missing_shards",
    "parse_source",
    "remove_leftovers",
    "single_array",
    "split_content",
    "write_metadata",
    "write_shard",
    "write_split_metadata",
]
