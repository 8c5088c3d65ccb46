"""Utterances of a TFDS data source, decoded as our schema needs it: several times faster than TFDS's general way."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from emojax.errors import CorpusError, reason

_TEXTS = ("id", "transcript", "speaker", "gender")
_VECTORS = ("attributes", "attributes_std", "emotion_votes")


def read_utterances(source: Any, indices: Sequence[int], place: str, audio: bool = True) -> list[dict[str, Any]]:
    """Reads utterances by their positions.

    Args:
      source: data source from `open_split`.
      indices: positions in it.
      place: what to call it in messages, e.g. `corpus.place(split)`.
      audio: whether to take the audio.

    Returns:
      For each the features of the schema: texts as str, vectors as float32, `audio` as int16.

    Raises:
      CorpusError: an utterance cannot be read; the message names the place and the positions.
    """
    from tensorflow_datasets.proto import tf_example_pb2

    if not indices:  # a host whose part of the last batch is empty; array_record refuses an empty list
        return []
    try:
        records = source.data_source.__getitems__(indices)
        return [_decoded(tf_example_pb2.Example.FromString(record).features.feature, audio) for record in records]
    except Exception as error:  # array_record and protobuf raise many kinds for damaged shards
        first, last = min(indices), max(indices)
        raise CorpusError(f"{place}: examples {first} to {last} cannot be read ({reason(error)})") from error


def _decoded(feature: Any, audio: bool) -> dict[str, Any]:
    utterance: dict[str, Any] = {name: feature[name].bytes_list.value[0].decode() for name in _TEXTS}
    for name in _VECTORS:
        utterance[name] = np.array(feature[name].float_list.value, np.float32)
    utterance["emotion"] = feature["emotion"].int64_list.value[0]
    utterance["duration"] = feature["duration"].float_list.value[0]
    if audio:
        utterance["audio"] = np.frombuffer(feature["audio"].bytes_list.value[0], np.int16)
    return utterance
