"""Stores of a corpus's derived data on disk: hidden states of encoders, outputs of teachers, transcripts."""

from emojax.feature_store.layout import (
    SplitMetadata,
    StoreMetadata,
    check_content,
    split_content,
    write_metadata,
    write_split_metadata,
)
from emojax.feature_store.records import DTYPES, ArraySpec
from emojax.feature_store.shards import JoinedSplits, Store, StoredSplit, write_shard
from emojax.feature_store.sources import OUTPUTS, STATES, StatesSource, TeacherSource, parse_source, single_array
from emojax.feature_store.transcripts import (
    TranscribedSplit,
    TranscriptSource,
    TranscriptStore,
    read_lines,
    write_lines,
)

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
    "TranscribedSplit",
    "TranscriptSource",
    "TranscriptStore",
    "check_content",
    "parse_source",
    "read_lines",
    "single_array",
    "split_content",
    "write_lines",
    "write_metadata",
    "write_shard",
    "write_split_metadata",
]
